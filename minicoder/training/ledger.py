"""How many tokens a model has read, of which source: 4.2T + 6T = 10.2T in small.

The ledger lies beside the weights and goes with them: a run that starts from a
checkpoint begins with what is written there. Coder-V2 §3: 6T tokens after the 4.2T of
an intermediate DeepSeek-V2 checkpoint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minicoder.errors import UserError
from minicoder.stages import read_json, write_json

FILE = "ledger.json"


class Ledger:
    """Tokens by phase and source; a phase is one run of a training stage.

    Only tokens of the packed rows count: needles and lines to fill in are made of
    these. What a skipped step has read counts too, and the step is counted as skipped.
    """

    def __init__(self, phase: str = "", start: Path | None = None) -> None:
        """Begin a phase, after those of the checkpoint folder `start`.

        Raises `UserError` when the ledger there is broken; without one the tokens
        before are not known, and that is said.
        """
        self.phases: list[dict[str, Any]] = []
        if start is not None and (start / FILE).exists():
            self.restore(read_json(start / FILE), str(start / FILE))
        elif start is not None:
            print(f"{start} has no {FILE}: what it has read before is not counted.")
        self.phases.append({"phase": phase, "steps": 0, "skipped": 0, "tokens": {}})

    def add(self, tokens: Mapping[str, int], skipped: bool = False) -> None:
        """Note a step of the last phase."""
        now = self.phases[-1]
        now["steps"] += 1
        now["skipped"] += skipped
        now["tokens"] = dict(Counter(now["tokens"]) + Counter(tokens))

    @property
    def tokens(self) -> dict[str, int]:
        """Tokens by source, of all phases."""
        return dict(sum((Counter(p["tokens"]) for p in self.phases), Counter()))

    @property
    def total(self) -> int:
        """Tokens of all phases and sources."""
        return sum(self.tokens.values())

    def state(self) -> dict[str, Any]:
        """What `ledger.json` says."""
        return {"total": self.total, "tokens": self.tokens, "phases": self.phases}

    def restore(self, state: dict[str, Any], name: str = FILE) -> None:
        """Take over what a ledger says; `UserError` when its sums are wrong."""
        before, self.phases = self.phases, state.get("phases", [])
        try:
            sums = {"total": self.total, "tokens": self.tokens}
            if not all({"phase", "steps", "skipped", "tokens"} <= p.keys()
                       for p in self.phases):
                raise ValueError("a phase lacks a field")
            if sums != {key: state.get(key) for key in sums}:
                raise ValueError(f"its phases sum up to {sums['total']} tokens")
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            self.phases = before
            raise UserError(f"{name} is no ledger of tokens: {error}.") from None

    def save(self, folder: Path) -> None:
        """Write `ledger.json` into a checkpoint folder."""
        write_json(folder / FILE, self.state())
