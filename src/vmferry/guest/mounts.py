"""Volumes opened as file systems, and put together as a system mounts them."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from vmferry.errors import GuestError
from vmferry.guest.facts import VolumeFacts
from vmferry.guest.filesystems import (
    FileSystem,
    Node,
    NodeKind,
    SupportsBeneath,
    SupportsSubvolumes,
    open_file_system,
)
from vmferry.guest.linux.facts import MountFacts
from vmferry.guest.partitions import ESP_TYPE
from vmferry.guest.tree import Tree
from vmferry.guest.volumes import Volume
from vmferry.limits import MAX_GUEST_MOUNTS

EFI = "/boot/efi"
"""Where the EFI system partition is found in the tree of a system that does not say where it mounts it; so Windows."""
SYSTEM_RESERVED = "/boot/system-reserved"
"""Where the volume with Windows' boot manager is found in its tree, if it is another than that of the system."""
_BOOT_MANAGER = "/bootmgr"
_BOOT_MANAGER_KINDS = ("ntfs", "fat16", "fat32")
_EFI_PLACES = (EFI, "/efi", "/boot")
_EFI_TYPES = (ESP_TYPE, "ef")


@dataclass(frozen=True, slots=True)
class Root:
    """A file system that a system may be in."""

    place: str
    """Of its volume."""
    tree: Tree
    """It alone, or the folder or subvolume of it that is the system's root; nothing mounted in it."""


class Mounter:
    """Opens each volume once, when it is first needed; remembers those that could not be read."""

    def __init__(
        self,
        volumes: Sequence[Volume],
        note: Callable[[str], None] = lambda _: None,
        open_volume: Callable[[Volume], FileSystem | None] | None = None,
    ) -> None:
        """``open_volume`` opens what can be read of them, as ``open_file_system`` does, which is taken otherwise."""
        self.volumes = volumes
        self._note = note
        self._open_volume = open_volume or _open_volume
        self._problems: dict[str, str] = {}
        self._opened: dict[str, FileSystem | None] = {}
        self._by_place: dict[str, Volume] = {}
        for volume in volumes:
            self._by_place.setdefault(volume.facts.place, volume)

    def facts(self) -> tuple[VolumeFacts, ...]:
        """Of all volumes, with what could not be read."""
        return tuple(
            replace(volume.facts, problem=volume.facts.problem or self._problems.get(volume.facts.place))
            for volume in self.volumes
        )

    def volume(self, place: str) -> Volume | None:
        """The volume at ``place``."""
        return self._by_place.get(place)

    def open(self, place: str) -> FileSystem | None:
        """The file system at ``place``; ``None`` where none is read, or it is too damaged."""
        if place not in self._opened:
            self._opened[place] = self._open(place)
        return self._opened[place]

    def _open(self, place: str) -> FileSystem | None:
        volume = self._by_place.get(place)
        if volume is None or volume.area is None or volume.facts.kind is None:
            return None
        self._note(f"the {volume.facts.kind} file system on {place}")
        try:
            system = self._open_volume(volume)
            if system is not None and ((root := system.node("/")) is None or root.kind is not NodeKind.FOLDER):
                raise GuestError(f"The {system.kind} file system is damaged: its root is no folder.")
        except GuestError as error:
            self.blame(place, error)
            return None
        return system

    def blame(self, place: str, error: GuestError) -> None:
        """Remember that the file system at ``place`` is damaged, and how; what was said first stays."""
        self._problems.setdefault(place, str(error))

    def mount(self, root: Root, mounts: Iterable[MountFacts]) -> tuple[Tree, tuple[str, ...]]:
        """The tree of the system in ``root`` that mounts ``mounts``, and the places of the volumes in it."""
        mounted = {"/": root.tree.mounts["/"]}
        places = {"/": root.place}
        for mount in mounts:
            target = posixpath.normpath(mount.target)
            if len(mounted) >= MAX_GUEST_MOUNTS or mount.volume is None or not _is_below_root(target):
                continue
            system = self.open(mount.volume)
            if system is not None:
                mounted[target] = mounted_part(system, mount)
                places[target] = mount.volume
        self._add_efi(root, mounted, places)
        self._add_boot_manager(root, mounted, places)
        return Tree(mounted), tuple(dict.fromkeys(places.values()))

    def _add_efi(self, root: Root, mounted: dict[str, FileSystem], places: dict[str, str]) -> None:
        """The EFI system partition, where the system itself does not mount it: one on the disk of its root first."""
        if any(places.get(target) in self.efi_places() for target in _EFI_PLACES):
            return
        volume = self.volume(root.place)
        disk = volume.facts.disk if volume else 0
        candidates = sorted(
            self.efi_places(), key=lambda place: (found := self.volume(place)) is None or found.facts.disk != disk
        )
        for place in candidates:
            system = self.open(place)
            if system is not None:
                mounted[EFI], places[EFI] = system, place
                return

    def _add_boot_manager(self, root: Root, mounted: dict[str, FileSystem], places: dict[str, str]) -> None:
        """The volume that a BIOS starts Windows from, where it is not that of the system: "System Reserved"."""
        if root.tree.mounts["/"].kind != "ntfs" or root.tree.is_file(_BOOT_MANAGER):
            return
        for volume in self.volumes:
            place = volume.facts.place
            system = self.open(place) if volume.facts.kind in _BOOT_MANAGER_KINDS else None
            if system is not None and place not in places.values() and system.node(_BOOT_MANAGER) is not None:
                mounted[SYSTEM_RESERVED], places[SYSTEM_RESERVED] = system, place
                return

    def efi_places(self) -> list[str]:
        """Places of the EFI system partitions."""
        return [volume.facts.place for volume in self.volumes if volume.type in _EFI_TYPES]


def _open_volume(volume: Volume) -> FileSystem | None:
    return open_file_system(volume.area, volume.facts.kind) if volume.area and volume.facts.kind else None


def beneath(system: FileSystem, folder: str) -> FileSystem:
    """``system`` as it is seen from its ``folder``; itself for ``/``."""
    if folder == "/":
        return system
    return system.beneath(folder) if isinstance(system, SupportsBeneath) else _Beneath(system, folder)


class _Beneath:
    def __init__(self, system: FileSystem, folder: str) -> None:
        self._system = system
        self._folder = folder
        self.kind = system.kind

    def node(self, path: str) -> Node | None:
        return self._system.node(self._path(path))

    def names(self, path: str) -> Sequence[str]:
        return self._system.names(self._path(path))

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        return self._system.read_at(self._path(path), offset, length)

    def _path(self, path: str) -> str:
        return self._folder if path == "/" else self._folder + path


def _is_below_root(target: str) -> bool:
    return target.startswith("/") and target.strip("/") != "" and not target.startswith("//")


def mounted_part(system: FileSystem, mount: MountFacts) -> FileSystem:
    """What is mounted of ``system``: the subvolume that the options name, else all."""
    for option in mount.options:
        name, _, value = option.partition("=")
        if name == "subvol" and isinstance(system, SupportsSubvolumes):
            return beneath(system.top_level, posixpath.normpath("/" + value.strip("/")))
    return system
