"""LVM2: the volume groups on a machine's physical volumes, and the bytes of their logical volumes.

Source: LVM2, lib/format_text (layout.h, export.c) and lvmraid(7). Linear and striped volumes are read, and those that
are mirrored by one of their copies; thin, cached, encrypted and parity volumes are named and refused.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vmferry.errors import GuestError, quote
from vmferry.guest.lvm_text import parse_metadata
from vmferry.guest.window import Area, Place, check_range
from vmferry.limits import MAX_GUEST_VOLUMES, MAX_LVM_METADATA, MAX_LVM_SEGMENTS
from vmferry.units import SECTOR

_MAGIC = b" LVM2 x[5A%r0N*>"
_CRC = 0xF597A6CF
_MIRRORED = {"mirror": "mirrors", "raid1": "raids"}
_MAX_DEPTH = 8
_MAX_SIZE = 1 << 60
"""Bytes of a logical volume: an EiB."""


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """An area that LVM uses. ``place`` is a volume's."""

    place: str
    area: Area


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """One that a system can mount."""

    name: str
    size: int
    area: Area | None
    """``None`` where it cannot be read; ``problem`` says why."""
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class VolumeGroup:
    """One group, as the newest metadata on its physical volumes has it."""

    name: str
    places: tuple[str, ...]
    """Of the physical volumes that are there."""
    volumes: tuple[LogicalVolume, ...] = ()
    problem: str | None = None
    """What keeps it from being whole: a sentence."""


class _LvmError(Exception):
    """Metadata that is not sound, or asks for what is not read; the text is a sentence."""


def find_groups(physical: Sequence[PhysicalVolume]) -> list[VolumeGroup]:
    """The groups on ``physical``; none is left out because it is damaged. Raises as the areas."""
    found: dict[str, tuple[int, str, Mapping[str, Any]]] = {}
    by_id: dict[str, PhysicalVolume] = {}
    members: dict[str, list[str]] = {}
    damaged = []
    for volume in physical:
        try:
            identifier, name, metadata = _read_label(volume.area)
        except _LvmError as error:
            damaged.append(VolumeGroup("", (volume.place,), problem=str(error)))
            continue
        by_id.setdefault(identifier, volume)
        if not metadata:
            continue  # without a group, or with its metadata on the others
        key = str(metadata.get("id", name))
        members.setdefault(key, []).append(volume.place)
        number = _number(metadata, "seqno", 1 << 62)
        if key not in found or number > found[key][0]:
            found[key] = (number, name, metadata)
    return [_Group(name, metadata, by_id).describe() for _, name, metadata in found.values()] + damaged


