"""The Linux system on a disk, to be written to: its root, and what that mounts."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from vmferry.errors import GuestError, quote
from vmferry.guest.ext_writer import ExtFileSystem, replay_journal
from vmferry.guest.facts import VolumeFacts
from vmferry.guest.files import Files
from vmferry.guest.linux.fstab import read_fstab
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.overlay_volume import OverlayVolume, find_ranges
from vmferry.guest.partitions import ESP_TYPE
from vmferry.guest.tree import Tree
from vmferry.guest.volumes import Volume, find_volumes

_MOUNTS = ("/boot", "/usr", "/etc")
"""What of a system is looked at beside its root, where it is mounted apart."""
_EXT = ("ext2", "ext3", "ext4")
_BENEATH = ("lvm", "raid", "swap", None)
"""What a root is not in by itself: not worth a word where none is found."""
_ESP_TYPES = (ESP_TYPE, "ef")
_RELEASES = ("/etc/os-release", "/usr/lib/os-release", "/etc/redhat-release", "/etc/debian_version")
REMEDY = (
    "Let the guest add the drivers itself (on the guest: `dracut --force --regenerate-all --add-drivers "
    '"virtio_pci virtio_blk virtio_scsi"`), or let it start on the bus that it knows, such as SATA'
)


@dataclass(frozen=True, slots=True)
class LinuxSystem:
    """A Linux system on one disk, all of whose files that matter here are on file systems of ours."""

    root: str
    """The place of the volume that is its root."""
    tree: Tree
    title: str
    """What it calls itself: its own words, not to be trusted."""
    mounts: dict[str, ExtFileSystem]
    """Where → what is mounted."""
    esps: dict[str, OverlayVolume]
    """Place → EFI system partition."""
    volumes: tuple[VolumeFacts, ...]
    """All that is on the disk."""
    replayed: tuple[str, ...]
    """Places of the volumes that were not unmounted, and whose journals were replayed."""

    def mount_of(self, path: str) -> str:
        """Where the file system is mounted that holds ``path``, which leads through no links."""
        return max((mount for mount in self.mounts if mount == "/" or f"{path}/".startswith(f"{mount}/")), key=len)


def find_linux(disk: OverlayDisk) -> LinuxSystem:
    """The Linux system on ``disk``: the first root found, with what its fstab mounts. A journal is replayed on the way.

    Raises ``GuestError`` where there is none on a file system that is written to, with what there is instead and what
    is to be done.
    """
    volumes = find_volumes([disk], lambda _: None)
    systems: dict[str, ExtFileSystem] = {}
    others: list[str] = []
    replayed: list[str] = []
    for volume in volumes:
        try:
            if volume.facts.kind in _EXT and volume.area is not None:
                systems[volume.facts.place], was_open = _open(disk, volume)
                replayed += [quote(volume.facts.place)] if was_open else []
            elif volume.facts.kind not in _BENEATH or volume.facts.problem:
                others.append(_say(volume.facts))
        except GuestError as error:
            others.append(f"{quote(volume.facts.place)} is {volume.facts.kind}: {str(error).removesuffix('.')}")
    for place, system in systems.items():
        tree = Tree({"/": system})
        if any(tree.is_file(path) for path in _RELEASES):
            facts = tuple(volume.facts for volume in volumes)
            return LinuxSystem(
                place, *_mount(system, systems, facts), _find_esps(disk, volumes), facts, tuple(replayed)
            )
    what = f"; {', '.join(others)}" if others else ""
    raise GuestError(
        f"No Linux was found on an ext2, ext3 or ext4 file system, which are written to here{what}. {REMEDY}."
    )


def _say(volume: VolumeFacts) -> str:
    """What ``volume`` is instead, and what is wrong with it."""
    if volume.kind is None and volume.problem is None:
        return f"{quote(volume.place)} has no file system that is known"
    what = "cannot be read" if volume.kind is None else f"is {volume.kind}"
    return f"{quote(volume.place)} {what}" + (f": {volume.problem.removesuffix('.')}" if volume.problem else "")


def _open(disk: OverlayDisk, volume: Volume) -> tuple[ExtFileSystem, bool]:
    """The file system in ``volume``, and whether its journal had to be replayed."""
    assert volume.area is not None
    place = OverlayVolume(disk, find_ranges(disk, volume.area))
    system = ExtFileSystem(place)
    if replay_journal(system):
        return ExtFileSystem(place), True
    return system, False


def _find_esps(disk: OverlayDisk, volumes: Sequence[Volume]) -> dict[str, OverlayVolume]:
    """The EFI system partitions, by their places."""
    return {
        volume.facts.place: OverlayVolume(disk, find_ranges(disk, volume.area))
        for volume in volumes
        if volume.type in _ESP_TYPES and volume.area is not None and (volume.facts.kind or "").startswith("fat")
    }


def _mount(
    root: ExtFileSystem, systems: dict[str, ExtFileSystem], volumes: Sequence[VolumeFacts]
) -> tuple[Tree, str, dict[str, ExtFileSystem]]:
    """The files of the system whose root is ``root``, its name, and what its fstab mounts of ``_MOUNTS``."""
    mounts = {"/": root}
    for mount in read_fstab(Files(Tree(dict(mounts))), volumes):
        target = posixpath.normpath(mount.target)
        if target not in _MOUNTS:
            continue
        if mount.volume not in systems:
            raise GuestError(
                f"{quote(target)} of the guest is {quote(mount.source)}, of type {quote(mount.kind)}: not one of the "
                f"ext2, ext3 and ext4 file systems on this disk, which are written to here. {REMEDY}."
            )
        mounts[target] = systems[mount.volume]
    tree = Tree(dict(mounts))
    return tree, _title(tree), mounts


def _title(tree: Tree) -> str:
    """What the system calls itself."""
    text = next((text for path in _RELEASES if (text := tree.read_text(path))), "")
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', text, re.MULTILINE)
    return found[1] if found else text.partition("\n")[0]
