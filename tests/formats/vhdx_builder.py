"""VHDX files from the specification alone, for what QEMU does not write: 4 KiB sectors, snapshots, logs."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import google_crc32c

from tests.hostile.evil_vhdx import header, locator, metadata, regions, usual

MIB = 1 << 20
LOG, METADATA, BAT, DATA = MIB, 2 * MIB, 3 * MIB, 4 * MIB
LOG_ID = b"\7" * 16
DATA_WRITE_ID = b"\2" * 16
"""Of every file built here."""
NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, OLD_UNMAPPED, PRESENT, PARTIAL = 0, 1, 2, 3, 5, 6, 7


@dataclass
class Picture:
    """A VHDX to be built: blocks by number, with their state and content; sectors of partial ones."""

    size: int
    block: int = MIB
    sector: int = 512
    blocks: Mapping[int, tuple[int, bytes]] = field(default_factory=dict)
    own_sectors: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Of each partially present block, the sectors that are its own."""
    parent: Sequence[tuple[str, str]] | None = None
    log: bytes = b""
    log_offset_in_ring: int = 0
    bat_in_file: bool = True

    @property
    def ratio(self) -> int:
        return (1 << 23) * self.sector // self.block

    def entries(self) -> tuple[list[int], list[tuple[int, bytes]]]:
        """The block allocation table, and what lies where in the file."""
        count = -(-self.size // self.block)
        chunks = -(-count // self.ratio)
        table = [0] * (chunks * (self.ratio + 1))
        if self.parent is None:
            table = table[: count + (count - 1) // self.ratio]
        place, stored = DATA, []
        for number, (state, content) in sorted(self.blocks.items()):
            entry = state
            if state in (PRESENT, PARTIAL):
                entry |= place
                stored.append((place, content))
                place += self.block
            table[number + number // self.ratio] = entry
        for chunk in range(chunks):
            bits = bytearray(MIB)
            for number, sectors in self.own_sectors.items():
                if number // self.ratio == chunk:
                    for sector in sectors:
                        bit = number % self.ratio * (self.block // self.sector) + sector
                        bits[bit // 8] |= 1 << bit % 8
            if any(bits):
                table[chunk * (self.ratio + 1) + self.ratio] = place | PRESENT
                stored.append((place, bytes(bits)))
                place += MIB
        return table, stored

    def build(self) -> bytes:
        table, stored = self.entries()
        end = max([place + max(self.block, len(content)) for place, content in stored], default=DATA)
        items = usual(self.size, self.block, 0 if self.parent is None else 2, self.sector)
        if self.parent is not None:
            items = (*items, locator(*self.parent))
        heads = (header(1), header(2)) if not self.log else (header(5, LOG_ID), header(4, LOG_ID))
        parts = [(0, b"vhdxfile" + "tests".encode("utf-16-le")), (64 << 10, heads[0]), (128 << 10, heads[1])]
        parts += [(192 << 10, regions()), (256 << 10, regions()), (METADATA, metadata(*items))]
        if self.bat_in_file:
            parts.append((BAT, struct.pack(f"<{len(table)}Q", *table)))
        data = bytearray(end)
        for place, content in (*parts, *stored):
            data[place : place + len(content)] = content
        for index, byte in enumerate(self.log):
            data[LOG + (self.log_offset_in_ring + index) % MIB] = byte
        return bytes(data)


def linkage(*names: tuple[str, str], data_write_id: bytes = DATA_WRITE_ID) -> list[tuple[str, str]]:
    return [("parent_linkage", "{" + str(uuid.UUID(bytes_le=data_write_id)) + "}"), *names]


def resummed(data: bytearray) -> bytes:
    """``data`` with its checksum made right."""
    data[4:8] = bytes(4)
    data[4:8] = struct.pack("<I", google_crc32c.value(bytes(data)))
    return bytes(data)


def log_entry(
    sequence: int,
    tail: int,
    pages: Mapping[int, bytes] | None = None,
    zeros: Sequence[tuple[int, int]] = (),
    *,
    flushed: int = 0,
    last: int = 0,
) -> bytes:
    """An entry that writes ``pages`` of 4 KiB and ``zeros``."""
    descriptors, sectors = b"", b""
    for place, page in (pages or {}).items():
        descriptors += struct.pack("<4s4s8sQQ", b"desc", page[-4:], page[:8], place, sequence)
        sectors += b"data" + struct.pack("<I", sequence >> 32) + page[8:-4] + struct.pack("<I", sequence & 0xFFFFFFFF)
    for place, length in zeros:
        descriptors += struct.pack("<4sIQQQ", b"zero", 0, length, place, sequence)
    count = len(pages or {}) + len(zeros)
    head = 64 + len(descriptors)
    body = descriptors.ljust(-head % 4096 + len(descriptors), b"\0") + sectors
    fields = (64 + len(body), tail, sequence, count, 0, LOG_ID, flushed, last)
    data = struct.pack("<4sIIIQII16sQQ", b"loge", 0, *fields) + body
    return data[:4] + struct.pack("<I", google_crc32c.value(data)) + data[8:]
