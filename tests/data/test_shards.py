"""Rows on disk: orders without a list, files of limited size, no silent damage."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.data.shards import Rows, RowWriter, Shards, endless, mix, shuffled
from minicoder.errors import UserError
from minicoder.stages import stage, write_json

ROWS = np.arange(7 * 5).reshape(7, 5)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.lists(st.integers(-2**70, 2**70), max_size=3))
def test_an_order_has_every_place_once(size, key):
    assert sorted(shuffled(place, size, *key) for place in range(size)) == [
        *range(size)]


@settings(max_examples=40, deadline=None)
@given(st.integers(2**40, 2**62), st.integers(0, 2**39), st.integers(0, 99))
def test_places_of_an_order_too_large_to_list_do_not_meet(size, place, key):
    found = {shuffled(place + i, size, key) for i in range(20)}
    assert len(found) == 20 and all(0 <= one < size for one in found)


def test_every_place_goes_everywhere_alike():
    size, draws = 10, 2000
    expected = draws / size
    for place in (0, 4, 9):
        counts = Counter(shuffled(place, size, key) for key in range(draws))
        statistic = sum((counts[i] - expected) ** 2 / expected for i in range(size))
        assert statistic < 27.9     # chi-squared, 9 degrees: 1 in 1,000
    # and neighbours do not stay neighbours: steps of +1 are 1 in 1000
    order = [shuffled(place, 1000, 5) for place in range(1000)]
    assert sum(b - a == 1 for a, b in zip(order, order[1:], strict=False)) < 8
    assert abs(np.corrcoef(order, range(1000))[0, 1]) < 0.1


def test_mixing_loses_nothing():
    assert len({mix(value) for value in range(5000)}) == 5000
    # SplitMix64 of seed 0 (Vigna's splitmix64.c) begins so
    assert mix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF


def test_each_epoch_and_key_has_its_own_order():
    epochs = [[endless(e * 50 + i, 50, 1) for i in range(50)] for e in range(3)]
    other = [endless(i, 50, 2) for i in range(50)]
    assert len({tuple(one) for one in [*epochs, other]}) == 4
    assert all(sorted(one) == [*range(50)] for one in [*epochs, other])


def write(folder, rows=ROWS, file_bytes=2 ** 28):
    with stage(folder, "pack", {}) as run:
        writer = RowWriter(run.work, rows.shape[1], np.dtype("<u2"), file_bytes)
        for row in rows.tolist():
            writer.write(row, [row[0] % 3, 5 - row[0] % 3])
        write_json(run.work / "pack.json", {
            "sequences": len(rows), "sequence_length": rows.shape[1] - 1, "bos": 9,
            "dtype": "<u2", "sources": ["code", "text"], "files": writer.close()})
    return Shards(folder)


@pytest.mark.parametrize(("limit", "files"), [(1, 7), (29, 4), (20, 4), (70, 1),
                                              (69, 2)])
def test_files_are_limited_and_read_as_one(tmp_path, limit, files):
    shards = write(tmp_path / "p", file_bytes=limit)
    found = sorted((tmp_path / "p").glob("train*.bin"))
    assert len(found) == files
    assert all(one.stat().st_size <= max(limit, 10) for one in found)
    rows = shards.rows
    assert isinstance(rows, Rows) == (files > 1)
    assert np.array_equal(rows, ROWS) and rows.size == ROWS.size
    assert (len(shards), rows.shape, rows.dtype) == (7, (7, 5), np.dtype("<u2"))
    for chosen in ([6, 0, 3], slice(1, 6, 2), slice(None), -1, np.array([2, -2]),
                   np.int64(4), []):
        assert np.array_equal(rows[chosen], ROWS[chosen]), chosen
    assert [row.tolist() for row in rows] == ROWS.tolist()
    with pytest.raises(IndexError):
        rows[7]
    whole = write(tmp_path / "whole")
    assert torch.equal(shards.batch(1, 3, 4), whole.batch(1, 3, 4))


def test_a_batch_s_tokens_are_counted_by_source(tmp_path):
    shards = write(tmp_path / "p", file_bytes=20)
    assert shards.sources == ("code", "text") and shards.bos == 9
    for step in range(5):
        rows = shards.batch(step, 4, seed=2)
        counts = shards.counts(step, 4, seed=2)
        assert counts["code"] == sum(int(row[0]) % 3 for row in rows)
        assert sum(counts.values()) == rows.numel()


def test_a_resumed_reader_goes_on_where_the_first_stopped(tmp_path):
    first = write(tmp_path / "p", file_bytes=20)
    whole = [first.batch(step, 3, 8) for step in range(9)]
    resumed = Shards(tmp_path / "p")
    for step in (5, 6, 7, 8, 2):        # any step, and no state but the step
        assert torch.equal(resumed.batch(step, 3, 8), whole[step])
    assert not torch.equal(resumed.batch(5, 3, 9), whole[5])


def spoil(folder, name, data):
    (folder / name).write_bytes(data)


@pytest.mark.parametrize("name", ["train.bin", "train-00002.bin", "sources.bin"])
def test_a_truncated_longer_or_missing_file_is_refused(tmp_path, name):
    write(tmp_path / "p", file_bytes=20)
    file = tmp_path / "p" / name
    whole = file.read_bytes()
    for data in (whole[:-1], whole + b"\0", b""):
        file.write_bytes(data)
        with pytest.raises(UserError, match=f"{name} has {len(data)} bytes, and "
                                            f"pack.json speaks of {len(whole)}"):
            Shards(tmp_path / "p")
    file.unlink()
    with pytest.raises(UserError, match=f"{name} has 0 bytes"):
        Shards(tmp_path / "p")
    file.write_bytes(whole)
    assert len(Shards(tmp_path / "p")) == 7


@pytest.mark.parametrize("name", ["train.bin", "train-00001.bin", "sources.bin"])
def test_a_changed_file_is_found_by_its_hash(tmp_path, name):
    write(tmp_path / "p", file_bytes=20).verify()
    file = tmp_path / "p" / name
    whole = file.read_bytes()
    file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(UserError, match=f"{name} is not the one"):
        Shards(tmp_path / "p").verify()     # opening it looks at the size alone


@pytest.mark.parametrize("change", [
    {"sequences": 8}, {"sequences": 0, "files": {}}, {"files": {"train.bin": "x"}},
    {"files": [1]}, {"dtype": "?!"}, {"sequence_length": None},
    {"files": {"train.bin": 7, "train-00001.bin": 0}}])
def test_a_broken_report_is_refused(tmp_path, change):
    write(tmp_path / "p")
    about = json.loads((tmp_path / "p" / "pack.json").read_text()) | change
    write_json(tmp_path / "p" / "pack.json", about)
    with pytest.raises(UserError, match="pack.json is broken"):
        Shards(tmp_path / "p")


def test_what_older_reports_lack_is_asked_for_only_when_needed(tmp_path):
    (tmp_path / "train.bin").write_bytes(ROWS.astype("<u2").tobytes())
    write_json(tmp_path / "pack.json", {"sequences": 7, "sequence_length": 4,
                                        "dtype": "<u2"})
    old = Shards(tmp_path)
    assert np.array_equal(old.rows, ROWS) and old.sources == ()
    with pytest.raises(UserError, match="no 'sources': pack again"):
        old.counts(0, 1)
    with pytest.raises(UserError, match="no 'bos': pack again"):
        old.bos  # noqa: B018
    with pytest.raises(UserError, match=r"made_by.json does not exist"):
        old.verify()
