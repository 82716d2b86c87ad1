"""COWD and seSparse extents made by hand, from tables of the formats alone; and descriptors for files beside them."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from tests.formats.vmdk_builder import SECTOR, Image

ENTRIES = 4096
GRAIN = 4096
UNMAPPED = 1 << 60
ZEROED = 2 << 60


def describe(kind: str, *lines: str, cid: str = "0badf00d", parent: str = "ffffffff", extra: str = "") -> bytes:
    """A stand-alone descriptor with these extent lines."""
    head = f'# Disk DescriptorFile\nversion=1\nCID={cid}\nparentCID={parent}\ncreateType="{kind}"\n{extra}\n'
    return (head + "# Extent description\n" + "\n".join(lines) + "\n\n# The Disk Data Base\n#DDB\n").encode()


def cowd(capacity: int, grains: Mapping[int, bytes], *, grain_sectors: int = 1, reverse: bool = False) -> Image:
    """A COWD of ``capacity`` sectors; tables and grains lie as they come, as on a VMFS that grew."""
    size = grain_sectors * SECTOR
    count = -(-capacity // (ENTRIES * grain_sectors))
    image = Image(bytearray(2048), directory=2048)
    data = image.data
    data += bytes(-(-4 * count // SECTOR) * SECTOR)
    for grain in sorted(grains, reverse=reverse):
        number = grain // ENTRIES
        if number not in image.tables:
            image.tables[number] = len(data)
            struct.pack_into("<I", data, 2048 + 4 * number, len(data) // SECTOR)
            data += bytes(4 * ENTRIES)
        image.grains[grain] = len(data)
        struct.pack_into("<I", data, entry(image, grain), len(data) // SECTOR)
        data += grains[grain].ljust(size, b"\0")
    struct.pack_into("<4s7I", data, 0, b"COWD", 1, 3, capacity, grain_sectors, 4, count, len(data) // SECTOR)
    return image


def entry(image: Image, grain: int, size: int = 4) -> int:
    """Where the table entry of ``grain`` lies."""
    return image.tables[grain // ENTRIES] + size * (grain % ENTRIES)


def sesparse(capacity: int, grains: Mapping[int, bytes | int]) -> Image:
    """A seSparse of ``capacity`` sectors: bytes are stored; a number stands in the table as it is."""
    count = -(-capacity // (ENTRIES * 8))
    directory_sectors = max(1, -(-8 * count // SECTOR))
    used = sorted({grain // ENTRIES for grain in grains})
    tables = 2 + directory_sectors
    first = -(-(tables + 64 * len(used)) // 8) * 8
    image = Image(bytearray(first * SECTOR), directory=2 * SECTOR)
    data = image.data
    for index, number in enumerate(used):
        image.tables[number] = (tables + 64 * index) * SECTOR
        struct.pack_into("<Q", data, image.directory + 8 * number, 1 << 60 | index)
    stored = 0
    for grain in sorted(grains):
        content = grains[grain]
        word = content
        if isinstance(content, bytes):
            image.grains[grain] = len(data)
            data += content.ljust(GRAIN, b"\0")
            word = 3 << 60 | (stored & 0xFFF) << 48 | stored >> 12
            stored += 1
        struct.pack_into("<Q", data, entry(image, grain, 8), word)
    fields = [0xCAFEBABE, 0x200000001, capacity, 8, 64, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 2, directory_sectors]
    fields += [tables, 64 * len(used), 0, 0, 0, 0, first, 8 * stored]
    struct.pack_into("<26Q", data, 0, *fields)
    struct.pack_into("<4Q", data, SECTOR, 0xCAFECAFE, len(used), 1, 0)
    return image
