"""bzip2: one stream, or several one after another as ``pbzip2`` and ``lbzip2`` write them.

The content is decoded once when the file is opened: only that tells its length, and verifies all checksums. Reading
begins at the beginning of a stream. What stands behind the last stream is ignored, as ``bunzip2`` does, if it is short.

Source: the format's description in bzip2's manual; there is no standard.
"""

from __future__ import annotations

from bz2 import BZ2Decompressor
from collections.abc import Sequence

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, quote
from vmferry.registry import About
from vmferry.units import MIB
from vmferry.wrappers._input import PackedInput, check_rest
from vmferry.wrappers._streams import read_stream
from vmferry.wrappers._unpacked import Decoder, UnpackedBlob, check_growth, check_members, check_size

_MAGIC = b"BZh"
_BLOCKS = (b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90")
"""What follows the header: a block, or the end of an empty stream."""
_LIMIT = MIB
_NEXT_START = MIB
"""Streams that begin nearer than this to the last place to begin are no place of their own."""


class Bzip2Wrapper:
    """See ``Wrapper``."""

    name = "bzip2"
    about = About(
        title="bzip2",
        reads="one stream or several; read anywhere where there are several, else forwards",
        writes="",
        refuses="damaged checksums; jumping about in a single long stream",
        limits="decoded twice: once to measure and check it, once to read it",
    )

    def probe(self, blob: Blob) -> bool:
        head = blob.read_at(0, min(10, blob.size))
        return head.startswith(_MAGIC) and head[3:4] in b"123456789" and head[4:] in _BLOCKS

    def open(self, blob: Blob) -> Blob:
        return UnpackedBlob(blob, _Bzip2Packing(blob), f"{blob.name} (unpacked)")


WRAPPER = Bzip2Wrapper()


class _Bzip2Packing:
    """See ``Packing``."""

    window = 4 * MIB
    lament = "is packed by bzip2 in one stream, which cannot be read from the middle: unpack it first (bunzip2)"

    def __init__(self, blob: Blob) -> None:
        """Decode all of it. Raises ``CorruptDiskError``, ``UnsafeDiskError``."""
        self._blob = blob
        self._starts = [0]
        self._positions = [0]
        decoder = _Bzip2Decoder(blob, 0)
        size = 0
        while data := decoder.read(_LIMIT):
            if (decoder.began != self._positions[-1]) and size - self._starts[-1] >= _NEXT_START:
                self._starts.append(size)
                self._positions.append(decoder.began)
            size += len(data)
            check_size(blob.name, size)
            check_growth(blob.name, decoder.position, size)
        self.size = size

    @property
    def starts(self) -> Sequence[int]:
        return self._starts

    def begin(self, number: int) -> Decoder:
        return _Bzip2Decoder(self._blob, self._positions[number])


class _Bzip2Decoder:
    """See ``Decoder``."""

    def __init__(self, blob: Blob, position: int) -> None:
        self._name = blob.name
        self._feed = PackedInput(blob, position)
        self._stream: BZ2Decompressor | None = None
        self._begun = self._done = 0
        self.began = position
        """Offset of the stream whose first bytes were read last."""

    @property
    def position(self) -> int:
        """Offset in the file up to which it was read."""
        return self._feed.position

    def read(self, limit: int) -> bytes:
        while True:
            if self._stream is None:
                if self._begun and bytes(self._feed.peek(len(_MAGIC))) != _MAGIC:
                    check_rest(self._name, self._feed)
                    return b""
                self._stream = BZ2Decompressor()
                self._begun += 1
                check_members(self._name, self._begun, self._done)
                self.began = self._feed.position
            try:
                data = read_stream(self._name, self._feed, self._stream, limit)
            except (OSError, ValueError) as error:
                raise CorruptDiskError(
                    f"{quote(self._name)}: the bzip2 data before offset {self._feed.position:,} is damaged: "
                    "pack or upload it again."
                ) from error
            if data:
                self._done += len(data)
                return data
            self._stream = None
