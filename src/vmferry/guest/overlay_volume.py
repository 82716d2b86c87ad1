"""A volume that may be written: the bytes of a partition or a logical volume on a disk's overlay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vmferry.blob import Buffer, ByteRange
from vmferry.errors import GuestError
from vmferry.extent import check_inside
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.window import Area, SupportsPlaces

_MAX_PIECES = 65_536


class OverlayVolume:
    """One volume of an ``OverlayDisk``, for one thread. Offsets are the volume's own bytes."""

    def __init__(self, overlay: OverlayDisk, pieces: Sequence[ByteRange]) -> None:
        """``pieces``: the ranges of the disk, in the volume's order; of whole sectors, inside the disk."""
        self._overlay = overlay
        self._pieces = tuple(pieces)
        self.size = sum(end - start for start, end in pieces)
        """Bytes."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``. Raises as ``Disk.read_at``."""
        check_inside(self.size, offset, length)
        return b"".join(bytes(self._overlay.read_at(at, count)) for at, count in self._places(offset, length))

    def write_at(self, offset: int, data: Buffer) -> None:
        """Change what is at ``offset``. Raises as ``OverlayDisk.write_at``."""
        check_inside(self.size, offset, len(data))
        view = memoryview(data)
        for at, count in self._places(offset, len(data)):
            self._overlay.write_at(at, view[:count])
            view = view[count:]

    def _places(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Where on the disk ``length`` bytes from ``offset`` lie: ``(guest offset, bytes)``."""
        for start, end in self._pieces:
            if not length:
                return
            if offset >= end - start:
                offset -= end - start
                continue
            count = min(length, end - start - offset)
            yield start + offset, count
            offset, length = 0, length - count


def find_ranges(overlay: OverlayDisk, area: Area) -> list[ByteRange]:
    """Where on ``overlay`` the bytes of ``area`` lie, in order: what an ``OverlayVolume`` is made of.

    Raises ``GuestError`` where they lie in several places at once, in too many pieces, or nowhere.
    """
    found: list[ByteRange] = []
    for start, end in _flatten(overlay, area, 0, area.size):
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
        if len(found) > _MAX_PIECES:
            raise GuestError(f"It lies in more than {_MAX_PIECES:,} pieces, which is not written to here.")
    return found


def _flatten(overlay: OverlayDisk, area: Area, offset: int, length: int) -> Iterator[ByteRange]:
    if offset + length > area.size:
        raise GuestError("It reaches behind the end of what it lies on.")
    if area is overlay:
        yield offset, offset + length
    elif isinstance(area, SupportsPlaces):
        for below, at, count in area.places(offset, length):
            yield from _flatten(overlay, below, at, count)
    else:
        raise GuestError("It does not lie on the disk as it is, which is not written to here.")
