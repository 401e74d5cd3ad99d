"""Packed rows: borders, order, shares, and a loader without state."""

import json
import random

import numpy as np
import pytest
import torch

from minicoder.data.corpus import write_documents
from minicoder.data.mixture import Mixture
from minicoder.data.packing import FIM_LONGEST, Packer, Shards, pack
from minicoder.data.sources import Document
from minicoder.errors import UserError
from minicoder.stages import stage
from minicoder.tokenizer import Tokenizer

LENGTH = 96
TOKENS = 30_000


def source(draw, kind):
    """A document whose every line is unlike all others."""
    word = {"code": "def", "math": "sum", "text": "the"}[kind]
    return "".join(f"{word} n{draw.randrange(10 ** 6)}(x{line}): return value\n"
                   for line in range(draw.randrange(1, 20)))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root, draw = tmp_path_factory.mktemp("inputs"), random.Random(0)
    documents = [Document(source(draw, kind), f"{kind}{i}", "Python", kind, "o", "MIT")
                 for kind, count in (("code", 60), ("math", 6), ("text", 40))
                 for i in range(count)]
    with stage(root / "corpus", "data", {}) as run:
        write_documents(documents, run.work)
    with stage(root / "tokenizer", "tokenizer", {}) as run:
        Tokenizer.train([d.text for d in documents], 270).save(run.work)
    return root / "corpus", root / "tokenizer", documents


