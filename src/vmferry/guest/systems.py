"""The systems on a machine's volumes: where one may be, what it is, and which of several will start."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from vmferry.errors import FormatError, GuestError
from vmferry.guest.facts import SystemFacts
from vmferry.guest.files import Files
from vmferry.guest.filesystems import FileSystem, NodeKind, SupportsSubvolumes
from vmferry.guest.grub_core import GrubCore, read_grub_core
from vmferry.guest.linux.devices import Devices
from vmferry.guest.linux.fstab import read_fstab
from vmferry.guest.linux.system import find_linux
from vmferry.guest.mounts import Mounter, Root, beneath
from vmferry.guest.partitions import read_partition_table
from vmferry.guest.tree import Tree
from vmferry.guest.volumes import Volume
from vmferry.guest.window import Area
from vmferry.guest.windows.system import find_windows

_LINUX_SIGNS = (
    "/etc/os-release",
    "/usr/lib/os-release",
    "/etc/fstab",
    "/etc/passwd",
    "/lib/modules",
    "/usr/lib/modules",
)
_WINDOWS_SIGNS = ("/Windows/System32/config/SYSTEM", "/WINNT/System32/config/SYSTEM")
_SUBVOLUMES = ("/@", "/root", "/@rootfs", "/@/.snapshots/1/snapshot", "/rootfs")
"""Where distributions put the root on Btrfs, if not in the default subvolume."""
_OSTREE = "/ostree/deploy"
_USED = ("/var/log", "/var/lib/systemd", "/etc", "/Windows/System32/config/SYSTEM")
"""What a running system changes: tells when it ran last, where the superblock does not."""
_EFI_CONFIGS = ("/EFI/*/grub.cfg", "/loader/entries/*.conf")
_MAX_CONFIGS = 16
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[0-9a-fA-F]{16}|[0-9A-F]{4}-[0-9A-F]{4}")
_FOREIGN = {
    "516e7cb6-6ecf-11d6-8ff8-00022d09712b": "FreeBSD",
    "516e7cba-6ecf-11d6-8ff8-00022d09712b": "FreeBSD",
    "a5": "FreeBSD",
    "a6": "OpenBSD",
    "a9": "NetBSD",
    "bf": "Solaris",
}
"""Types of partitions that only one system has."""


def find_roots(mounter: Mounter) -> Iterator[Root]:
    """The folders that may be the root of a system, by the files in them; in the order of the volumes.

    What is damaged there is a problem of its volume: what else there is is still looked at.
    """
    loaders = set(mounter.efi_places())
    for volume in mounter.volumes:
        place = volume.facts.place
        system = None if place in loaders else mounter.open(place)
        if system is None:
            continue
        for seen in _views(system):
            try:
                if _has_system(tree := Tree({"/": seen})):
                    yield Root(place, tree)
                    break
            except GuestError as error:
                mounter.blame(place, error)


def _views(system: FileSystem) -> Iterator[FileSystem]:
    """``system`` as its own root shows it, and from the folders that may be a system's root instead."""
    yield system
    if isinstance(system, SupportsSubvolumes):
        yield from (beneath(system.top_level, folder) for folder in _SUBVOLUMES)
    yield from (beneath(system, folder) for folder in _ostree_roots(Tree({"/": system})))


def _has_system(tree: Tree) -> bool:
    return any(tree.node(sign) is not None or tree.link(sign) is not None for sign in (*_LINUX_SIGNS, *_WINDOWS_SIGNS))


def _ostree_roots(tree: Tree) -> list[str]:
    """The deployments of an image-based system, the one changed last first."""
    try:
        found = [
            (node.changed, path)
            for path in list(tree.glob(f"{_OSTREE}/*/deploy/*"))[:16]
            if (node := tree.node(path)) and node.kind is NodeKind.FOLDER
        ]
    except GuestError:
        return []
    return [path for _, path in sorted(found, reverse=True)]


def describe_system(root: Root, mounter: Mounter) -> SystemFacts | None:
    """What is in ``root``, with all mounted that it mounts; ``None`` where it is no system. Raises ``GuestError``."""
    volumes = mounter.facts()
    tree, places = mounter.mount(root, read_fstab(Files(root.tree), volumes))
    linux = find_linux(tree, volumes)
    windows = find_windows(tree, volumes) if linux is None else None
    if linux is None and windows is None:
        return None
    used = last_used(tree, mounter.volume(root.place))
    return SystemFacts(root.place, places, linux=linux, windows=windows, last_used=used)


def last_used(tree: Tree, volume: Volume | None) -> int:
    """Seconds since 1970 when the system in ``tree``, whose root is on ``volume``, ran last; 0 where nothing tells."""
    if volume is not None and volume.last_used:
        return volume.last_used
    nodes = [tree.node(path) for path in _USED]
    return max((node.changed for node in nodes if node is not None), default=0)


def rank(systems: Sequence[SystemFacts], mounter: Mounter, disks: Sequence[Area]) -> list[SystemFacts]:
    """``systems``, the one first that will start; each says why it stands there. Raises as ``disks``."""
    if len(systems) < 2:
        return [replace(system, chosen_by="the only one") for system in systems]
    named = named_places(mounter, disks)
    ranked = sorted(systems, key=lambda system: (bool(named & set(system.volumes)), system.last_used), reverse=True)
    why = "the boot loader names it" if named & set(ranked[0].volumes) else "it was used last"
    return [replace(ranked[0], chosen_by=why)] + [
        replace(system, chosen_by="another is started") for system in ranked[1:]
    ]


def named_places(mounter: Mounter, disks: Sequence[Area]) -> set[str]:
    """The places of the volumes that the boot loaders go on to which firmware starts: GRUB's core image, an active
    partition, what lies on EFI system partitions."""
    uuids = _named_on_efi(mounter)
    places = set()
    for number, disk in enumerate(disks, 1):
        try:
            table = read_partition_table(disk)
        except FormatError:
            continue  # a problem of its volume already
        core = read_grub_core(disk) if table.grub else GrubCore()
        uuids |= core.uuids
        active = {partition.number for partition in table.partitions if partition.active and table.scheme == "mbr"}
        for volume in mounter.volumes:
            facts = volume.facts
            if facts.disk == number and facts.partition in (core.partitions if table.grub else active):
                places.add(facts.place)
        found = (Devices(mounter.facts()).find(f"/dev/mapper/{name}") for name in core.logical_volumes)
        places |= {place for place in found if place is not None}
    return places | {
        volume.facts.place for volume in mounter.volumes if volume.facts.uuid and volume.facts.uuid.lower() in uuids
    }


def _named_on_efi(mounter: Mounter) -> set[str]:
    """UUIDs, lower case, in the settings of the loaders on EFI system partitions."""
    found: set[str] = set()
    for place in mounter.efi_places():
        system = mounter.open(place)
        if system is None:
            continue
        tree = Tree({"/": system})
        try:
            paths = [path for pattern in _EFI_CONFIGS for path in list(tree.glob(pattern))[:_MAX_CONFIGS]]
            for path in paths:
                found |= {uuid.lower() for uuid in _UUID.findall(tree.read_text(path) or "")}
        except GuestError:
            continue
    return found


def find_foreign(volumes: Sequence[Volume]) -> list[SystemFacts]:
    """The system that only the types of partitions tell of, where no other was found."""
    for volume in volumes:
        if volume.type in _FOREIGN:
            return [SystemFacts(volume.facts.place, other=_FOREIGN[volume.type], chosen_by="the only one")]
    return []
