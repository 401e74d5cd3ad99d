"""The funnel of a corpus: what each rule saw and removed, and what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from minicoder.data.mixture import SHARES
from minicoder.data.sources import NOT_SAMPLED, Document, Dropped

EXCERPT = 300           # characters of a sample
SAMPLES = 3             # of each rule
MOST_NAMES = 5000       # origins (or languages, licences) that are counted by name
OTHERS = "others"


def size(document: Document) -> int:
    """Bytes of UTF-8."""
    return len(document.text.encode())


def removed(document: Document, rule: str, reason: str) -> Dropped:
    """The note that stays of a document that a rule removed."""
    return Dropped(rule, document.path, size(document), document.text[:EXCERPT], reason)


@dataclass
class Count:
    """Documents and their bytes."""

    documents: int = 0
    bytes: int = 0

    def add(self, bytes: int) -> None:
        self.documents += 1
        self.bytes += bytes


@dataclass
class Gone(Count):
    """What one rule removed, with its first samples."""

    samples: list[dict[str, str]] = field(default_factory=list)


class Funnel:
    """A `Note` that counts what each rule removes; `keep` counts what is left.

    Memory does not grow with the corpus: of a rule a few samples stay, and a crawl's
    origins beyond the first thousands are counted together.
    """

    def __init__(self, order: Sequence[tuple[str, str]]) -> None:
        """`order`: the rules that act, as (name, reason), in the order of acting."""
        self.why = dict(order)
        self.gone: dict[str, Gone] = {}
        self.kept = {kind: Count() for kind in SHARES}
        self.heldout = {kind: Count() for kind in SHARES}
        self.by_origin: dict[tuple[str, str], tuple[Count, str]] = {}
        self.languages: dict[str, Count] = {}
        self.licences: dict[str, Count] = {}

    def __call__(self, one: Dropped) -> None:
        """Count what a rule removed."""
        gone = self.gone.setdefault(one.rule, Gone())
        gone.add(one.bytes)
        if len(gone.samples) < SAMPLES:
            gone.samples.append({"path": one.path, "excerpt": one.excerpt[:EXCERPT],
                                 "reason": one.reason[:EXCERPT]})

    def keep(self, one: Document, heldout: bool) -> None:
        """Count a document that is left: "kept" counts the held-out ones as well."""
        bytes = size(one)
        self.kept[one.kind].add(bytes)
        if heldout:
            self.heldout[one.kind].add(bytes)
        for counts, name in ((self.languages, one.language),
                             (self.licences, one.licence)):
            name = name if name in counts or len(counts) < MOST_NAMES else OTHERS
            counts.setdefault(name, Count()).add(bytes)
        key, licence = (one.origin, one.kind), one.licence
        if key not in self.by_origin and len(self.by_origin) >= MOST_NAMES:
            key, licence = (OTHERS, one.kind), "various"
        counted, licence = self.by_origin.setdefault(key, (Count(), licence))
        counted.add(bytes)
        if one.licence not in (licence, "unknown"):     # a repository may have several
            self.by_origin[key] = counted, ("various" if licence != "unknown"
                                            else one.licence)

    def rules(self) -> list[dict[str, object]]:
        """One entry for each rule in force, and for any other that removed something.

        The sources' own rules are the first; one that is unknown must be a source's.
        """
        acted = [name for name in self.gone if name not in self.why | {NOT_SAMPLED: ""}]
        why = dict.fromkeys(acted, "a rule of the source") | self.why
        counts = [*(self.gone.get(rule, Gone()) for rule in why), *self.kept.values()]
        left = Count(sum(one.documents for one in counts),
                     sum(one.bytes for one in counts))
        rules = []
        for (rule, reason), gone in zip(why.items(), counts, strict=False):
            rules.append({
                "rule": rule, "why": reason,
                "documents_in": left.documents, "bytes_in": left.bytes,
                "documents_removed": gone.documents, "bytes_removed": gone.bytes,
                "example": next(iter(gone.samples), None), "samples": gone.samples})
            left = Count(left.documents - gone.documents, left.bytes - gone.bytes)
        return rules

    def origins(self) -> dict[str, dict[str, str | int]]:
        """Documents and bytes of each origin, with its kind and licence."""
        found: dict[str, dict[str, str | int]] = {}
        for (origin, kind), (counted, licence) in self.by_origin.items():
            name = f"{origin} ({kind})" if origin in found else origin
            found[name] = {"kind": kind, **vars(counted), "licence": licence}
        return found

    def report(self) -> dict[str, object]:
        """What funnel.json holds.

        "not_sampled" are files that the limits on bytes left unread.
        """
        def plain(counts: dict[str, Count]) -> dict[str, dict[str, int]]:
            return {name: dict(vars(one)) for name, one in counts.items()}

        unread = self.gone.get(NOT_SAMPLED, Gone())
        return {"rules": self.rules(), "kept": plain(self.kept),
                "by_origin": self.origins(), "by_language": plain(self.languages),
                "licences": plain(self.licences), "heldout": plain(self.heldout),
                "not_sampled": {"documents": unread.documents, "bytes": unread.bytes}}