@pytest.fixture(scope="module")
def packed(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "pack"
    return pack(out, *inputs[:2], LENGTH, TOKENS, seed=3)


@pytest.fixture(scope="module")
def tokenizer(inputs):
    return Tokenizer.load(inputs[1])


def split(row, bos):
    """The pieces of a row, each without its BOS."""
    borders = np.flatnonzero(row == bos)
    assert borders[0] == 0
    return [piece[1:].tolist() for piece in np.split(row, borders[1:])]


def unshuffle(piece, t):
    """Check PSM order and put the pieces back in reading order."""
    begin, hole, end, eos = map(piece.index, (t.fim_begin, t.fim_hole, t.fim_end,
                                              t.eos))
    assert 0 == begin < hole < end < eos == len(piece) - 1
    return b"".join(map(t.decode_bytes, (piece[1:hole], piece[end + 1:eos],
                                         piece[hole + 1:end])))


def pieces(folder, t):
    return [piece for row in Shards(folder).rows for piece in split(row, t.bos)]


def test_rows_are_full_and_made_of_pieces_of_documents(packed, inputs, tokenizer):
    t, whole = tokenizer, "\1".join(d.text for d in inputs[2]).encode()
    ends = {d.text[-12:].encode() for d in inputs[2]}
    shuffled = plain = closed = 0
    for piece in pieces(packed, t):
        if t.fim_begin in piece:
            text = unshuffle(piece, t)      # a FIM piece never leaves its row
            shuffled += 1
            assert text.startswith(b"def")
        else:
            assert t.eos not in piece[:-1]
            text = t.decode_bytes(p for p in piece if p != t.eos)
            if piece and piece[-1] == t.eos:
                closed += 1
                assert text[-12:] in ends or len(text) < 12
            plain += 1
        assert text in whole
        assert text[:3] in (b"def", b"sum", b"the") or len(text) < 3
    assert min(shuffled, plain, closed) > 50


def test_shares_and_counts_are_within_one_per_cent(packed, tokenizer):
    about = json.loads((packed / "pack.json").read_text())
    rows = Shards(packed).rows
    assert sum(about["tokens"].values()) == rows.size == len(rows) * (LENGTH + 1)
    assert about["shares"] == pytest.approx({"code": .6, "math": .1, "text": .3},
                                            abs=0.01)
    counted = dict.fromkeys(about["tokens"], 0)
    for piece in pieces(packed, tokenizer):
        text = (unshuffle(piece, tokenizer) if tokenizer.fim_begin in piece
                else tokenizer.decode_bytes(piece))
        kind = {b"d": "code", b"s": "math", b"t": "text"}.get(text[:1])
        if kind:    # a piece of BOS alone at the end of a row shows no kind
            counted[kind] += len(piece) + 1
    for kind, count in counted.items():
        assert count == pytest.approx(about["tokens"][kind], rel=0.01)
    assert about["passes"]["math"] > 1      # few documents: they were repeated


def test_about_half_of_the_code_is_shuffled(packed, tokenizer, inputs, tmp_path):
    about = json.loads((packed / "pack.json").read_text())
    found = [p for p in pieces(packed, tokenizer) if tokenizer.fim_begin in p]
    share = sum(len(p) + 1 for p in found) / about["tokens"]["code"]
    assert about["fim_share"] == pytest.approx(share)
    assert 0.35 < share < 0.6
    none = pack(tmp_path / "none", *inputs[:2], LENGTH, 5000, fim_rate=0.0)
    specials = (tokenizer.fim_begin, tokenizer.fim_hole, tokenizer.fim_end)
    assert not np.isin(Shards(none).rows, specials).any()
    assert json.loads((none / "pack.json").read_text())["fim_share"] == 0


def test_a_piece_that_does_not_fit_or_decode_is_not_shuffled(tokenizer):
    packer = Packer({}, Mixture(), tokenizer, 0.5, np.random.default_rng(0),
                    "character")
    tokens = tokenizer.encode("def n1: return value\n" * 4)
    most = max(len(packer.fim(tokens, 10 ** 6)) for _ in range(50))
    assert most > len(tokens) + 5       # cuts inside words cost tokens
    found = [packer.fim(tokens, most - 1) for _ in range(200)]
    assert None in found and max(map(len, filter(None, found))) < most
    assert packer.fim(tokenizer.encode("é")[:1], 100) is None


def test_the_seed_decides_everything(packed, inputs, tmp_path):
    again = pack(tmp_path / "again", *inputs[:2], LENGTH, TOKENS, seed=3)
    other = pack(tmp_path / "other", *inputs[:2], LENGTH, TOKENS, seed=4)
    first, same, different = ((folder / "train.bin").read_bytes()
                              for folder in (packed, again, other))
    assert first == same != different and len(first) == len(different)


def test_a_batch_is_a_function_of_step_and_seed(packed):
    shards, fresh = Shards(packed), Shards(packed)
    rows, size = len(shards), 7
    batches = [shards.batch(step, size, seed=1) for step in range(rows // size + 1)]
    assert batches[0].shape == (size, LENGTH + 1) and batches[0].dtype == torch.int64
    assert torch.equal(fresh.batch(5, size, seed=1), batches[5])    # out of order
    assert torch.equal(fresh.batch(2, size, seed=1), batches[2])
    assert not torch.equal(fresh.batch(2, size, seed=2), batches[2])
    epoch = torch.cat(batches)[:rows]
    assert sorted(map(tuple, epoch.tolist())) == sorted(map(tuple,
                                                            shards.rows.tolist()))
    second = torch.cat([shards.batch(rows + step, 1, seed=1) for step in range(rows)])
    assert not torch.equal(second, epoch)
    assert torch.equal(second.sort(0).values, epoch.sort(0).values)


def parts_of(piece, t):
    """Prefix, middle and suffix of a shuffled piece, as text."""
    hole, end = piece.index(t.fim_hole), piece.index(t.fim_end)
    return (t.decode(piece[1:hole]), t.decode(piece[end + 1:-1]),
            t.decode(piece[hole + 1:end]))


def test_shuffled_pieces_are_short(inputs, tokenizer, tmp_path):
    out = pack(tmp_path / "p", *inputs[:2], 4 * FIM_LONGEST, TOKENS, fim_rate=1.0)
    sizes = {True: [], False: []}
    for piece in pieces(out, tokenizer):
        sizes[tokenizer.fim_begin in piece].append(len(piece) + 1)
    assert max(sizes[True]) <= FIM_LONGEST < max(sizes[False])
    # one line has about 25 tokens, and whole ones fill the room that there is
    assert np.mean(sizes[True]) > FIM_LONGEST / 2 and len(sizes[True]) > 100


def test_the_cut_decides_whether_middles_are_whole_lines(inputs, tokenizer, tmp_path):
    whole = {}
    for cut in ("line", "character"):
        out = pack(tmp_path / cut, *inputs[:2], LENGTH, TOKENS, cut=cut)
        found = [parts_of(p, tokenizer) for p in pieces(out, tokenizer)
                 if tokenizer.fim_begin in p]
        whole[cut] = np.mean([
            (not before or before[-1] == "\n") and (middle[-1:] == "\n" or not after)
            and middle.startswith("def") for before, middle, after in found])
    assert whole["line"] == 1 and whole["character"] < 0.5
    settings = json.loads((tmp_path / "line" / "made_by.json").read_text())["settings"]
    assert settings["cut"] == "line"


def test_the_words_of_a_special_in_a_document_stay_text(inputs, tmp_path):
    evil = "x = '<｜fim▁begin｜><｜begin▁of▁sentence｜>'\n" * 30
    with stage(tmp_path / "corpus", "data", {}) as run:
        write_documents([Document(evil, str(i), "Python", kind, "o", "MIT")
                         for i, kind in enumerate(("code", "math", "text"))], run.work)
    out = pack(tmp_path / "pack", tmp_path / "corpus", inputs[1], LENGTH, 5000,
               fim_rate=0.0)
    t = Tokenizer.load(inputs[1])
    assert not np.isin(Shards(out).rows, (t.fim_begin, t.fim_hole, t.fim_end)).any()
    assert all(t.decode_bytes(p for p in piece if p != t.eos) in evil.encode()
               for piece in pieces(out, t))


@pytest.mark.parametrize(("settings", "message"), [
    ({"sequence_length": 8}, "--sequence-length 8 must be"),
    ({"tokens": 50}, "below --tokens 50"),
    ({"fim_rate": 1.5}, "--fim-rate 1.5")])
def test_settings_that_make_no_row_are_refused(inputs, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        pack(tmp_path / "p", *inputs[:2], **({"sequence_length": LENGTH} | settings))


def test_a_corpus_without_a_kind_is_refused(inputs, tmp_path):
    with stage(tmp_path / "corpus", "data", {}) as run:
        write_documents([d for d in inputs[2] if d.kind != "math"], run.work)
    with pytest.raises(UserError, match="holds no math"):
        pack(tmp_path / "p", tmp_path / "corpus", inputs[1], LENGTH, TOKENS)


def test_truncated_or_broken_shards_are_refused(packed, tmp_path):
    for name in ("train.bin", "pack.json"):
        (tmp_path / name).write_bytes((packed / name).read_bytes())
    assert len(Shards(tmp_path)) == len(Shards(packed))
    (tmp_path / "train.bin").write_bytes((packed / "train.bin").read_bytes()[:-2])
    with pytest.raises(UserError, match="train.bin has .* bytes, and pack.json"):
        Shards(tmp_path)
    (tmp_path / "train.bin").unlink()
    with pytest.raises(UserError, match="train.bin has 0 bytes"):
        Shards(tmp_path)
    (tmp_path / "pack.json").write_text('{"sequences": 3}')
    with pytest.raises(UserError, match="pack.json is broken"):
        Shards(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        Shards(tmp_path / "nothing")
