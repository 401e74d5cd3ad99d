"""The one kind of error that is meant for the person at the keyboard."""


class UserError(Exception):
    """A mistake that the reader of the message can mend.

    The message is one or two sentences that name the file, the field, the value found
    and the values allowed. The command line prints it and exits with status 2.
    """


def at_least(least: int, **values: int | float) -> None:
    """Raise `UserError` for the first setting that is below `least`."""
    for name, value in values.items():
        if not value >= least:
            raise UserError(f"--{name.replace('_', '-')} {value} must be {least} or "
                            "more.")
