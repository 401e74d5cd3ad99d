"""Zstandard as a stream of frames: memory stays small, and an early end is seen.

The reader of `zstandard` itself ends in silence where a frame breaks off. Needs the
optional package zstandard. Format: RFC 8878.
"""

from __future__ import annotations

from io import BufferedIOBase

FRAME = b"\x28\xb5\x2f\xfd"     # what a frame begins with
SKIPPED = b"\x2a\x4d\x18"       # the same of one without content, after any 5x
PIECE = 512     # packed bytes that are unpacked at once: to 16 MiB at most


def begins_frame(data: bytes) -> bool:
    """Whether `data`, of four bytes or more, begins as a frame does."""
    return data[:4] == FRAME or data[1:4] == SKIPPED and data[0] >> 4 == 5


class Frames:
    """What the frames in `file` hold.

    Reading raises `EOFError` where one breaks off, `ValueError` where one is broken;
    making one raises `ImportError` where the package zstandard is missing.
    """

    def __init__(self, file: BufferedIOBase) -> None:
        import zstandard

        self.file, self.broken = file, zstandard.ZstdError
        self.start = zstandard.ZstdDecompressor().decompressobj
        self.frame, self.rest, self.held = self.start(), b"", bytearray()

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, fewer at the end; all that is left where negative."""
        while size < 0 or len(self.held) < size:
            data = self.rest + self.file.read(PIECE)
            if self.frame.eof:
                if not begins_frame(data):  # the end, or what pads a Debian package
                    break
                self.frame = self.start()
            elif not data:
                raise EOFError("the file ends in a Zstandard frame")
            try:
                self.held += self.frame.decompress(data)
            except self.broken as error:
                raise ValueError(str(error)) from None
            self.rest = self.frame.unused_data
        end = len(self.held) if size < 0 else size
        data = bytes(self.held[:end])
        del self.held[:end]
        return data