class _Group:
    """The metadata of one group, and where its physical volumes are."""

    def __init__(self, name: str, metadata: Mapping[str, Any], by_id: Mapping[str, PhysicalVolume]) -> None:
        self._name = name
        self._extent = _number(metadata, "extent_size", 1 << 32) * SECTOR
        self._logical = _section(metadata, "logical_volumes")
        self._physical = _section(metadata, "physical_volumes")
        self._there = {
            key: volume
            for key, entry in self._physical.items()
            if isinstance(entry, dict) and (volume := by_id.get(str(entry.get("id", "")).replace("-", "")))
        }
        self._origins = frozenset(self._find_origins())
        self._areas: dict[str, _LogicalArea | str] = {}
        """Logical volumes by name; of those that are not read, why."""

    def _find_origins(self) -> Iterator[str]:
        """The volumes whose old content snapshots keep where it is overwritten, and nowhere else."""
        for name in list(self._logical)[:MAX_GUEST_VOLUMES]:
            for segment in self._segments(name):
                yield from (str(segment[word]) for word in ("origin", "external_origin") if word in segment)

    def describe(self) -> VolumeGroup:
        places = tuple(volume.place for volume in self._there.values())
        visible = [name for name, entry in self._logical.items() if "VISIBLE" in _words(entry, "status")]
        if self._extent <= 0:
            return VolumeGroup(self._name, places, problem=f"The volume group {quote(self._name)} has no extent size.")
        volumes = tuple(self._open(name) for name in visible[:MAX_GUEST_VOLUMES])
        return VolumeGroup(self._name, places, volumes, self._lack())

    def _lack(self) -> str | None:
        missing = [entry for key, entry in self._physical.items() if key not in self._there]
        if not missing:
            return None
        devices = ", ".join(quote(entry.get("device", "?")) for entry in missing[:8] if isinstance(entry, dict))
        return (
            f"The volume group {quote(self._name)} lacks {len(missing)} of its {len(self._physical)} physical volumes "
            f"(last seen as {devices}): another disk of this machine is needed."
        )

    def _open(self, name: str) -> LogicalVolume:
        try:
            area = self._area(name, 0)
        except _LvmError as error:
            return LogicalVolume(name, self._size(name), None, str(error))
        return LogicalVolume(name, area.size, area)

    def _size(self, name: str) -> int:
        return sum(_number(segment, "extent_count", 1 << 40) for segment in self._segments(name)) * self._extent

    def _segments(self, name: str) -> list[Mapping[str, Any]]:
        entry = _section(self._logical, name)
        count = _number(entry, "segment_count", MAX_LVM_SEGMENTS)
        return [_section(entry, f"segment{number}") for number in range(1, count + 1)]

    def _area(self, name: str, depth: int) -> _LogicalArea:
        """The bytes of the volume ``name``, put together once: others may be made of it, many times over."""
        if depth >= _MAX_DEPTH:
            raise _too_deep(name)
        if name not in self._areas:
            self._areas[name] = f"The logical volume {quote(name)} is made of itself."  # should it be met below
            self._areas[name] = self._put_together(name, depth)
        found = self._areas[name]
        if isinstance(found, str):
            raise _LvmError(found)
        return found

    def _put_together(self, name: str, depth: int) -> _LogicalArea | str:
        try:
            area = _LogicalArea(list(self._pieces(name, depth)), self._size(name), is_origin=name in self._origins)
            if area.depth > _MAX_DEPTH:
                raise _too_deep(name)
            if area.size > _MAX_SIZE:
                raise _LvmError(f"The logical volume {quote(name)} is larger than a volume can be.")
        except _LvmError as error:
            return str(error)
        return area

    def _pieces(self, name: str, depth: int) -> Iterator[_Piece]:
        """The pieces of the volume ``name``, in its order."""
        at = 0
        for segment in self._segments(name):
            length = _number(segment, "extent_count", 1 << 40) * self._extent
            kind = str(segment.get("type", ""))
            if kind in _MIRRORED:
                copy = self._copy(name, segment, length, depth)
                yield _Piece(at, length, (_Stripe(copy, 0),), length)
            elif kind == "striped":
                yield self._striped(name, segment, at, length)
            else:
                raise _LvmError(
                    f"The logical volume {quote(f'{self._name}/{name}')} is of type {quote(kind)}, which is not read."
                )
            at += length

    def _copy(self, name: str, segment: Mapping[str, Any], length: int, depth: int) -> _LogicalArea:
        """One whole copy of a mirrored segment of ``length`` bytes: the first that can be read."""
        words = _list(segment, _MIRRORED[str(segment["type"])])
        names = [word for word in words if isinstance(word, str) and "_rmeta" not in word]
        failure = _LvmError(f"The logical volume {quote(name)} has no copies.")
        for copy in names[:16]:
            try:
                area = self._area(copy, depth + 1)
            except _LvmError as error:
                failure = error
                continue
            if area.size >= length:
                return area
            failure = _LvmError(f"The logical volume {quote(copy)} is shorter than what it is a copy of.")
        raise failure

    def _striped(self, name: str, segment: Mapping[str, Any], at: int, length: int) -> _Piece:
        places = _list(segment, "stripes")
        stripes = []
        for key, extent in zip(places[::2], places[1::2], strict=False):
            volume = self._there.get(key) if isinstance(key, str) else None
            if volume is None:
                raise _LvmError(f"{self._lack() or 'The group is damaged'} {quote(name)} lies on it.")
            if not isinstance(extent, int) or extent < 0:
                raise _LvmError(f"The logical volume {quote(name)} is damaged: a stripe begins nowhere.")
            first = _number(_section(self._physical, str(key)), "pe_start", 1 << 53) * SECTOR
            stripes.append(_Stripe(volume.area, first + extent * self._extent))
        width = _number(segment, "stripe_size", 1 << 32) * SECTOR if len(stripes) > 1 else length
        if not stripes or width <= 0:
            raise _LvmError(f"The logical volume {quote(name)} is damaged: a segment has no stripes.")
        return _Piece(at, length, tuple(stripes), width)


def _too_deep(name: str) -> _LvmError:
    return _LvmError(f"The logical volume {quote(name)} is a copy of a copy, over more than {_MAX_DEPTH} volumes.")


@dataclass(frozen=True, slots=True)
class _Stripe:
    area: Area
    start: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """``length`` bytes from ``start``, dealt out in pieces of ``width`` to the stripes in turn."""

    start: int
    length: int
    stripes: tuple[_Stripe, ...]
    width: int


