"""Packed rows: borders, order, shares, and a loader without state."""

import json
import random
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from minicoder.data.corpus import is_held_out, write_documents
from minicoder.data.dependencies import path_comment
from minicoder.data.mixture import Mixture
from minicoder.data.packing import FIM_LONGEST, FIM_ROOM, Packer, Shards, pack
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


class Dealt:
    """A part that always deals the same."""

    def __init__(self, tokens):
        self.tokens = tokens

    def take(self, room, whole_lines, longest):
        return self.tokens, False


def test_a_piece_that_does_not_fit_or_decode_is_not_shuffled(tokenizer):
    packer = Packer({}, Mixture(), tokenizer, 1.0, np.random.default_rng(0), LENGTH,
                    "character")
    tokens = tokenizer.encode("def n1: return value\n" * 4)
    most = max(len(packer.fim(tokens)) for _ in range(50))
    assert most > len(tokens) + 5       # cuts inside words cost tokens
    room = most - 1
    assert FIM_ROOM <= room <= FIM_LONGEST
    packer.parts["code"] = Dealt(tokens)
    found = [packer.piece("code", room) for _ in range(300)]
    plain = [piece for piece in found if tokenizer.fim_begin not in piece]
    assert 0 < len(plain) < 300 and max(map(len, found)) <= room
    assert all(piece == [tokenizer.bos, *tokens] for piece in plain)
    assert packer.fim(tokenizer.encode("é")[:1]) is None
    narrow = [packer.piece("code", FIM_ROOM - 1) for _ in range(50)]
    assert not any(tokenizer.fim_begin in piece for piece in narrow)


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


@pytest.mark.parametrize(("math", "message"), [
    ([], "holds no document with split 'train' and kind in .'math'"),
    ([Document("", "m", "Python", "math", "o", "MIT")], "holds no math")])
def test_a_corpus_without_a_kind_is_refused(inputs, tmp_path, math, message):
    with stage(tmp_path / "corpus", "data", {}) as run:
        write_documents([d for d in inputs[2] if d.kind != "math"] + math, run.work)
    with pytest.raises(UserError, match=message):
        pack(tmp_path / "p", tmp_path / "corpus", inputs[1], LENGTH, TOKENS)
    assert not (tmp_path / "p.partial").exists()


# --- whole documents, as in the paper


def joined(rows, kind):
    """The rows of one kind, put together in the order in which they were made."""
    shards, number = Shards(rows), Shards(rows).sources.index(kind)
    mine = shards.by_source[:, number] == shards.sequence_length + 1
    return np.asarray(shards.rows)[mine].flatten()


@pytest.fixture(scope="module")
def by_document(inputs, tmp_path_factory):
    """Rows much shorter than documents; code in two samples and alone."""
    out, root = tmp_path_factory.mktemp("whole") / "pack", tmp_path_factory.mktemp("in")
    documents = [d if d.kind != "code" or i > 20 else replace(d, sample=f"o#{i // 7}")
                 for i, d in enumerate(inputs[2])]
    with stage(root / "corpus", "data", {}) as run:
        write_documents(documents, run.work)
    made = pack(out, root / "corpus", inputs[1], 40, 60_000, unit="document",
                cut="character", seed=1)
    train = [d for d in documents if not is_held_out(d.path)]
    return made, train


def expected_samples(documents, kind):
    """The texts that count as documents, found in another way than the library's."""
    found = {}
    for place, one in enumerate(documents):
        if one.kind == kind:
            above = path_comment(one) if one.sample else ""
            key = one.sample or place
            found[key] = found.get(key, "") + above + one.text
    return set(found.values())


@pytest.mark.parametrize("kind", ["code", "math", "text"])
def test_whole_documents_follow_one_another_across_rows(by_document, tokenizer, kind):
    t, (folder, documents) = tokenizer, by_document
    stream = joined(folder, kind)
    assert stream[0] == t.bos
    borders = np.flatnonzero(stream == t.bos)
    found = [one.tolist() for one in np.split(stream, borders[1:])][:-1]
    texts, shuffled = [], 0
    for piece in found:
        assert piece[-1] == t.eos and piece.count(t.eos) == 1
        if t.fim_begin in piece:
            shuffled += 1
            texts.append(unshuffle(piece[1:], t).decode())
        else:
            texts.append(t.decode(piece[1:-1]))
    expected = expected_samples(documents, kind)
    assert len(expected) > 5 and set(texts[:len(expected)]) == expected    # one pass
    assert set(texts) == expected
    share = shuffled / len(found)
    # 0.5 within four standard deviations of a coin thrown for each document
    assert share == 0 if kind != "code" else abs(share - 0.5) < 2 / len(found) ** 0.5


