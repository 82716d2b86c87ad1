"""The frames of a zstd file, found by walking from block to block: their lengths stand in their headers.

A frame mostly says how long its content is, and its blocks say how long it can be at the most; reading verifies it.

Source: RFC 8878, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.limits import MAX_UNPACK_STARTS, MAX_UNPACK_WINDOW
from vmferry.units import KIB, format_size
from vmferry.wrappers._input import PackedInput

MAGIC = b"\x28\xb5\x2f\xfd"
_MAX_BLOCK = 128 * KIB
_RAW, _RLE, _COMPRESSED = range(3)
_SIZE_BYTES = (0, 2, 4, 8)
_DICTIONARY_BYTES = (0, 1, 2, 4)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of content."""

    start: int
    """Offset in the file."""
    end: int
    size: int | None
    """Unpacked bytes, as its header claims; ``None`` where it does not say."""
    window: int
    """Bytes that decoding looks back."""


def is_skippable(head: bytes) -> bool:
    """Whether ``head`` begins a frame that holds no content."""
    return len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50


def find_frames(blob: Blob) -> list[Frame]:
    """The frames with content, in order.

    Raises ``CorruptDiskError``, ``UnsupportedFeatureError``, ``UnsafeDiskError``.
    """
    feed = PackedInput(blob)
    frames: list[Frame] = []
    while feed.left:
        head = bytes(feed.peek(4))
        if is_skippable(head):
            feed.take(4)
            length = int.from_bytes(feed.take(4), "little")
            if length > feed.left:
                raise _corrupt(blob, feed.position)
            feed.skip(length)
            continue
        if head != MAGIC:
            raise _corrupt(blob, feed.position)
        frames.append(_read_frame(blob, feed))
        if len(frames) > MAX_UNPACK_STARTS:
            raise UnsafeDiskError(
                f"{quote(blob.name)} consists of more than {MAX_UNPACK_STARTS:,} zstd frames: unpack it first (unzstd)."
            )
    return frames


def _corrupt(blob: Blob, place: int) -> CorruptDiskError:
    return CorruptDiskError(
        f"{quote(blob.name)}: the zstd data at offset {place:,} is not sound. "
        "It is cut short or damaged: pack or upload it again."
    )


def _read_frame(blob: Blob, feed: PackedInput) -> Frame:
    start = feed.position
    feed.take(4)
    descriptor = feed.take(1)[0]
    single, checksum = bool(descriptor & 0x20), bool(descriptor & 0x04)
    if descriptor & 0x08:
        raise _corrupt(blob, start)
    window = 0 if single else _window(feed.take(1)[0])
    dictionary = int.from_bytes(feed.take(_DICTIONARY_BYTES[descriptor & 3]), "little")
    if dictionary:
        raise UnsupportedFeatureError(
            f"{quote(blob.name)} was packed by zstd with the dictionary {dictionary}: unpack it first (unzstd -D)."
        )
    field = max(_SIZE_BYTES[descriptor >> 6], int(single))
    size = int.from_bytes(feed.take(field), "little") + (256 if field == 2 else 0) if field else None
    if single and size is not None:
        window = size
    if window > MAX_UNPACK_WINDOW:
        raise UnsupportedFeatureError(
            f"{quote(blob.name)} was packed by zstd with a window of {format_size(window)}, and at most "
            f"{format_size(MAX_UNPACK_WINDOW)} are read: unpack it first (unzstd --long=31)."
        )
    most = _skip_blocks(blob, feed, min(window, _MAX_BLOCK))
    if size is not None and size > most:
        raise _corrupt(blob, start)
    if checksum:
        feed.take(4)
    return Frame(start, feed.position, size, window)


def _window(descriptor: int) -> int:
    base = 1 << (10 + (descriptor >> 3))
    return base + base // 8 * (descriptor & 7)


def _skip_blocks(blob: Blob, feed: PackedInput, max_block: int) -> int:
    """Go behind the last block of a frame; answers how many bytes the blocks can give at the most."""
    most = 0
    while True:
        header = int.from_bytes(feed.take(3), "little")
        kind, size = header >> 1 & 3, header >> 3
        if kind > _COMPRESSED or size > max_block:
            raise _corrupt(blob, feed.position)
        packed = 1 if kind == _RLE else size
        if packed > feed.left:
            raise _corrupt(blob, feed.position)
        feed.skip(packed)
        most += max_block if kind == _COMPRESSED else size
        if header & 1:
            return most
