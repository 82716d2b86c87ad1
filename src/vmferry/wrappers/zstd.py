"""zstd: frames that can be decoded each for itself.

``zstd`` writes one frame, which is read forwards; ``pzstd``, seekable zstd and files put together have many.

Source: RFC 8878.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, cast

import zstandard

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, quote
from vmferry.limits import MAX_UNPACK_WINDOW
from vmferry.registry import About
from vmferry.units import MIB
from vmferry.wrappers._input import PackedInput
from vmferry.wrappers._unpacked import Decoder, UnpackedBlob, check_growth, check_size
from vmferry.wrappers._zstd_frames import MAGIC, Frame, find_frames, is_skippable

_OWN_MEMORY = MIB
"""What a decoder takes beside the window."""
_MAX_FIRST = 64 * 1024
"""Bytes of a skippable frame behind which the first one with content is looked for."""


class ZstdWrapper:
    """See ``Wrapper``."""

    name = "zstd"
    about = About(
        title="zstd",
        reads="one frame or several; read anywhere where there are several (`pzstd`, seekable zstd), else forwards",
        writes="",
        refuses="damaged checksums; dictionaries; jumping about in a single long frame; a window over the limit",
        limits="a frame's checksum is verified when it is read",
    )

    def probe(self, blob: Blob) -> bool:
        head = blob.read_at(0, min(8, blob.size))
        if len(head) < 8 or not is_skippable(head):
            return head.startswith(MAGIC)
        behind = 8 + int.from_bytes(head[4:], "little")
        return behind <= _MAX_FIRST and behind + 4 <= blob.size and blob.read_at(behind, 4) == MAGIC

    def open(self, blob: Blob) -> Blob:
        return UnpackedBlob(blob, _ZstdPacking(blob), f"{blob.name} (unpacked)")


WRAPPER = ZstdWrapper()


class _ZstdPacking:
    """See ``Packing``."""

    lament = "is packed by zstd in one frame, which cannot be read from the middle: unpack it first (unzstd)"

    def __init__(self, blob: Blob) -> None:
        """Raises ``CorruptDiskError``, ``UnsafeDiskError``, ``UnsupportedFeatureError``."""
        self._blob = blob
        self._frames: list[Frame] = []
        self._starts: list[int] = []
        self.size = 0
        for frame in find_frames(blob):
            size = frame.size
            if size is None:
                size = _measure(blob, frame)
            if size or not self._frames:
                self._frames.append(Frame(frame.start, frame.end, size, frame.window))
                self._starts.append(self.size)
            self.size += size
            check_size(blob.name, self.size)
        self.window = max((frame.window for frame in self._frames), default=0) + _OWN_MEMORY

    @property
    def starts(self) -> Sequence[int]:
        return self._starts or [0]

    def begin(self, number: int) -> Decoder:
        return _ZstdDecoder(self._blob, self._frames, number)


class _ZstdDecoder:
    """See ``Decoder``."""

    def __init__(self, blob: Blob, frames: Sequence[Frame], number: int) -> None:
        self._blob = blob
        self._frames = frames
        self._number = number
        self._stream: _FrameStream | None = None

    def read(self, limit: int) -> bytes:
        while self._number < len(self._frames):
            frame = self._frames[self._number]
            if self._stream is None:
                self._stream = _FrameStream(self._blob, frame)
            if data := self._stream.read(limit):
                return data
            self._stream = None
            self._number += 1
        return b""


class _FrameStream:
    """The content of one frame, once, in order."""

    def __init__(self, blob: Blob, frame: Frame) -> None:
        self._name = blob.name
        self._frame = frame
        self._feed = PackedInput(blob, frame.start, frame.end)
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_UNPACK_WINDOW)
        self._reader = decompressor.stream_reader(cast("IO[bytes]", _Source(self._feed)), read_across_frames=False)
        self.done = 0
        """Unpacked bytes that were read."""

    @property
    def packed(self) -> int:
        """Bytes of the frame that were fed."""
        return self._feed.position - self._frame.start

    def read(self, limit: int) -> bytes:
        """At least one byte; none at the end, when the length and the checksum were found to be right."""
        try:
            data = self._reader.read(limit)
        except zstandard.ZstdError as error:
            raise self._damaged() from error
        self.done += len(data)
        size = self._frame.size
        if size is not None and (self.done > size or (not data and self.done < size)):
            raise self._damaged()
        if not data and self._feed.left:
            raise self._damaged()
        if size is not None and self.done == size and data and self.read(1):
            raise self._damaged()  # the checksum stands behind the last byte, and is looked at now
        return data

    def _damaged(self) -> CorruptDiskError:
        return CorruptDiskError(
            f"{quote(self._name)}: the zstd frame at offset {self._frame.start:,} is damaged: pack or upload it again."
        )


class _Source:
    """The packed bytes as zstandard asks for them."""

    def __init__(self, feed: PackedInput) -> None:
        self._feed = feed

    def read(self, size: int = -1) -> bytes:
        data = bytes(self._feed.peek(MIB if size < 0 else min(size, MIB)))
        self._feed.skip(len(data))
        return data


def _measure(blob: Blob, frame: Frame) -> int:
    """Unpacked bytes of a frame that does not say. Raises ``CorruptDiskError``, ``UnsafeDiskError``."""
    stream = _FrameStream(blob, frame)
    while stream.read(MIB):
        check_size(blob.name, stream.done)
        check_growth(blob.name, stream.packed, stream.done)
    return stream.done
