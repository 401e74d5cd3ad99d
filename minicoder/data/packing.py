"""The pack stage: documents become rows of tokens that a training step reads as is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from minicoder.data.corpus import read_documents
from minicoder.data.fim import Cut, fim_pieces, fim_tokens
from minicoder.data.mixture import SHARES, Mixture, passes
from minicoder.data.pieces import Part, encode_part
from minicoder.errors import UserError
from minicoder.progress import progress
from minicoder.stages import clear, read_json, stage, write_json
from minicoder.tokenizer import Tokenizer

ROWS = "train.bin"
REPORT = "pack.json"
FIM_ROOM = 32       # tokens left in a row below which a piece is not shuffled
FIM_LONGEST = 88    # tokens of a shuffled piece: short ones teach more often
FIM_SPARE = 14      # five specials, and what cuts inside words may add


@dataclass
class Packer:
    """Fill rows: every piece opens with BOS, a FIM piece and a document end in EOS."""

    parts: dict[str, Part]
    mixture: Mixture
    tokenizer: Tokenizer
    fim_rate: float
    rng: np.random.Generator
    cut: Cut = "line"
    fim_count: int = 0      # tokens in FIM pieces

    def fim(self, tokens: list[int], room: int) -> list[int] | None:
        """The piece as prefix, suffix, middle, or None if it does not fit or decode."""
        try:
            text = self.tokenizer.decode_bytes(tokens).decode("utf-8")
        except UnicodeDecodeError:      # a very long line was cut inside a character
            return None
        piece = [self.tokenizer.bos, *fim_tokens(
            *fim_pieces(text, self.rng, self.cut), self.tokenizer)]
        return piece if len(piece) <= room else None

    def piece(self, kind: str, room: int) -> list[int]:
        """The next piece of a kind, at most `room` tokens with all its specials."""
        shuffled = (kind == "code" and room >= FIM_ROOM
                    and self.rng.random() < self.fim_rate)
        room = min(room, FIM_LONGEST) if shuffled else room
        tokens, ended = self.parts[kind].take(
            room - FIM_SPARE if shuffled else room - 1, shuffled)
        if shuffled and (piece := self.fim(tokens, room)):
            self.fim_count += len(piece)
            return piece
        return [self.tokenizer.bos, *tokens, *[self.tokenizer.eos] * ended][:room]

    def row(self, length: int) -> list[int]:
        """A row of `length` tokens: pieces by the mixture."""
        row: list[int] = []
        while len(row) < length:
            kind = self.mixture.next()
            piece = self.piece(kind, length - len(row))
            self.mixture.add(kind, len(piece))
            row += piece
        return row


def training_texts(corpus: Path) -> dict[str, list[str]]:
    """The texts of each kind; `UserError` when one is missing."""
    texts: dict[str, list[str]] = {kind: [] for kind in SHARES}
    for document in read_documents(corpus, "train"):
        texts[document.kind].append(document.text)
    for kind, found in texts.items():
        if not found:
            raise UserError(f"{corpus} holds no {kind}, so the tokens cannot be mixed "
                            "60/10/30 from code, math and text.")
    return texts


def make_parts(
    texts: dict[str, list[str]], tokenizer: Tokenizer, tokens: int, longest: int,
    rng: np.random.Generator,
) -> dict[str, Part]:
    """One stream of pieces for each kind of document."""
    newline = np.array([tokenizer.decode_bytes([token]).endswith(b"\n")
                        for token in range(tokenizer.vocab_size)])
    parts = {}
    for kind, found in texts.items():
        documents = encode_part(found, tokenizer, tokens * SHARES[kind], rng)
        ends = [np.flatnonzero(newline[ids]) + 1 for ids in documents]
        parts[kind] = Part(documents, ends, longest, rng)
    return parts


def check(sequence_length: int, tokens: int, fim_rate: float) -> None:
    """Raise `UserError` for settings that make no row."""
    if sequence_length < FIM_ROOM or tokens <= sequence_length:
        raise UserError(f"--sequence-length {sequence_length} must be at least "
                        f"{FIM_ROOM} and below --tokens {tokens}.")
    if not 0 <= fim_rate <= 1:
        raise UserError(f"--fim-rate {fim_rate} must lie between 0 and 1.")


def pack(
    out: Path, corpus: Path, tokenizer: Path, sequence_length: int = 128,
    tokens: int = 2_500_000, fim_rate: float = 0.5, cut: Cut = "line",
    seed: int = 0,
) -> Path:
    """Cut documents into pieces, shuffle some for infilling, fill rows with them.

    Documents are cut at ends of lines into pieces that fit a row, and a row is filled
    by pieces 60/10/30 from code, math and text; the last piece is cut to fill it and
    goes on in another row, so nothing is padded or lost. Coder-V2 §3.1 shuffles half
    of the documents before packing. Here a piece counts as a document, because files
    are longer than a row, and only code is shuffled, because only code is infilled.
    Raises `UserError` when the corpus lacks a kind.

    Args:
        out: folder for train.bin, (rows, sequence_length + 1) ids, and pack.json.
        corpus: folder of the corpus stage.
        tokenizer: folder of the tokenizer stage.
        sequence_length: tokens that the model reads at once.
        tokens: how many to draw; what is too small is repeated.
        fim_rate: probability that a piece of code is shuffled.
        cut: whether what is to be filled in is whole lines or any characters.
        seed: decides order, cuts and shuffles.
    """
    settings = dict(corpus=corpus, tokenizer=tokenizer, tokens=tokens,
                    sequence_length=sequence_length, fim_rate=fim_rate,
                    cut=cut)
    check(sequence_length, tokens, fim_rate)
    with stage(out, "pack", settings, [corpus, tokenizer], seed) as run:
        if run.finished:
            return out
        clear(run.work)
        report = write_rows(run.work, corpus, Tokenizer.load(tokenizer),
                            sequence_length, tokens, fim_rate, cut, seed)
        shares = ", ".join(f"{k} {v:.1%}" for k, v in report["shares"].items())
        run.headline = f"{sum(report['tokens'].values()):,} tokens: {shares}"
    return out


def write_rows(
    work: Path, corpus: Path, tokenizer: Tokenizer, sequence_length: int, tokens: int,
    fim_rate: float, cut: Cut, seed: int,
) -> dict[str, object]:
    """Write the rows and pack.json, and return what it says."""
    rng, length = np.random.default_rng(seed), sequence_length + 1
    texts = training_texts(corpus)
    parts = make_parts(texts, tokenizer, tokens, sequence_length, rng)
    rows = -(-tokens // length)
    packer = Packer(parts, Mixture(), tokenizer, fim_rate, rng, cut)
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    with (work / ROWS).open("wb") as file:
        for _ in progress(range(rows), "pack", "row"):
            file.write(np.array(packer.row(length), dtype).tobytes())
    drawn = packer.mixture.drawn
    available = {kind: sum(map(len, part.documents)) for kind, part in parts.items()}
    report = {
        "tokens": drawn, "shares": packer.mixture.shares(),
        "passes": passes(available, sum(drawn.values())),
        "sequence_length": sequence_length, "sequences": rows,
        "dtype": dtype.str, "vocab_size": tokenizer.vocab_size,
        "fim_rate": fim_rate, "fim_share": packer.fim_count / drawn["code"]}
    write_json(work / REPORT, report)
    return report


class Shards:
    """The rows of a packed corpus, memory-mapped.

    Raises `UserError` when train.bin has not the size that pack.json promises.
    """

    def __init__(self, folder: Path) -> None:
        file, about = Path(folder) / ROWS, read_json(Path(folder) / REPORT)
        try:
            shape = int(about["sequences"]), int(about["sequence_length"]) + 1
            dtype = np.dtype(about["dtype"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder}/{REPORT} is broken: {error}.") from None
        found = file.stat().st_size if file.exists() else 0
        if found != shape[0] * shape[1] * dtype.itemsize or not found:
            raise UserError(f"{file} has {found} bytes, and {REPORT} speaks of "
                            f"{shape[0] * shape[1] * dtype.itemsize}: pack again.")
        self.sequence_length = shape[1] - 1
        self.rows = np.memmap(file, dtype, "r", shape=shape)
        self.order = (-1, -1, np.empty(0, np.int64))    # seed, epoch, permutation

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, place: int, seed: int) -> int:
        """Which row comes at a place of the endless order; each epoch has its own."""
        epoch, within = divmod(place, len(self))
        if self.order[:2] != (seed, epoch):
            order = np.random.default_rng((seed, epoch)).permutation(len(self))
            self.order = (seed, epoch, order)
        return int(self.order[2][within])

    def batch(
        self, step: int, batch_size: int, seed: int = 0
    ) -> Int64[torch.Tensor, "B row"]:
        """The rows of a step: a pure function of its arguments, so that a resumed run
        needs no state of the loader. Inputs are `[:, :-1]`, targets `[:, 1:]`."""
        places = range(step * batch_size, (step + 1) * batch_size)
        chosen = [self.row(place, seed) for place in places]
        return torch.from_numpy(self.rows[chosen].astype(np.int64))
