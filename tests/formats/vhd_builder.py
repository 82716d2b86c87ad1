"""VHDs made from the specification's tables alone, sound or with chosen faults."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4
NOWHERE = (1 << 64) - 1
BLOCK = 4096
"""Bytes of a block where a test does not say otherwise: small, so that a few KiB hold many."""


def summed(data: bytearray, place: int) -> bytes:
    """``data`` with its checksum at ``place``."""
    struct.pack_into(">I", data, place, 0)
    struct.pack_into(">I", data, place, 0xFFFFFFFF - sum(data) % (1 << 32))
    return bytes(data)


def footer(
    size: int,
    kind: int = FIXED,
    *,
    data_offset: int | None = None,
    creator: bytes = b"win ",
    chs: tuple[int, int, int] = (65535, 16, 255),
    original: int | None = None,
    uid: bytes = b"U" * 16,
    saved: int = 0,
    version: int = 0x10000,
) -> bytes:
    data = bytearray(512)
    data[0:8] = b"conectix"
    where = data_offset if data_offset is not None else (NOWHERE if kind == FIXED else 512)
    struct.pack_into(">IIQ", data, 8, 2, version, where)
    struct.pack_into(">I4sI4s", data, 24, 12345, creator, 0x000A0000, b"Wi2k")
    struct.pack_into(">QQ", data, 40, size if original is None else original, size)
    struct.pack_into(">HBB", data, 56, *chs)
    struct.pack_into(">I", data, 60, kind)
    data[68:84] = uid
    data[84] = saved
    return summed(data, 64)


def dynamic_header(
    bat_offset: int,
    entries: int,
    block_size: int,
    *,
    parent_id: bytes = bytes(16),
    parent_name: str = "",
    locators: bytes = b"",
) -> bytes:
    data = bytearray(1024)
    data[0:8] = b"cxsparse"
    struct.pack_into(">QQIII", data, 8, NOWHERE, bat_offset, 0x10000, entries, block_size)
    data[40:56] = parent_id
    name = parent_name.encode("utf-16-be")
    data[64 : 64 + len(name)] = name
    data[576 : 576 + len(locators)] = locators
    return summed(data, 36)


def bitmap(sectors: Sequence[bool]) -> bytes:
    """One bit a sector, the first of eight highest, in whole sectors."""
    out = bytearray(-(-len(sectors) // 4096) * 512)
    for index, own in enumerate(sectors):
        if own:
            out[index // 8] |= 1 << (7 - index % 8)
    return bytes(out)


def sparse(
    size: int,
    blocks: Mapping[int, bytes],
    *,
    kind: int = DYNAMIC,
    block_size: int = BLOCK,
    bitmaps: Mapping[int, bytes] | None = None,
    order: Sequence[int] | None = None,
    gap: int = 0,
    header_at: int = 512,
    extra_entries: int = 0,
    uid: bytes = b"U" * 16,
    parent_id: bytes = bytes(16),
    parent_name: str = "",
    locators: bytes = b"",
    creator: bytes = b"win ",
) -> bytes:
    """A dynamic or differencing VHD that holds ``blocks``, in ``order``, with ``gap`` sectors in front of each."""
    count = -(-size // block_size) + extra_entries
    bat = [0xFFFFFFFF] * (-(-count // 128) * 128)
    end = footer(size, kind, data_offset=header_at, uid=uid, creator=creator)
    header = dynamic_header(
        header_at + 1024, count, block_size, parent_id=parent_id, parent_name=parent_name, locators=locators
    )
    data = bytearray(end).ljust(header_at, b"\0") + header
    bat_at = len(data)
    data += bytes(len(bat) * 4)
    whole = bitmap([True] * (block_size // 512))
    for number in order if order is not None else blocks:
        data += b"\xee" * (gap * 512)
        bat[number] = len(data) // 512
        data += (bitmaps or {}).get(number, whole) + blocks[number].ljust(block_size, b"\0")
    struct.pack_into(f">{len(bat)}I", data, bat_at, *bat)
    return bytes(data + end)


def fixed(data: bytes, *, length: int = 512, **facts: int | bytes) -> bytes:
    """A fixed VHD of ``data`` with a footer of ``length`` bytes."""
    uid, creator = facts.get("uid", b"U" * 16), facts.get("creator", b"win ")
    assert isinstance(uid, bytes)
    assert isinstance(creator, bytes)
    return data + footer(len(data), uid=uid, creator=creator)[:length]


def patched(image: bytes, place: int, new: bytes) -> bytes:
    """``image`` with ``new`` at ``place``."""
    return image[:place] + new + image[place + len(new) :]
