"""Weight files of strangers: each broken or hostile one gets one sentence, soon."""

import json
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from minicoder.errors import UserError
from minicoder.model.weights import (
    MAX_HEADER,
    MAX_TENSORS,
    read_header,
    read_weights,
    write_file,
)
from minicoder.stages import sha256

TWO = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def packed(header: dict | bytes, data: bytes = b"\0" * 8, length: int | None = None
           ) -> bytes:
    """A safetensors file; `length` is what it claims of its header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    return size.to_bytes(8, "little") + text + data


def crowd(count: int) -> bytes:
    """A header of so many tensors without numbers."""
    entry = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return b"{" + b",".join(b'"t%d":' % i + entry for i in range(count)) + b"}"


def changed(**fields) -> bytes:
    return packed({"a": TWO | fields})


BROKEN = {
    "empty": (b"", "cut short"),
    "shorter than a length": (b"\x10\0\0", "cut short"),
    "a text file": (b"these are not the weights you are looking for", "cut short"),
    "a pickle": (b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.", "cut short"),
    "header past the end": (packed({"a": TWO}, length=10**6), "cut short"),
    "length 2^63": (packed({"a": TWO}, length=2**63), "cut short"),
    "length 0": (packed(b"", b""), "safetensors"),
    "header over the limit": (packed(b" " * (MAX_HEADER + 1)), "more than 16777216"),
    "no JSON": (packed(b'{"a": '), "safetensors"),
    "not UTF-8": (packed(b'{"\xff\xfe": {}}'), "safetensors"),
    "a list": (packed(b"[1, 2]"), "safetensors"),
    "deep JSON": (packed(b"[" * 10**6), "safetensors"),
    "endless digits": (packed(b'{"a": ' + b"9" * 10**6 + b"}"), "safetensors"),
    "a name twice": (packed(b'{"a": %s, "a": %s}' % (
        (json.dumps(TWO).encode(),) * 2)), "twice"),
    "a path as name": (packed({"../../x": TWO}), r"'\.\./\.\./x'"),
    "an endless name": (packed({"a" * 10**6: TWO}), "not the name"),
    "an entry that is a number": (packed({"a": 1}), "fields other than dtype"),
    "an entry without offsets": (packed({"a": {"dtype": "F32", "shape": [2]}}),
                                 "fields other than dtype, shape, data_offsets"),
    "an entry with more fields": (changed(sha256="0"), "fields other than"),
    "unknown type": (changed(dtype="F4"), "type F4; known are F64"),
    "eight-bit floats": (changed(dtype="F8_E4M3", shape=[8]), "type F8_E4M3"),
    "type that is a list": (changed(dtype=["F32"]), "safetensors"),
    "negative shape": (changed(shape=[-2]), "out of range"),
    "fraction in a shape": (changed(shape=[2.0]), "out of range"),
    "truth in a shape": (changed(shape=[2, True]), "out of range"),
    "shape that overflows": (changed(shape=[2**40, 2**40]), "do not fit"),
    "many dimensions": (changed(shape=[1] * 99 + [2]), "out of range"),
    "shape larger than its bytes": (changed(shape=[3]), "do not fit"),
    "offsets reversed": (changed(data_offsets=[8, 0]), "do not fit"),
    "offsets past the end": (changed(shape=[4], data_offsets=[0, 16]), "16 more|has"),
    "offsets below 0": (changed(data_offsets=[-8, 0]), "out of range"),
    "three offsets": (changed(data_offsets=[0, 4, 8]), "safetensors"),
    "overlap": (packed({"a": TWO, "b": TWO}), "overlap"),
    "a hole": (packed({"a": TWO | {"data_offsets": [8, 16]}}, bytes(16)), "hole"),
    "bytes behind the end": (packed({"a": TWO}, bytes(9)), "bytes and should have"),
    "numbers cut short": (packed({"a": TWO}, bytes(7)), "bytes and should have"),
    "many objects": (packed(b"{%s}" % b",".join(
        b'"%d":{}' % i for i in range(700_000))), "more than 100000"),
    "many lists": (packed(b'{"a":[%s]}' % b",".join([b"[[[[]]]]"] * 700_000)),
                   "more than 100000"),
    "a million tensors": (packed(crowd(250_000), b""), "more than 100000"),
    "one tensor too many": (packed(crowd(MAX_TENSORS + 1), b""), "more than 100000"),
}


@pytest.mark.parametrize("content, message", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused(tmp_path, content, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    began = time.process_time()
    with pytest.raises(UserError, match=message) as caught:
        read_header(path)
    assert time.process_time() - began < 5  # seconds; most go to the tests' type checks
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and len(text) < len(str(path)) + 250


def test_no_file_and_no_plain_file(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(UserError, match="no such file"):
            read_header(path)


@settings(deadline=None, max_examples=50)
@given(shapes=st.dictionaries(
    st.text("abc.-_9", min_size=1, max_size=6),
    st.tuples(st.lists(st.integers(0, 4), max_size=3),
              st.sampled_from([torch.float64, torch.float32, torch.float16,
                               torch.bfloat16])), min_size=1, max_size=5))
def test_what_safetensors_writes_is_read(tmp_path_factory, shapes):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    tensors = {name: torch.randn(shape).to(dtype)
               for name, (shape, dtype) in shapes.items()}
    save_file(tensors, path, {"format": "pt"})
    stored = read_header(path)
    assert stored.keys() == tensors.keys()
    for name, tensor in tensors.items():
        found = stored[name].tensor()
        assert found.dtype == tensor.dtype and torch.equal(found, tensor)
    ours = path.with_name("ours.safetensors")
    assert write_file(ours, tensors, tensors.__getitem__, {"format": "pt"}
                      ) == sha256(path)
    assert ours.read_bytes() == path.read_bytes()


def test_numbers_at_odd_places_are_read(tmp_path):
    """The format does not promise that a float starts at a multiple of its size."""
    path = tmp_path / "model.safetensors"
    values = torch.tensor([1.5, -2.25])
    text = json.dumps({"a": TWO}).encode()
    for spaces in range(8):
        path.write_bytes(packed(text + b" " * spaces, values.numpy().tobytes()))
        assert torch.equal(read_header(path)["a"].tensor(), values)


# --- indexes


def sharded(folder: Path, places: object, **files: tuple[str, ...]) -> Path:
    for name, tensors in files.items():
        save_file({tensor: torch.zeros(2) for tensor in tensors},
                  folder / f"{name}.safetensors")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": places}))
    return folder


def test_shards_are_read_through_the_index(tmp_path):
    places = {"a": "x.safetensors", "b": "y.safetensors"}
    stored = read_weights(sharded(tmp_path, places, x=("a",), y=("b",)))
    assert {name: entry.path.name for name, entry in stored.items()} == places


@pytest.mark.parametrize("place", [
    "../x.safetensors", "/etc/passwd", "sub/x.safetensors", "x.bin", ".safetensors",
    "..safetensors", "x.safetensors\n", "http://x/x.safetensors", 7, None, ["x"]])
def test_an_index_names_only_files_beside_it(tmp_path, place):
    with pytest.raises(UserError, match=r"index\.json is not an index of weights"):
        read_weights(sharded(tmp_path, {"a": place}, x=("a",)))


@pytest.mark.parametrize("places", [[], "x.safetensors", 3, None])
def test_an_index_without_a_map(tmp_path, places):
    with pytest.raises(UserError, match=r"index\.json is not an index of weights"):
        read_weights(sharded(tmp_path, places))


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", '{"weight_map": {"a": "x", "a": '
                                  '"y"}}', "[" * 10**5, " " * (MAX_HEADER + 1)])
def test_an_index_that_is_broken(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match=r"index\.json is not an index of weights"):
        read_weights(tmp_path)


def test_index_and_shards_must_agree(tmp_path):
    sharded(tmp_path, {"a": "x.safetensors"}, x=("a", "b"))
    with pytest.raises(UserError, match="x.safetensors holds b, .*no file"):
        read_weights(tmp_path)
    sharded(tmp_path, {"a": "x.safetensors", "c": "y.safetensors"}, x=("a",), y=("a",))
    with pytest.raises(UserError, match="y.safetensors holds a, .*x.safetensors"):
        read_weights(tmp_path)
    sharded(tmp_path, {"a": "gone.safetensors"})
    with pytest.raises(UserError, match="gone.safetensors is not .*no such file"):
        read_weights(tmp_path)


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(UserError, match="is not a checkpoint"):
        read_weights(tmp_path)