class _LogicalArea:
    """The bytes of a logical volume; what its physical volume does not hold reads as zeros."""

    def __init__(self, pieces: Sequence[_Piece], size: int, *, is_origin: bool = False) -> None:
        """``is_origin``: there are snapshots of it, which are not told of what is written to it here."""
        self._is_origin = is_origin
        self._pieces = pieces
        self._starts = [piece.start for piece in pieces]
        self.size = size
        below = (stripe.area for piece in pieces for stripe in piece.stripes)
        self.depth: int = 1 + max((area.depth for area in below if isinstance(area, _LogicalArea)), default=0)
        """How many volumes lie over one another."""

    def read_at(self, offset: int, length: int) -> bytes:
        return b"".join(_read(area, at, count) for area, at, count in self._places(offset, length))

    def places(self, offset: int, length: int) -> Iterator[Place]:
        """As ``SupportsPlaces``."""
        if self._is_origin:
            raise GuestError(
                "It is a logical volume with a snapshot, which would be damaged where it is written to: remove the "
                "snapshot on the guest (lvremove), or merge it (lvconvert --merge)."
            )
        for area, at, count in self._places(offset, length):
            if isinstance(area, _LogicalArea):
                raise GuestError("It is a mirrored logical volume, which is not written to here.")
            yield area, at, count

    def _places(self, offset: int, length: int) -> Iterator[Place]:
        check_range(self, offset, length)
        while length:
            piece = self._pieces[bisect_right(self._starts, offset) - 1]
            row, inside = divmod(offset - piece.start, piece.width)
            count = min(length, piece.width - inside, piece.start + piece.length - offset)
            depth, index = divmod(row, len(piece.stripes))
            stripe = piece.stripes[index]
            yield stripe.area, stripe.start + depth * piece.width + inside, count
            offset, length = offset + count, length - count


def _read(area: Area, offset: int, length: int) -> bytes:
    count = max(min(length, area.size - offset), 0)
    return (bytes(area.read_at(offset, count)) if count else b"").ljust(length, b"\0")


def _read_label(area: Area) -> tuple[str, str, Mapping[str, Any]]:
    """The identifier of a physical volume, the name of its group and the group's metadata; both empty where it holds
    none."""
    sectors = _read(area, 0, 4 * SECTOR)
    at = next(sector for sector in range(0, 4 * SECTOR, SECTOR) if sectors.startswith(b"LABELONE", sector))
    start = at + struct.unpack_from("<I", sectors, at + 20)[0]
    header = sectors[start : start + 40 + 16 * 32]
    if len(header) < 72:
        raise _LvmError("The header of the LVM physical volume is damaged.")
    identifier = header[:32].decode("ascii", "replace")
    areas = [struct.unpack_from("<QQ", header, place) for place in range(40, len(header) - 15, 16)]
    end = areas.index((0, 0)) if (0, 0) in areas else len(areas)
    rest = areas[end + 1 :]
    metadata = rest[: rest.index((0, 0))] if (0, 0) in rest else rest
    for offset, size in metadata[:2]:
        found = _read_metadata(area, offset, size)
        if found is not None:
            return identifier, *found
    return identifier, "", {}


def _read_metadata(area: Area, offset: int, size: int) -> tuple[str, Mapping[str, Any]] | None:
    """The group in one metadata area, or ``None`` where there is none. The area is a ring behind its header."""
    header = _read(area, offset, SECTOR)
    place, length, checksum, flags = struct.unpack_from("<QQII", header, 40)
    if header[4:20] != _MAGIC:
        raise _LvmError("The LVM metadata area has no header.")
    if not length or flags & 1:
        return None
    if length > min(MAX_LVM_METADATA, size) or not SECTOR <= place < size:
        raise _LvmError(f"The LVM metadata claims {length:,} bytes; at most {MAX_LVM_METADATA:,} are read.")
    first = min(length, size - place)
    data = _read(area, offset + place, first) + _read(area, offset + SECTOR, length - first)
    if zlib.crc32(data, _CRC ^ 0xFFFFFFFF) ^ 0xFFFFFFFF != checksum:
        raise _LvmError("The LVM metadata is damaged: its checksum is wrong.")
    try:
        for name, group in parse_metadata(data.decode("utf-8", "replace")).items():
            if isinstance(group, dict):
                return name, group
    except ValueError as error:
        raise _LvmError(f"The LVM metadata is damaged: {quote(error)}.") from error
    return None


def _section(metadata: Any, name: str) -> Mapping[str, Any]:
    section = metadata.get(name, {}) if isinstance(metadata, dict) else {}
    return section if isinstance(section, dict) else {}


def _number(section: Mapping[str, Any], name: str, most: int) -> int:
    """The number ``name``; 0 where it is missing or makes no sense."""
    value = section.get(name)
    return value if isinstance(value, int) and 0 <= value <= most else 0


def _list(section: Mapping[str, Any], name: str) -> list[Any]:
    value = section.get(name)
    return value if isinstance(value, list) else []


def _words(section: Any, name: str) -> list[Any]:
    return _list(section, name) if isinstance(section, dict) else []
