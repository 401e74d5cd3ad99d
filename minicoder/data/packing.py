"""The pack stage: documents become rows of tokens that a training step reads as is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from minicoder.data.corpus import iterate_documents
from minicoder.data.fim import Cut, Order, fim_pieces, fim_tokens
from minicoder.data.mixture import Mixture, passes
from minicoder.data.pieces import Part, Unit, store
from minicoder.data.shards import FILE_BYTES, REPORT, RowWriter, Shards
from minicoder.errors import UserError
from minicoder.progress import progress
from minicoder.stages import clear, stage, write_json
from minicoder.tokenizer import Tokenizer

__all__ = ["Packer", "Shards", "pack"]

STORE = "documents.tmp"     # the corpus as tokens, while the stage works
FIM_ROOM = 32       # tokens left in a row below which a piece is not shuffled
FIM_LONGEST = 88    # tokens of a shuffled piece: short ones teach more often
FIM_SPARE = 14      # five specials, and what cuts inside words may add


@dataclass
class Packer:
    """Fill rows: every text opens with BOS, a FIM piece and a document end in EOS."""

    parts: dict[str, Part]
    mixture: Mixture
    tokenizer: Tokenizer
    fim_rate: float
    rng: np.random.Generator
    longest: int = 128      # tokens of a piece, at most
    cut: Cut = "line"
    order: Order = "psm"
    fim_kinds: tuple[str, ...] = ("code",)
    fim_count: int = 0      # tokens in FIM pieces
    could: int = 0          # tokens in pieces of `fim_kinds`

    def fim(self, tokens: list[int]) -> list[int] | None:
        """The text of `tokens`, shuffled, or None if they do not decode."""
        try:
            text = self.tokenizer.decode_bytes(tokens).decode("utf-8")
        except UnicodeDecodeError:      # a very long line was cut inside a character
            return None
        return [self.tokenizer.bos, *fim_tokens(
            *fim_pieces(text, self.rng, self.cut), self.tokenizer, self.order)]

    def count(self, kind: str, piece: list[int], shuffled: bool) -> list[int]:
        """Note for the report what a piece is; returns it."""
        self.could += len(piece) * (kind in self.fim_kinds)
        self.fim_count += len(piece) * shuffled
        return piece

    def piece(self, kind: str, room: int) -> list[int]:
        """The next piece of a kind, at most `room` tokens with all its specials."""
        shuffled = (kind in self.fim_kinds and room >= FIM_ROOM
                    and self.rng.random() < self.fim_rate)
        room = min(room, FIM_LONGEST) if shuffled else room
        tokens, ended = self.parts[kind].take(
            room - FIM_SPARE if shuffled else room - 1, shuffled, self.longest)
        found = self.fim(tokens) if shuffled else None
        if found and len(found) <= room:
            return self.count(kind, found, True)
        plain = [self.tokenizer.bos, *tokens, *[self.tokenizer.eos] * ended]
        return self.count(kind, plain[:room], False)

    def documents(self, kind: str) -> Iterator[int]:
        """The tokens of whole documents of a kind, one after the other, endlessly."""
        while True:
            tokens = self.parts[kind].document()
            shuffled = kind in self.fim_kinds and self.rng.random() < self.fim_rate
            found = self.fim(tokens) if shuffled else None
            yield from self.count(kind, found or [
                self.tokenizer.bos, *tokens, self.tokenizer.eos], bool(found))

    def rows_of_pieces(self, length: int) -> Iterator[tuple[list[int], dict[str, int]]]:
        """Rows filled by pieces of the mixture, and their tokens by kind."""
        while True:
            row, counts = [], dict.fromkeys(self.parts, 0)
            while len(row) < length:
                kind = self.mixture.next()
                piece = self.piece(kind, length - len(row))
                self.mixture.add(kind, len(piece))
                counts[kind] += len(piece)
                row += piece
            yield row, counts

    def rows_of_documents(self, length: int
                          ) -> Iterator[tuple[list[int], dict[str, int]]]:
        """Rows cut from the documents of one kind each; the mixture picks the kind.

        A document that does not end in its row goes on in the next of its kind.
        """
        streams = {kind: self.documents(kind) for kind in self.parts}
        while True:
            kind = self.mixture.next()
            self.mixture.add(kind, length)
            counts = dict.fromkeys(self.parts, 0) | {kind: length}
            yield list(islice(streams[kind], length)), counts


def make_parts(corpus: Path, tokenizer: Tokenizer, unit: Unit, longest: int, seed: int,
               folder: Path, shares: dict[str, float]) -> dict[str, Part]:
    """One stream of units for each kind; `UserError` when the corpus lacks one."""
    parts = {}
    for number, kind in enumerate(shares):
        (folder / kind).mkdir(parents=True)
        documents = iterate_documents(corpus, "train", [kind])
        part = store(progress(documents, f"encode {kind}", "doc"), tokenizer,
                     folder / kind, unit, longest, (seed, number))
        if part is None:
            raise UserError(f"{corpus} holds no {kind}, so the tokens cannot be mixed "
                            f"as {shares}.")
        parts[kind] = part
    return parts


def check(sequence_length: int, tokens: int, fim_rate: float, code: float, math: float,
          ) -> dict[str, float]:
    """The shares of the kinds; `UserError` for settings that make no row."""
    if sequence_length < FIM_ROOM or tokens <= sequence_length:
        raise UserError(f"--sequence-length {sequence_length} must be at least "
                        f"{FIM_ROOM} and below --tokens {tokens}.")
    if not 0 <= fim_rate <= 1:
        raise UserError(f"--fim-rate {fim_rate} must lie between 0 and 1.")
    shares = {"code": code, "math": math, "text": round(1 - code - math, 9)}
    if not all(0 <= share <= 1 for share in shares.values()):
        raise UserError(f"--code {code} and --math {math} must be shares of 1; text "
                        "gets what they leave.")
    return {kind: share for kind, share in shares.items() if share}


def pack(
    out: Path, corpus: Path, tokenizer: Path, sequence_length: int = 128,
    tokens: int = 2_500_000, unit: Unit = "piece", fim_rate: float = 0.5,
    cut: Cut = "line", order: Order = "psm", fim_all: bool = False,
    code: float = 0.6, math: float = 0.1, seed: int = 0,
) -> Path:
    """Shuffle some texts for infilling, and fill rows with texts, 60/10/30 by tokens.

    With `unit` "document", as in Coder-V2 §3.1, half of the documents are shuffled and
    then all are put one after the other and cut by rows; files of one repository-level
    sample are joined before, and a row has documents of one kind. With "piece",
    documents are first cut at ends of lines into pieces that fit a row and count as
    documents: for models that read less than a file at once. A row then has all kinds
    and opens with BOS, and its last piece is cut to fill it and goes on in another.
    Nothing is padded or lost. Open in the paper, and chosen here: only code is shuffled
    (unless `fim_all`); prefix and suffix count in the loss like the middle. Memory does
    not grow with the corpus. Raises `UserError` when it lacks a kind.

    Args:
        out: folder for train.bin, (rows, sequence_length + 1) ids, further files of
            rows if large, sources.bin, (rows, kinds) counts, and pack.json.
        corpus: folder of the corpus stage.
        tokenizer: folder of the tokenizer stage.
        sequence_length: tokens that the model reads at once.
        tokens: how many to draw; what is too small is repeated.
        unit: what is shuffled and drawn.
        fim_rate: probability that a unit of code is shuffled.
        cut: whether what is to be filled in is whole lines or any characters.
        order: where the suffix stands in shuffled units: before the middle, or first.
        fim_all: shuffle units of math and text as well.
        code: share of code in the tokens.
        math: share of math; text gets the rest.
        seed: decides order, cuts and shuffles.
    """
    settings = dict(corpus=corpus, tokenizer=tokenizer, tokens=tokens,
                    sequence_length=sequence_length, unit=unit, fim_rate=fim_rate,
                    cut=cut, order=order, fim_all=fim_all, code=code, math=math)
    shares = check(sequence_length, tokens, fim_rate, code, math)
    with stage(out, "pack", settings, [corpus, tokenizer], seed) as run:
        if run.finished:
            return out
        clear(run.work)
        words, stored = Tokenizer.load(tokenizer), run.work / STORE
        parts = make_parts(corpus, words, unit, sequence_length, seed, stored, shares)
        packer = Packer(parts, Mixture(shares), words, fim_rate,
                        np.random.default_rng(seed), sequence_length, cut, order,
                        tuple(shares) if fim_all else ("code",))
        report = write_rows(run.work, packer, unit, sequence_length, tokens)
        shutil.rmtree(stored)
        mixed = ", ".join(f"{k} {v:.1%}" for k, v in report["shares"].items())
        run.headline = f"{sum(report['tokens'].values()):,} tokens: {mixed}"
    return out


def write_rows(
    work: Path, packer: Packer, unit: Unit, sequence_length: int, tokens: int,
    file_bytes: int = FILE_BYTES,
) -> dict[str, object]:
    """Write the rows and pack.json, and return what it says."""
    length, words = sequence_length + 1, packer.tokenizer
    total = -(-tokens // length)
    rows = (packer.rows_of_documents if unit == "document" else
            packer.rows_of_pieces)(length)
    dtype = np.dtype("<u2" if words.vocab_size <= 1 << 16 else "<u4")
    writer = RowWriter(work, length, dtype, file_bytes)
    for row, counts in progress(islice(rows, total), "pack", "row", total):
        writer.write(row, list(counts.values()))
    drawn = packer.mixture.drawn
    available = {kind: len(part.tokens) for kind, part in packer.parts.items()}
    report = {
        "tokens": drawn, "shares": packer.mixture.shares(),
        "passes": passes(available, sum(drawn.values()), packer.mixture.aims),
        "sequence_length": sequence_length, "sequences": total, "unit": unit,
        "dtype": dtype.str, "vocab_size": words.vocab_size, "bos": words.bos,
        "sources": list(packer.parts), "files": writer.close(),
        "fim_rate": packer.fim_rate, "order": packer.order,
        "fim_share": packer.fim_count / max(packer.could, 1)}
    write_json(work / REPORT, report)
    return report