def test_rows_of_documents_are_mixed_and_counted(by_document, inputs):
    shards = Shards(by_document[0])
    about = json.loads((by_document[0] / "pack.json").read_text())
    assert about["shares"] == pytest.approx({"code": .6, "math": .1, "text": .3},
                                            abs=0.01)
    assert shards.by_source.sum(0).tolist() == list(about["tokens"].values())
    assert set(shards.by_source.sum(1)) == {41}
    assert sorted((by_document[0]).iterdir()) == sorted(
        by_document[0] / name for name in
        ("made_by.json", "pack.json", "sources.bin", "train.bin"))
    shards.verify()


def test_bos_stands_where_documents_begin(by_document, packed, tokenizer):
    for folder in (by_document[0], packed):
        assert Shards(folder).bos == tokenizer.bos
    assert (np.asarray(Shards(packed).rows)[:, 0] == tokenizer.bos).all()
    assert not (Shards(by_document[0]).rows[:, 0] == tokenizer.bos).all()


def test_counts_of_pieces_are_those_of_their_rows(packed):
    shards, about = Shards(packed), json.loads((packed / "pack.json").read_text())
    assert shards.sources == ("code", "math", "text")
    counts = [shards.counts(step, 1, seed=5) for step in range(len(shards))]
    for kind, total in about["tokens"].items():
        assert sum(one[kind] for one in counts) == total
    assert all(sum(one.values()) == LENGTH + 1 for one in counts)
    assert np.mean([0 < one["code"] < LENGTH + 1 for one in counts]) > 0.5   # mixed


@pytest.mark.parametrize("unit", ["piece", "document"])
def test_the_suffix_may_come_first_and_all_kinds_be_shuffled(
        inputs, tokenizer, tmp_path, unit):
    t = tokenizer
    out = pack(tmp_path / "p", *inputs[:2], LENGTH, TOKENS, unit=unit, order="spm",
               fim_all=True, fim_rate=1.0)
    streams = ([np.asarray(Shards(out).rows).flatten()] if unit == "piece" else
               [joined(out, kind) for kind in ("code", "math", "text")])
    for rows in streams:
        begins = np.flatnonzero(rows == t.fim_begin)[:-1]
        assert len(begins) > 5 and (rows[begins - 1] == t.bos).all()
        assert (rows[begins + 1] == t.fim_hole).all()
        assert unit == "piece" or len(begins) >= (rows == t.bos).sum() - 2


def test_the_shares_can_be_chosen(inputs, tmp_path):
    out = pack(tmp_path / "p", *inputs[:2], LENGTH, TOKENS, code=0.8, math=0.0)
    about = json.loads((out / "pack.json").read_text())
    assert about["shares"] == pytest.approx({"code": .8, "text": .2}, abs=0.01)
    with pytest.raises(UserError, match="--code 0.8 and --math 0.3 must be shares"):
        pack(tmp_path / "q", *inputs[:2], LENGTH, TOKENS, code=0.8, math=0.3)


def peak(inputs, out, copies, unit, monkeypatch):
    """The most memory that Python and numpy held while packing a stream of texts."""
    def stream(corpus, split, kinds):
        for i in range(copies):
            for d in inputs[2]:
                if d.kind in kinds:
                    yield replace(d, path=f"{d.path}.{i}", text=f"{d.text}# {i}\n")

    monkeypatch.setattr("minicoder.data.packing.iterate_documents", stream)
    tracemalloc.start()
    pack(out, *inputs[:2], LENGTH, 3_000 * copies, unit=unit)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


@pytest.mark.parametrize("unit", ["piece", "document"])
def test_memory_does_not_grow_with_the_corpus(inputs, tmp_path, unit, monkeypatch):
    monkeypatch.setattr("minicoder.data.pieces.BATCH", 10_000)
    _, small, large = (peak(inputs, tmp_path / str(i), copies, unit, monkeypatch)
                       for i, copies in enumerate((1, 1, 8)))
    assert large < 1.3 * small


def test_truncated_or_broken_shards_are_refused(packed, tmp_path):
    for name in ("train.bin", "pack.json", "sources.bin"):
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
