"""What packs the slices of a disk, and what stands before and behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, cast

from vmferry.blob import BlobWriter, Buffer
from vmferry.disk import Disk, OrderedDiskWriter, SupportsSlices
from vmferry.formats import FORMATS, SupportsCreate


class Packer(OrderedDiskWriter, SupportsSlices, Protocol):
    """A writer whose slices are packed apart."""


def new_packer(name: str, target: BlobWriter, disk: Disk) -> Packer | None:
    """What packs slices of ``disk`` in the format ``name``; ``None`` where it stores the guest's bytes as they are."""
    made = FORMATS[name]
    assert isinstance(made, SupportsCreate)
    writer = made.create(target, disk.size, disk.extents())
    if isinstance(writer, OrderedDiskWriter):
        assert isinstance(writer, SupportsSlices), f"{name} cannot be packed in slices"
        return cast("Packer", writer)
    return None


@dataclass(slots=True)
class Ends:
    """A ``BlobWriter`` that takes what stands before ``front`` and from ``back`` on."""

    front: int
    back: int
    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)

    def write_at(self, offset: int, data: Buffer) -> None:
        place, part = (offset, self.head) if offset < self.front else (offset - self.back, self.tail)
        assert place >= 0, "what was packed is written already"
        part.extend(bytes(max(place + len(data) - len(part), 0)))
        part[place : place + len(data)] = data

    def set_size(self, size: int) -> None:
        self.tail.extend(bytes(max(size - self.back - len(self.tail), 0)))

    def finish(self) -> None: ...
    def abort(self) -> None: ...
