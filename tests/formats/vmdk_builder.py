"""VMDK files made by hand: every layout that products write and ``qemu-img`` does not, and places to damage."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

SECTOR = 512
TABLE_ENTRIES = 512
AT_END = (1 << 64) - 1
HEADER = struct.Struct("<4sIIQQQQIQQQB4sH")
FIELDS = [
    "magic",
    "version",
    "flags",
    "capacity",
    "grain",
    "descriptor_offset",
    "descriptor_size",
    "entries",
    "rgd",
    "gd",
    "overhead",
    "unclean",
    "ends",
    "method",
]

DESCRIPTOR = b"""# Disk DescriptorFile
version=1
CID=0badf00d
parentCID=ffffffff
createType="%s"

# Extent description
RDONLY 4096 SPARSE "generated-stream.vmdk"

# The Disk Data Base
#DDB
ddb.adapterType = "lsilogic"
"""


def stream_descriptor() -> bytes:
    return DESCRIPTOR % b"streamOptimized"


@dataclass
class Image:
    """A finished file and where its parts lie (bytes)."""

    data: bytearray
    directory: int = 0
    redundant: int = 0
    footer: int = 0
    tables: dict[int, int] = field(default_factory=dict)
    grains: dict[int, int] = field(default_factory=dict)

    def patch(self, offset: int, layout: str, *values: int | bytes) -> None:
        struct.pack_into("<" + layout, self.data, offset, *values)

    def patch_header(self, **changes: int | bytes) -> None:
        _patch(self.data, 0, changes)

    def patch_footer(self, **changes: int | bytes) -> None:
        _patch(self.data, self.footer, changes)

    def entry(self, grain: int) -> int:
        """Where the table entry of ``grain`` lies."""
        return self.tables[grain // TABLE_ENTRIES] + 4 * (grain % TABLE_ENTRIES)


@dataclass(frozen=True)
class Layout:
    """How a product lays a file out. ``place``: the directory in front, at the end, or found by the footer."""

    place: str = "footer"
    compressed: bool = True
    version: int = 3
    grain_sectors: int = 128
    redundant: bool = False
    redundant_only: bool = False
    zero_flag: bool = False
    all_tables: bool = False
    progress: int = 0
    table_marker_value: int = 4
    padding: int = 0
    short_last: bool = False
    descriptor: bytes | None = None
    descriptor_sectors: int = 2
    reverse: bool = False
    compress: Callable[[bytes], bytes] = zlib.compress

    @property
    def flags(self) -> int:
        has_redundant = self.redundant or self.redundant_only
        return 1 | has_redundant << 1 | self.zero_flag << 2 | (0x30000 if self.compressed else 0)


def build(
    capacity: int, grains: Mapping[int, bytes | None], layout: Layout | None = None, zero_tables: Iterable[int] = ()
) -> Image:
    """A file of ``capacity`` sectors with ``grains``: bytes are stored, ``None`` becomes an entry of 1 (zeros)."""
    return _Writer(capacity, grains, layout or Layout(), set(zero_tables)).write()


class _Writer:
    def __init__(self, capacity: int, grains: Mapping[int, bytes | None], layout: Layout, zero: set[int]) -> None:
        self.capacity, self.grains, self.layout, self.zero = capacity, grains, layout, zero
        self.count = -(-capacity // (layout.grain_sectors * TABLE_ENTRIES))
        self.image = Image(bytearray())
        self.entries = {n: [0] * TABLE_ENTRIES for n in range(self.count) if layout.all_tables or self._used(n)}

    def _used(self, table: int) -> bool:
        return any(grain // TABLE_ENTRIES == table for grain in self.grains)

    def write(self) -> Image:
        data, layout = self.image.data, self.layout
        data += bytes(SECTOR)
        descriptor = stream_descriptor() if layout.compressed else DESCRIPTOR % b"monolithicSparse"
        data += (descriptor if layout.descriptor is None else layout.descriptor).ljust(
            layout.descriptor_sectors * SECTOR, b"\0"
        )
        if layout.place == "front":
            self._front()
        else:
            self._stream()
        _pad(data, 1)
        return self.image

    def _front(self) -> None:
        data, image = self.image.data, self.image
        if self.layout.redundant or self.layout.redundant_only:
            image.redundant = self._reserve_tables()
        if not self.layout.redundant_only:
            image.directory = self._reserve_tables()
        _pad(data, 128)
        for grain in sorted(self.grains, reverse=self.layout.reverse):
            self._grain(grain)
        for start in filter(None, (image.redundant, image.directory)):
            place = start + _sectors(4 * self.count) * SECTOR
            for number in range(self.count):
                if number in self.entries:
                    image.tables[number] = place
                    struct.pack_into("<I", data, start + 4 * number, place // SECTOR)
                    struct.pack_into("<512I", data, place, *self.entries[number])
                    place += 4 * SECTOR
                elif number in self.zero:
                    struct.pack_into("<I", data, start + 4 * number, 1)
        self._header(0, image.directory // SECTOR)

    def _reserve_tables(self) -> int:
        start = len(self.image.data)
        self.image.data += bytes((_sectors(4 * self.count) + 4 * len(self.entries)) * SECTOR)
        return start

    def _stream(self) -> None:
        data, image, layout = self.image.data, self.image, self.layout
        _pad(data, 128)
        for _ in range(layout.progress):
            self._marker(0, 4)
        directory = [1 if number in self.zero else 0 for number in range(self.count)]
        for number, entries in self.entries.items():
            for grain in sorted((g for g in self.grains if g // TABLE_ENTRIES == number), reverse=layout.reverse):
                self._grain(grain)
            self._marker(layout.table_marker_value, 1)
            image.tables[number] = len(data)
            directory[number] = len(data) // SECTOR
            data += struct.pack("<512I", *entries)
        self._marker(_sectors(4 * self.count), 2)
        image.directory = len(data)
        data += struct.pack(f"<{self.count}I", *directory)
        _pad(data, 1)
        if layout.place == "footer":
            self._marker(1, 3)
            image.footer = len(data)
            data += bytes(SECTOR)
            self._header(image.footer, image.directory // SECTOR)
        self._header(0, AT_END if layout.place == "footer" else image.directory // SECTOR)
        self._marker(0, 0)
        data += bytes(layout.padding)

    def _grain(self, grain: int) -> None:
        data, layout = self.image.data, self.layout
        content = self.grains[grain]
        self.entries[grain // TABLE_ENTRIES][grain % TABLE_ENTRIES] = len(data) // SECTOR if content is not None else 1
        if content is None:
            return
        self.image.grains[grain] = len(data)
        rest = (self.capacity - grain * layout.grain_sectors) * SECTOR
        size = min(layout.grain_sectors * SECTOR, rest) if layout.short_last else layout.grain_sectors * SECTOR
        content = content[:size].ljust(size, b"\0")
        if layout.compressed:
            stream = layout.compress(content)
            data += struct.pack("<QI", grain * layout.grain_sectors, len(stream)) + stream
        else:
            data += content
        _pad(data, 1)

    def _marker(self, value: int, kind: int) -> None:
        self.image.data += struct.pack("<QII", value, 0, kind).ljust(SECTOR, b"\0")

    def _header(self, offset: int, directory: int) -> None:
        layout = self.layout
        values = (b"KDMV", layout.version, layout.flags, self.capacity, layout.grain_sectors)
        places = (1 if layout.descriptor_sectors else 0, layout.descriptor_sectors, TABLE_ENTRIES)
        tail = (self.image.redundant // SECTOR, directory, 128, 0, b"\n \r\n", int(layout.compressed))
        HEADER.pack_into(self.image.data, offset, *values, *places, *tail)


def _sectors(size: int) -> int:
    return -(-size // SECTOR)


def _pad(data: bytearray, sectors: int) -> None:
    data += bytes(-len(data) % (sectors * SECTOR))


def _patch(data: bytearray, offset: int, changes: Mapping[str, int | bytes]) -> None:
    values = dict(zip(FIELDS, HEADER.unpack_from(data, offset), strict=True)) | dict(changes)
    HEADER.pack_into(data, offset, *values.values())
