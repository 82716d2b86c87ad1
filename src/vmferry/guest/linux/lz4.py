"""LZ4 as the kernel's initramfs has it: legacy frames of blocks. No C library of ours reads it.

Source: "LZ4 Block Format Description" and "LZ4 Frame Format Description", legacy frame.
"""

from __future__ import annotations

from vmferry.errors import GuestError
from vmferry.units import MIB

MAGIC = b"\x02\x21\x4c\x18"
MAX_BLOCK = 8 * MIB
"""Bytes that one block of a legacy frame unpacks to, at the most."""
MAX_PACKED_BLOCK = MAX_BLOCK + MAX_BLOCK // 255 + 16
"""Bytes of the longest such block, packed."""
_LEAST_MATCH = 4
_MORE = 15
"""A length that goes on in the next byte."""
_DAMAGED = "its LZ4 data is damaged"


def unpack_block(data: bytes) -> bytearray:
    """One block. Raises ``GuestError`` where it is damaged or unpacks to more than ``MAX_BLOCK``."""
    out = bytearray()
    at, end = 0, len(data)
    try:
        while True:
            token = data[at]
            at += 1
            length = token >> 4
            if length == _MORE:
                length, at = _read_length(data, at)
            if length:
                out += data[at : at + length]
                at += length
            if at >= end:
                if at > end:
                    raise GuestError(_DAMAGED)
                return out
            distance = data[at] | data[at + 1] << 8
            at += 2
            length = token & 15
            if length == _MORE:
                length, at = _read_length(data, at)
            length += _LEAST_MATCH
            start = len(out) - distance
            if start < 0 or not distance or start + distance + length > MAX_BLOCK:
                raise GuestError(_DAMAGED)
            if length <= distance:
                out += out[start : start + length]
            else:
                repeat_end(out, distance, length)
    except IndexError:
        raise GuestError(_DAMAGED) from None


def repeat_end(out: bytearray, distance: int, length: int) -> None:
    """Append ``length`` bytes to ``out``, more than ``distance``: its last ``distance`` bytes again and again."""
    out += (out[-distance:] * (length // distance + 1))[:length]


def _read_length(data: bytes, at: int) -> tuple[int, int]:
    """A length beyond 14, whose bytes begin at ``at``, and where it ends."""
    length = _MORE
    while (more := data[at]) == 255:
        length += 255
        at += 1
    return length + more, at + 1
