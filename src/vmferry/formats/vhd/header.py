"""The dynamic disk header and the block allocation table (BAT) of dynamic and differencing VHDs.

Source: Microsoft, *Virtual Hard Disk Image Format Specification* 1.0, "Dynamic Disk Header Format", "Block Allocation
Table and Data Blocks". The parent locators name files of the machine that wrote them; they are never read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, quote
from vmferry.formats._block_table import UNALLOCATED, Entries, ascending
from vmferry.formats.vhd import FOOTER_LENGTH
from vmferry.formats.vhd.footer import NOWHERE, Footer, FoundFooter, checksum
from vmferry.limits import MAX_BLOCK_SIZE, MAX_BLOCK_TABLE
from vmferry.units import KIB, MIB, SECTOR, format_size, round_up

COOKIE = b"cxsparse"
LENGTH = 1024
BLOCK_SIZE = 2 * MIB
"""Of nearly all files, and of those made here."""

_FORM = struct.Struct(">8sQQIIII16sII512s")
_CHECKSUM = 36
_VERSION = 0x0001_0000
_MIN_BLOCK_SIZE = 4 * KIB


@dataclass(frozen=True, slots=True)
class DynamicHeader:
    """What the header says, and what follows from it; sizes and offsets in bytes."""

    bat_offset: int
    max_entries: int
    block_size: int
    parent_id: bytes = bytes(16)
    """The unique id in the parent's footer."""
    parent_name: str = ""
    """What the parent was called when the disk was made. A stranger's words."""

    @property
    def bitmap_size(self) -> int:
        """Of the sector bitmap in front of each block, in whole sectors."""
        return round_up(-(-self.block_size // SECTOR // 8), SECTOR)

    def pack(self) -> bytes:
        """The header's 1024 bytes, with their checksum and no parent."""
        fields = (
            COOKIE,
            NOWHERE,
            self.bat_offset,
            _VERSION,
            self.max_entries,
            self.block_size,
            0,
            bytes(16),
            0,
            0,
            b"",
        )
        data = bytearray(_FORM.pack(*fields).ljust(LENGTH, b"\0"))
        struct.pack_into(">I", data, _CHECKSUM, checksum(data, _CHECKSUM))
        return bytes(data)


def read_header(blob: Blob, found: FoundFooter) -> DynamicHeader:
    """The dynamic header that the footer points to, checked. Raises ``CorruptDiskError``, ``UnsafeDiskError``."""
    offset = found.footer.data_offset
    if offset + LENGTH > found.data_end:
        raise corrupt(blob, f"its dynamic header cannot begin at host offset {offset:#x}")
    data = blob.read_at(offset, LENGTH)
    cookie, _, bat_offset, version, entries, block_size, stored, parent_id, _, _, name = _FORM.unpack_from(data)
    if cookie != COOKIE:
        raise corrupt(blob, f"there is no dynamic header at host offset {offset:#x}")
    if checksum(data, _CHECKSUM) != stored:
        raise corrupt(blob, "its dynamic header has a wrong checksum")
    if version >> 16 != _VERSION >> 16:
        raise corrupt(blob, f"its dynamic header is of version {version >> 16}.{version & 0xFFFF}, not 1.0")
    header = DynamicHeader(bat_offset, entries, block_size, parent_id, _decode(name))
    _check(blob, found, header)
    return header


def read_bat(blob: Blob, found: FoundFooter, header: DynamicHeader) -> Entries:
    """The entries of the disk's blocks: the sector of each block's bitmap, ``UNALLOCATED`` for blocks not in the file.

    Every block lies inside the file, apart from all others and from the tables.
    """
    footer = found.footer
    count = -(-footer.current_size // header.block_size)
    entries = np.frombuffer(blob.read_at(header.bat_offset, count * 4), ">u4").astype(np.uint32)
    _check_blocks(blob, found, header, entries)
    return entries


def corrupt(blob: Blob, what: str) -> CorruptDiskError:
    """The error that says ``what`` is wrong with ``blob``."""
    return CorruptDiskError(f"vhd: {quote(blob.name)} is damaged: {what}. Export or upload it again.")


def _decode(name: bytes) -> str:
    """The parent's name, which is UTF-16 with zeros behind it."""
    return name.decode("utf-16-be", "replace").split("\0", 1)[0]


def _check(blob: Blob, found: FoundFooter, header: DynamicHeader) -> None:
    size, block_size, entries = found.footer.current_size, header.block_size, header.max_entries
    if block_size & (block_size - 1) or not _MIN_BLOCK_SIZE <= block_size <= MAX_BLOCK_SIZE:
        raise corrupt(
            blob,
            f"its block size is {block_size:,} bytes, not a power of two from 4 KiB to {format_size(MAX_BLOCK_SIZE)}",
        )
    needed = -(-size // block_size)
    if entries < needed:
        raise corrupt(
            blob, f"its block allocation table has {entries:,} entries, but {format_size(size)} need {needed:,}"
        )
    if needed * 4 > MAX_BLOCK_TABLE:
        raise UnsafeDiskError(
            f"vhd: {quote(blob.name)} needs a block allocation table of {format_size(needed * 4)}; at most "
            f"{format_size(MAX_BLOCK_TABLE)} are read. Convert it to larger blocks where it was made."
        )
    if header.bat_offset + entries * 4 > found.data_end:
        raise corrupt(
            blob,
            f"its block allocation table, {entries:,} entries at host offset {header.bat_offset:#x}, goes past the end "
            f"of the file ({blob.size:,} bytes)",
        )
    places = sorted(_tables(found.footer, header))
    if any(after < before + length for (before, length), (after, _) in pairwise(places)):
        raise corrupt(blob, "its footer, dynamic header and block allocation table lie upon each other")


def _tables(footer: Footer, header: DynamicHeader) -> tuple[tuple[int, int], ...]:
    """Host offset and length of all that is no block and lies before the end of the file's data."""
    return (
        (0, FOOTER_LENGTH),
        (footer.data_offset, LENGTH),
        (header.bat_offset, header.max_entries * 4),
    )


def _check_blocks(blob: Blob, found: FoundFooter, header: DynamicHeader, entries: Entries) -> None:
    hosts = ascending(entries[entries != UNALLOCATED])
    if not hosts.size:
        return
    stride = (header.bitmap_size + header.block_size) // SECTOR
    if bool((np.diff(hosts) < stride).any()):
        raise UnsafeDiskError(
            f"vhd: in {quote(blob.name)} two blocks of the disk lie upon each other in the file, as no program writes "
            "them. The file is corrupt or an attack: export it again."
        )
    highest = int(hosts[-1])
    length = stride * SECTOR
    if highest == int(entries[-1]):  # only so much of the disk's last block must be there as the disk needs
        length -= len(entries) * header.block_size - found.footer.disk_size
    if highest * SECTOR + length > found.data_end:
        raise corrupt(
            blob,
            f"a block that begins at host offset {highest * SECTOR:#x} goes past the end of the data at "
            f"{found.data_end:,}: the file was cut short",
        )
    for start, taken in _tables(found.footer, header):
        index = int(np.searchsorted(hosts, (start + taken - 1) // SECTOR, "right"))  # blocks that begin before its end
        if index and int(hosts[index - 1]) + stride > start // SECTOR:
            raise UnsafeDiskError(
                f"vhd: in {quote(blob.name)} the block at host offset {int(hosts[index - 1]) * SECTOR:#x} lies upon "
                f"the tables at {start:#x}. The file is corrupt or an attack: export it again."
            )
