"""The volumes of a machine: partitions, whole disks, logical volumes, mirrors; and what stands in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from vmferry.errors import FormatError, GuestError
from vmferry.guest.facts import VolumeFacts
from vmferry.guest.lvm import LogicalVolume, PhysicalVolume, VolumeGroup, find_groups
from vmferry.guest.partitions import Partition, is_extended, read_partition_table
from vmferry.guest.superblocks import Contents, recognise
from vmferry.guest.superblocks.raid import find_member
from vmferry.guest.window import Area, MirroredSlice, Slice
from vmferry.limits import MAX_GUEST_VOLUMES

_BY_TYPE = {
    "42": "ldm",
    "5808c8aa-7e8f-42e0-85d2-e904be3d7b3a": "ldm",
    "af9b60a0-1431-4f62-bc68-3311714a69ad": "ldm",
    "e75caf8f-f680-4cee-afa3-b001e56efc2d": "storage-spaces",
    "516e7cb6-6ecf-11d6-8ff8-00022d09712b": "ufs",
    "516e7cba-6ecf-11d6-8ff8-00022d09712b": "zfs",
    "516e7cb5-6ecf-11d6-8ff8-00022d09712b": "swap",
    "a5": "bsd",
    "a6": "bsd",
    "a9": "bsd",
}
"""What a partition's type says of it, where nothing in it does."""
_LAYERS = {
    "luks1": "It is encrypted with LUKS1: what is in it cannot be looked at.",
    "luks2": "It is encrypted with LUKS2: what is in it cannot be looked at.",
    "bitlocker": "It is encrypted with BitLocker (-FVE-FS-): what is in it cannot be looked at.",
    "ldm": "It belongs to a dynamic disk (LDM), whose volumes are not read.",
    "storage-spaces": "It belongs to a pool of Storage Spaces, which is not read.",
}


@dataclass(frozen=True, slots=True)
class Volume:
    """A place that a file system may stand in, and its bytes."""

    facts: VolumeFacts
    area: Area | None
    """``None`` where it cannot be read: its ``problem`` says why."""
    type: str | None = None
    """The partition's, as its table has it."""
    last_used: int = 0
    """Seconds since 1970 when it was last mounted or written to, where its superblock tells; else 0."""


def find_volumes(disks: Sequence[Area], report: Callable[[str], None]) -> list[Volume]:
    """The volumes on ``disks``, in the order of disks and partitions, then those of arrays and volume groups.

    At most ``MAX_GUEST_VOLUMES``. ``report`` takes what was left out, a sentence each. Damaged contents give problems
    of volumes. Raises ``GuestError`` when nothing more can be read; ``StoreError``, ``UnsafeDiskError`` as the disks.
    """
    volumes = [volume for number, disk in enumerate(disks, 1) for volume in _on_disk(number, disk)]
    volumes += list(_mirrors(volumes))
    volumes = _with_groups(volumes)
    if len(volumes) > MAX_GUEST_VOLUMES:
        report(f"The machine has {len(volumes):,} volumes; the first {MAX_GUEST_VOLUMES:,} were looked at.")
    return volumes[:MAX_GUEST_VOLUMES]


def _on_disk(number: int, disk: Area) -> Iterator[Volume]:
    whole = VolumeFacts(f"disk {number}", number, start=0, size=disk.size)
    try:
        table = read_partition_table(disk)
    except FormatError as error:
        yield Volume(replace(whole, problem=str(error)), None)
        return
    if not table.partitions:
        yield _look(whole, disk)
        return
    for partition in table.partitions[:MAX_GUEST_VOLUMES]:
        if not is_extended(partition):
            yield _look(_partition_facts(number, partition), Slice(disk, partition.start, partition.size), partition)


def _partition_facts(disk: int, partition: Partition) -> VolumeFacts:
    return VolumeFacts(
        f"disk {disk}, partition {partition.number}",
        disk,
        partition.number,
        start=partition.start,
        size=partition.size,
        partition_uuid=partition.uuid,
    )


def _look(facts: VolumeFacts, area: Area, partition: Partition | None = None) -> Volume:
    """``facts`` with what stands in ``area``."""
    try:
        contents = recognise(area)
    except (FormatError, GuestError) as error:
        return Volume(replace(facts, problem=str(error)), None)
    by_type = _BY_TYPE.get(partition.kind) if partition else None
    contents = contents or Contents(by_type)
    return Volume(
        replace(
            facts,
            kind=contents.kind,
            label=contents.label,
            uuid=contents.uuid,
            free=contents.free,
            free_inodes=contents.free_inodes,
            dirty=contents.dirty,
            features=contents.features,
            problem=contents.problem or _LAYERS.get(contents.kind or ""),
        ),
        area,
        partition.kind if partition else None,
        contents.last_used,
    )


def _mirrors(volumes: Sequence[Volume]) -> Iterator[Volume]:
    """What the arrays show of which every member holds all, from its first byte on: read through the first one."""
    seen = set()
    for volume in volumes:
        member = find_member(volume.area) if volume.facts.kind == "raid" and volume.area else None
        if member is None or not member.is_mirror_in_the_open or member.uuid in seen or volume.area is None:
            continue
        seen.add(member.uuid)
        size = min(member.size, volume.area.size)
        facts = VolumeFacts(member.name, volume.facts.disk, start=volume.facts.start, size=size)
        yield _look(facts, MirroredSlice(volume.area, 0, size))


def _with_groups(volumes: list[Volume]) -> list[Volume]:
    """``volumes`` and those of the volume groups on them; what a group lacks is told of its physical volumes."""
    physical = [
        PhysicalVolume(volume.facts.place, volume.area)
        for volume in volumes
        if volume.facts.kind == "lvm" and volume.area
    ]
    groups = find_groups(physical)
    problems = {place: group.problem for group in groups for place in group.places if group.problem}
    disks = {volume.facts.place: volume.facts.disk for volume in volumes}
    told = [
        replace(volume, facts=replace(volume.facts, problem=problems.get(volume.facts.place, volume.facts.problem)))
        for volume in volumes
    ]
    return told + [_logical(group, volume, disks) for group in groups for volume in group.volumes]


def _logical(group: VolumeGroup, volume: LogicalVolume, disks: dict[str, int]) -> Volume:
    disk = disks[group.places[0]] if group.places else 1
    facts = VolumeFacts(f"{group.name}/{volume.name}", disk, size=volume.size, problem=volume.problem)
    return _look(facts, volume.area) if volume.area else Volume(facts, None)
