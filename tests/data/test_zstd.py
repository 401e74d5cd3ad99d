"""Zstandard streams: several frames, early ends, bombs; against the zstd program."""

import io
import random
import shutil
import subprocess
import tracemalloc

import pytest
import zstandard

from minicoder.data.zstd import PIECE, Frames, begins_frame

DATA = random.Random(0).randbytes(300_000) + b"x" * 300_000


def pack(data: bytes, **options: object) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


@pytest.mark.parametrize("size", [-1, 1, PIECE, 10_240, 10_000_000])
@pytest.mark.parametrize("known", [True, False])
def test_frames_follow_each_other_and_padding_ends_them(size, known):
    empty = b"\x5a\x2a\x4d\x18\3\0\0\0abc"      # a frame that is to be skipped
    data = DATA[299_000:301_000] if size == 1 else DATA
    packed = pack(data, write_content_size=known)
    stream = Frames(io.BytesIO(empty + packed + empty + pack(b"") + packed + b"\n"))
    found = b"".join(iter(lambda: stream.read(size), b""))
    assert found == data * 2


@pytest.mark.parametrize("program", ["zstd", "pzstd"])
def test_what_the_programs_pack(tmp_path, program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    (tmp_path / "data").write_bytes(DATA * 20)
    packed = subprocess.run([program, "-c", "-p3" if program == "pzstd" else "-T3",
                             tmp_path / "data"], stdout=-1, stderr=-1, check=True)
    assert begins_frame(packed.stdout)
    assert Frames(io.BytesIO(packed.stdout)).read() == DATA * 20


@pytest.mark.parametrize("first", [b"", pack(DATA)])
@pytest.mark.parametrize("keep", [4, 9, 140_000, 299_999])
def test_a_frame_that_breaks_off_is_seen(first, keep):
    stream = Frames(io.BytesIO(first + pack(DATA)[:keep]))
    with pytest.raises(EOFError, match="ends in a Zstandard frame"):
        while stream.read(10_240):
            pass


def test_a_broken_frame_is_a_value_error():
    packed = bytearray(pack(DATA, write_checksum=True))
    packed[1000] ^= 1
    for data in (b"\x28\xb5\x2f\xfd broken", bytes(packed)):
        with pytest.raises(ValueError, match="zstd"):
            Frames(io.BytesIO(data)).read()


def test_a_bomb_is_unpacked_piece_by_piece():
    packed = pack(b"\0" * 64_000_000, level=19)
    assert len(packed) < 4 * PIECE
    tracemalloc.start()
    assert Frames(io.BytesIO(packed)).read(10_240) == b"\0" * 10_240
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000_000
