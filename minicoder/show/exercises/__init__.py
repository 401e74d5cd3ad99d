"""The exercises of the lessons, one module a lesson; importing this registers all."""

from minicoder.show.exercises import inference, mla, model, moe, tour  # noqa: F401
