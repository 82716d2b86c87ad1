"""The indexes of an xz file: where its blocks lie, and how long they are unpacked. Nothing is decoded for it.

An index may lie. Reading finds that out: each block must decode to exactly the length that the index gives, from
exactly the bytes that it gives, and its own checksum must match.

Source: "The .xz File Format", version 1.2.1, sections 2 and 4.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.limits import MAX_UNPACK_STARTS
from vmferry.units import MIB, format_size, round_up
from vmferry.wrappers._unpacked import check_size

STREAM_HEADER = 12
"""Bytes of a stream's header, and of its footer."""
_FOOTER = struct.Struct("<II2s2s")
_FOOTER_MAGIC = b"YZ"
_MAX_INDEX = 16 * MIB
_MAX_STREAMS = 1000
"""Each is found by reading from its end, which takes reads of its own."""
_LONGEST_NUMBER = 9
"""Bytes of a multibyte integer."""


@dataclass(slots=True)
class Blocks:
    """The blocks that hold anything, in order."""

    starts: list[int] = field(default_factory=list)
    """Unpacked offset of each; 0 for the end where there is none."""
    places: list[int] = field(default_factory=list)
    """Offset in the file."""
    lengths: list[int] = field(default_factory=list)
    """Bytes in the file, padding included."""
    headers: list[bytes] = field(default_factory=list)
    """Header of the stream that it belongs to."""
    size: int = 0
    """Unpacked bytes."""


def read_blocks(blob: Blob) -> Blocks:
    """The blocks of all streams of ``blob``. Raises ``CorruptDiskError``, ``UnsafeDiskError``."""
    streams: list[_Stream] = []
    end = _skip_padding(blob, blob.size)
    while end or not streams:
        streams.append(_read_stream(blob, end))
        end = _skip_padding(blob, streams[-1].start)
        if len(streams) > _MAX_STREAMS:
            raise UnsupportedFeatureError(
                f"{quote(blob.name)} consists of more than {_MAX_STREAMS:,} xz streams: unpack it first (unxz)."
            )
        if sum(len(stream.records) for stream in streams) > MAX_UNPACK_STARTS:
            raise UnsafeDiskError(
                f"{quote(blob.name)} consists of more than {MAX_UNPACK_STARTS:,} xz blocks: unpack it first (unxz)."
            )
    blocks = Blocks()
    for stream in reversed(streams):
        _add(blocks, stream)
        check_size(blob.name, blocks.size)
    if not blocks.starts:
        blocks.starts.append(0)
    return blocks


@dataclass(frozen=True, slots=True)
class _Stream:
    start: int
    header: bytes
    records: list[tuple[int, int]]
    """Of each block: its bytes without padding, and unpacked."""


def _add(blocks: Blocks, stream: _Stream) -> None:
    place = stream.start + STREAM_HEADER
    for unpadded, unpacked in stream.records:
        length = round_up(unpadded, 4)
        if unpacked:
            blocks.starts.append(blocks.size)
            blocks.places.append(place)
            blocks.lengths.append(length)
            blocks.headers.append(stream.header)
        place += length
        blocks.size += unpacked


def _corrupt(blob: Blob, what: str, place: int) -> CorruptDiskError:
    return CorruptDiskError(
        f"{quote(blob.name)}: {what} at offset {max(place, 0):,} is not sound. "
        "It is cut short or damaged: pack or upload it again."
    )


def _skip_padding(blob: Blob, end: int) -> int:
    """``end`` without the zeros before it: a stream never ends in one."""
    length = 4096
    while end:
        start = max(0, end - length)
        if left := blob.read_at(start, end - start).rstrip(b"\0"):
            return start + len(left)
        end, length = start, MIB
    return 0


def _read_stream(blob: Blob, end: int) -> _Stream:
    """The stream whose footer ends at ``end``."""
    if end < 2 * STREAM_HEADER or end % 4:
        raise _corrupt(blob, "the end of the xz data", end)
    place = end - STREAM_HEADER
    checksum, backward, flags, magic = _FOOTER.unpack(footer := blob.read_at(place, STREAM_HEADER))
    index_size = (backward + 1) * 4
    if magic != _FOOTER_MAGIC or zlib.crc32(footer[4:10]) != checksum or index_size > place - STREAM_HEADER:
        raise _corrupt(blob, "the xz footer", place)
    if index_size > _MAX_INDEX:
        raise UnsafeDiskError(
            f"{quote(blob.name)}: its xz index takes {format_size(index_size)}, and {format_size(_MAX_INDEX)} at most "
            "are read: unpack it first (unxz)."
        )
    place -= index_size
    records = _read_index(blob, place, index_size)
    start = place - sum(round_up(unpadded, 4) for unpadded, _ in records) - STREAM_HEADER
    if start < 0:
        raise _corrupt(blob, "the xz index", place)
    header = blob.read_at(start, STREAM_HEADER)
    if header[:6] != b"\xfd7zXZ\0" or header[6:8] != flags or zlib.crc32(flags) != int.from_bytes(header[8:], "little"):
        raise _corrupt(blob, "the xz header", start)
    return _Stream(start, header, records)


def _read_index(blob: Blob, place: int, size: int) -> list[tuple[int, int]]:
    index = blob.read_at(place, size)
    if index[0] != 0 or zlib.crc32(index[:-4]) != int.from_bytes(index[-4:], "little"):
        raise _corrupt(blob, "the xz index", place)
    try:
        count, position = _read_number(index, 1)
        if count > size // 2:
            raise _corrupt(blob, "the xz index", place)
        records = []
        for _ in range(count):
            unpadded, position = _read_number(index, position)
            unpacked, position = _read_number(index, position)
            if not 5 <= unpadded <= place:
                raise _corrupt(blob, "the xz index", place)
            records.append((unpadded, unpacked))
    except IndexError:
        raise _corrupt(blob, "the xz index", place) from None
    if round_up(position, 4) + 4 != size or any(index[position:-4]):
        raise _corrupt(blob, "the xz index", place)
    return records


def _read_number(data: bytes, position: int) -> tuple[int, int]:
    """A multibyte integer and the place behind it. Raises ``IndexError`` past the end, or when it is too long."""
    value = 0
    for number in range(_LONGEST_NUMBER):
        byte = data[position + number]
        value |= (byte & 0x7F) << 7 * number
        if not byte & 0x80:
            return value, position + number + 1
    raise IndexError(position)
