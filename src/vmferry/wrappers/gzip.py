"""gzip: one deflate stream, or several one after another.

The content is decoded once when the file is opened: only that tells its length, and all checksums are verified by it.
Reading then goes on from checkpoints. What stands behind the last member is ignored, as ``gunzip`` does, if it is short
or all zeros.

Source: RFC 1952.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, quote
from vmferry.registry import About
from vmferry.units import MIB
from vmferry.wrappers._deflate import Checkpoints, DeflateStream, measure, new_inflate
from vmferry.wrappers._input import PackedInput, check_rest
from vmferry.wrappers._unpacked import Decoder, UnpackedBlob, check_members

_MAGIC = b"\x1f\x8b"
_DEFLATE = 8
_HEADER = struct.Struct("<2sBBIBB")
_TRAILER = struct.Struct("<II")
_HEADER_CHECKSUM, _EXTRA, _NAME, _COMMENT, _RESERVED = 0x02, 0x04, 0x08, 0x10, 0xE0
_LONGEST_NAME = 64 * 1024


class GzipWrapper:
    """See ``Wrapper``."""

    name = "gzip"
    about = About(
        title="gzip",
        reads="one member or several; read anywhere from checkpoints made while the file is checked",
        writes="",
        refuses="damaged checksums",
        limits="decoded twice: once to measure and check it, once to read it",
    )

    def probe(self, blob: Blob) -> bool:
        return blob.size >= 3 and blob.read_at(0, 3) == _MAGIC + bytes([_DEFLATE])

    def open(self, blob: Blob) -> Blob:
        return UnpackedBlob(blob, _GzipPacking(blob), f"{blob.name} (unpacked)")


WRAPPER = GzipWrapper()


class _GzipPacking:
    """See ``Packing``."""

    window = 128 * 1024
    lament = "is packed by gzip, which is slow to read out of order: unpack it first (gunzip)"

    def __init__(self, blob: Blob) -> None:
        """Decode all of it. Raises ``CorruptDiskError``, ``UnsafeDiskError``."""
        self._blob = blob
        self._checkpoints = Checkpoints(0)
        feed = PackedInput(blob)
        self.size = members = 0
        while _begins_member(blob.name, feed, self.size == 0):
            self._checkpoints.offer(self.size, lambda: (feed.position, None))
            self._measure_member(feed)
            members += 1
            check_members(blob.name, members, self.size)

    def _measure_member(self, feed: PackedInput) -> None:
        _read_header(self._blob.name, feed)
        stream = DeflateStream(self._blob.name, feed, new_inflate())
        end, checksum = measure(
            self._blob.name, stream, self.size, lambda offset: self._checkpoints.offer(offset, stream.snapshot)
        )
        if _TRAILER.unpack(feed.take(_TRAILER.size)) != (checksum, (end - self.size) & 0xFFFFFFFF):
            raise CorruptDiskError(
                f"{quote(self._blob.name)}: the gzip checksum or length of the data before offset {feed.position:,} "
                "does not match. It is damaged: pack or upload it again."
            )
        self.size = end

    @property
    def starts(self) -> Sequence[int]:
        return self._checkpoints.starts

    def begin(self, number: int) -> Decoder:
        position, inflate = self._checkpoints.state(number)
        feed = PackedInput(self._blob, position)
        stream = None if inflate is None else DeflateStream(self._blob.name, feed, inflate)
        return _GzipDecoder(self._blob.name, feed, stream)


class _GzipDecoder:
    """See ``Decoder``. Checksums were verified when the file was opened."""

    def __init__(self, name: str, feed: PackedInput, stream: DeflateStream | None) -> None:
        """``stream`` goes on inside a member; without it a member begins where ``feed`` stands."""
        self._name = name
        self._feed = feed
        self._stream = stream

    def read(self, limit: int) -> bytes:
        while True:
            if self._stream is None:
                if not _begins_member(self._name, self._feed, first=False):
                    return b""
                _read_header(self._name, self._feed)
                self._stream = DeflateStream(self._name, self._feed, new_inflate())
            if data := self._stream.read(limit):
                return data
            self._feed.take(_TRAILER.size)
            self._stream = None


def _begins_member(name: str, feed: PackedInput, first: bool) -> bool:
    """Whether another member begins here, behind any padding with zeros; where ``first``, it must."""
    if first and feed.position == 0:
        return True
    while (padding := feed.peek(MIB)) and not padding[0]:
        feed.skip(len(padding) - len(bytes(padding).lstrip(b"\0")))
    if bytes(feed.peek(len(_MAGIC))) == _MAGIC:
        return True
    check_rest(name, feed)
    return False


def _read_header(name: str, feed: PackedInput) -> None:
    """Go behind the header of a member. Raises ``CorruptDiskError``."""
    begin = feed.position
    magic, method, flags, _, _, _ = _HEADER.unpack(feed.take(_HEADER.size))
    if magic != _MAGIC or method != _DEFLATE or flags & _RESERVED:
        raise CorruptDiskError(
            f"{quote(name)}: what stands at offset {begin:,} is no gzip header. It is damaged: pack or upload it again."
        )
    if flags & _EXTRA:
        feed.take(int.from_bytes(feed.take(2), "little"))
    for text in (_NAME, _COMMENT):
        if flags & text:
            end = bytes(feed.peek(_LONGEST_NAME)).find(b"\0")
            if end < 0:
                raise CorruptDiskError(
                    f"{quote(name)}: a name in the gzip header at offset {begin:,} has no end. "
                    "It is damaged: pack or upload it again."
                )
            feed.skip(end + 1)
    if flags & _HEADER_CHECKSUM:
        feed.take(2)
