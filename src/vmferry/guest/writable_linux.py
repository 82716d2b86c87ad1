"""The Linux system on a disk, to be written to: its root, and what that mounts."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vmferry.errors import GuestError, UnpreparableError, quote
from vmferry.guest.ext_writer import ExtFileSystem, replay_journal
from vmferry.guest.facts import SystemFacts, VolumeFacts
from vmferry.guest.fat_writer import FatFileSystem
from vmferry.guest.files import Files
from vmferry.guest.filesystems import FileSystem
from vmferry.guest.linux.distribution import find_distribution
from vmferry.guest.linux.fstab import read_fstab
from vmferry.guest.mounts import Mounter, Root
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.overlay_volume import OverlayVolume, find_ranges
from vmferry.guest.superblocks.linux import HIBERNATED, HIBERNATION, SWAP_PAGES
from vmferry.guest.systems import find_roots, last_used, rank
from vmferry.guest.tree import Tree
from vmferry.guest.volumes import Volume, find_volumes

_MOUNTS = ("/boot", "/usr", "/etc")
"""What of a system is looked at beside its root, where it is mounted apart."""
_EXT = ("ext2", "ext3", "ext4")
_BENEATH = ("lvm", "raid", "swap", None)
"""What a root is not in by itself: not worth a word where none is found."""
_RELEASES = ("/etc/os-release", "/usr/lib/os-release", "/etc/redhat-release", "/etc/debian_version")
REMEDY = (
    "Let the guest add the drivers itself (on the guest: `dracut --force --regenerate-all --add-drivers "
    '"virtio_pci virtio_blk virtio_scsi"`), or let it start on the bus that it knows, such as SATA'
)


@dataclass(frozen=True, slots=True)
class WritableLinux:
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


def find_writable_linux(disk: OverlayDisk) -> WritableLinux:
    """The Linux system on ``disk`` that will start, with what its fstab mounts. Journals are replayed on the way.

    Raises ``GuestError`` where there is none on a file system that is written to, with what there is instead and what
    is to be done.
    """
    opener = _Opener(disk)
    mounter = Mounter(find_volumes([disk], lambda _: None), open_volume=opener.open)
    for volume in mounter.facts():
        if HIBERNATION in volume.features:
            raise _hibernated(volume.place)
    roots = [
        root
        for root in find_roots(mounter)
        if root.tree.mounts["/"] in opener.systems.values() and any(map(root.tree.is_file, _RELEASES))
    ]
    if not roots:
        others = ", ".join(_others(mounter.facts()))
        raise GuestError(
            "No Linux was found on an ext2, ext3 or ext4 file system, which are written to here"
            f"{'; ' if others else ''}{others}. {REMEDY}."
        )
    root = _pick(roots, mounter, disk)
    mounts = _mount(opener.systems[root.place], opener.systems, mounter.facts())
    tree = Tree(dict(mounts))
    for mount in read_fstab(Files(tree), mounter.facts()):
        if mount.kind == "swap" and _has_hibernated(tree, mount.source):
            raise _hibernated(mount.source)
    distribution = find_distribution(Files(tree))
    return WritableLinux(
        root=root.place,
        tree=tree,
        title=distribution.title if distribution else "",
        mounts=mounts,
        esps=opener.esps(mounter),
        volumes=mounter.facts(),
        replayed=tuple(quote(place) for place in opener.replayed),
    )


def _has_hibernated(tree: Tree, path: str) -> bool:
    """Whether the file at ``path``, if there is one, is a swap that a system is to wake up from."""
    if not path.startswith("/") or not tree.is_file(path):
        return False
    return any(tree.read_at(path, page - 10, 10) in HIBERNATED for page in SWAP_PAGES)


def _hibernated(where: str) -> UnpreparableError:
    return UnpreparableError(
        f"The guest is hibernated: {quote(where)} holds its memory, and it would wake up without knowing what was "
        "written meanwhile. Start it on the old machine, shut it down, and export it again."
    )


class _Opener:
    """Opens the volumes of ``disk`` by parsers of ours, which need no child process, and whose changes it takes."""

    def __init__(self, disk: OverlayDisk) -> None:
        self._disk = disk
        self.systems: dict[str, ExtFileSystem] = {}
        """By their places."""
        self.replayed: list[str] = []
        """Places of those whose journals had to be replayed."""

    def open(self, volume: Volume) -> FileSystem | None:
        """As ``open_file_system``."""
        kind, place = volume.facts.kind or "", volume.facts.place
        if kind.startswith("fat"):
            return FatFileSystem(self._volume(volume))
        if kind not in _EXT:
            return None
        system = ExtFileSystem(self._volume(volume))
        if replay_journal(system):
            system = ExtFileSystem(system.blocks.volume)
            self.replayed.append(place)
        self.systems[place] = system
        return system

    def _volume(self, volume: Volume) -> OverlayVolume:
        assert volume.area is not None
        return OverlayVolume(self._disk, find_ranges(self._disk, volume.area))

    def esps(self, mounter: Mounter) -> dict[str, OverlayVolume]:
        """The EFI system partitions, by their places."""
        found = (volume for place in mounter.efi_places() if (volume := mounter.volume(place)) and volume.area)
        return {one.facts.place: self._volume(one) for one in found if (one.facts.kind or "").startswith("fat")}


def _others(volumes: Sequence[VolumeFacts]) -> Iterator[str]:
    """What there is instead of a system that can be written to."""
    for volume in volumes:
        if volume.problem or volume.kind not in (*_EXT, *_BENEATH):
            what = f"is {volume.kind}" if volume.kind else "cannot be read"
            why = f": {volume.problem.removesuffix('.')}" if volume.problem else ""
            yield f"{quote(volume.place)} {what}{why}"


def _pick(roots: Sequence[Root], mounter: Mounter, disk: OverlayDisk) -> Root:
    """The one of ``roots`` that will start, as a look has it."""
    volumes = mounter.facts()
    known = []
    for root in roots:
        places = (mount.volume for mount in read_fstab(Files(root.tree), volumes) if mount.volume)
        used = last_used(root.tree, mounter.volume(root.place))
        known.append(SystemFacts(root.place, (root.place, *places), last_used=used))
    first = rank(known, mounter, [disk])[0].root
    return next(root for root in roots if root.place == first)


def _mount(
    root: ExtFileSystem, systems: dict[str, ExtFileSystem], volumes: Sequence[VolumeFacts]
) -> dict[str, ExtFileSystem]:
    """What the system mounts whose root is ``root``: where → what, of ``_MOUNTS``."""
    mounts = {"/": root}
    for mount in read_fstab(Files(Tree({"/": root})), volumes):
        target = posixpath.normpath(mount.target)
        if target not in _MOUNTS:
            continue
        if mount.volume not in systems:
            raise GuestError(
                f"{quote(target)} of the guest is {quote(mount.source)}, of type {quote(mount.kind)}: not one of the "
                f"ext2, ext3 and ext4 file systems on this disk, which are written to here. {REMEDY}."
            )
        mounts[target] = systems[mount.volume]
    return mounts
