"""The Linux system on a disk, to be written to: its root, and what that mounts."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from vmferry.errors import GuestError, UnpreparableError, quote
from vmferry.guest.ext_writer import ExtFileSystem, ExtWriter, replay_journal
from vmferry.guest.facts import SystemFacts, VolumeFacts
from vmferry.guest.fat_writer import FatFileSystem
from vmferry.guest.file_writer import FileWriter
from vmferry.guest.files import Files
from vmferry.guest.filesystems import FileSystem
from vmferry.guest.linux.distribution import find_distribution
from vmferry.guest.linux.fstab import read_fstab
from vmferry.guest.linux.storage import find_hibernated
from vmferry.guest.mounts import Mounter, Root, mounted_part
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.overlay_volume import OverlayVolume, find_ranges
from vmferry.guest.superblocks.linux import HIBERNATION
from vmferry.guest.systems import find_roots, last_used, rank
from vmferry.guest.tree import Tree
from vmferry.guest.volumes import Volume, find_volumes

MOUNTS = ("/boot", "/usr", "/etc")
"""What of a system is looked at beside its root, where it is mounted apart."""
_BENEATH = ("lvm", "raid", "swap", None)
"""What a root is not in by itself: not worth a word where none is found."""
_RELEASES = ("/etc/os-release", "/usr/lib/os-release", "/etc/redhat-release", "/etc/debian_version")
REMEDY = (
    "Let the guest add the drivers itself (on the guest: `dracut --force --regenerate-all --add-drivers "
    '"virtio_pci virtio_blk virtio_scsi"`), or let it start on the bus that it knows, such as SATA'
)


class LinuxOpener(Protocol):
    """Opens the volumes that a Linux system may be on, to read them and to write to them."""

    @property
    def kinds(self) -> Sequence[str]:
        """Those that it opens, as ``VolumeFacts.kind`` has them."""

    @property
    def words(self) -> str:
        """The same in words: ``ext2, ext3 or ext4 file system``."""

    @property
    def replayed(self) -> Sequence[str]:
        """Places of the volumes that were not unmounted, and whose journals were replayed."""

    def open(self, volume: Volume) -> FileSystem | None:
        """As ``open_file_system``. Its journal is replayed on the way."""

    def opened(self, files: FileSystem) -> bool:
        """Whether it has opened ``files``, so that they can be written to."""

    def writer(self, files: FileSystem, now: int) -> FileWriter:
        """What writes to ``files``, which it has opened, at ``now``: seconds since 1970.

        Raises ``GuestError`` where they cannot be written to.
        """


@dataclass(frozen=True, slots=True)
class WritableLinux:
    """A Linux system on one disk, all of whose files that matter here are on file systems that are written to."""

    root: str
    """The place of the volume that is its root."""
    tree: Tree
    title: str
    """What it calls itself: its own words, not to be trusted."""
    mounts: dict[str, FileSystem]
    """Where → what is mounted."""
    open_writer: Callable[[FileSystem, int], FileWriter]
    """As ``LinuxOpener.writer``, for each of ``mounts``."""
    esps: dict[str, OverlayVolume]
    """Place → EFI system partition."""
    volumes: tuple[VolumeFacts, ...]
    """All that is on the disk."""
    replayed: tuple[str, ...]
    """Places of the volumes that were not unmounted, and whose journals were replayed."""

    def mount_of(self, path: str) -> str:
        """Where the file system is mounted that holds ``path``, which leads through no links."""
        return max((mount for mount in self.mounts if mount == "/" or f"{path}/".startswith(f"{mount}/")), key=len)


def find_writable_linux(disk: OverlayDisk, opener: LinuxOpener) -> WritableLinux:
    """The Linux system on ``disk`` that will start, with what its fstab mounts, as ``opener`` opens it.

    Raises ``GuestError`` where there is none on a file system that is written to, with what there is instead and what
    is to be done.
    """

    def open_volume(volume: Volume) -> FileSystem | None:
        is_fat = (volume.facts.kind or "").startswith("fat")
        return FatFileSystem(volume_on(disk, volume)) if is_fat else opener.open(volume)

    mounter = Mounter(find_volumes([disk], lambda _: None), open_volume=open_volume)
    for volume in mounter.facts():
        if HIBERNATION in volume.features:
            raise _hibernated(volume.place)
    roots = [
        root
        for root in find_roots(mounter)
        if opener.opened(root.tree.mounts["/"]) and any(map(root.tree.is_file, _RELEASES))
    ]
    if not roots:
        others = ", ".join(_others(mounter.facts(), opener.kinds))
        raise GuestError(
            f"No Linux was found on an {opener.words}, which are written to here"
            f"{'; ' if others else ''}{others}. {REMEDY}."
        )
    root = _pick(roots, mounter, disk)
    mounts = _mount(root, mounter, opener)
    tree = Tree(mounts)
    for path in find_hibernated(tree, read_fstab(Files(tree), mounter.facts())):
        raise _hibernated(path)
    distribution = find_distribution(Files(tree))
    return WritableLinux(
        root=root.place,
        tree=tree,
        title=distribution.title if distribution else "",
        mounts=mounts,
        open_writer=opener.writer,
        esps=_find_esps(disk, mounter),
        volumes=mounter.facts(),
        replayed=tuple(map(quote, opener.replayed)),
    )


def _hibernated(where: str) -> UnpreparableError:
    return UnpreparableError(
        f"The guest is hibernated: {quote(where)} holds its memory, and it would wake up without knowing what was "
        "written meanwhile. Start it on the old machine, shut it down, and export it again."
    )


class ExtOpener:
    """A ``LinuxOpener`` of ext2, ext3 and ext4 on ``disk``, by a parser of ours, which needs no child process."""

    kinds = ("ext2", "ext3", "ext4")
    words = "ext2, ext3 or ext4 file system"

    def __init__(self, disk: OverlayDisk) -> None:
        self._disk = disk
        self.replayed: list[str] = []

    def open(self, volume: Volume) -> FileSystem | None:
        """As ``LinuxOpener.open``."""
        if volume.facts.kind not in self.kinds:
            return None
        system = ExtFileSystem(volume_on(self._disk, volume))
        if replay_journal(system):
            system = ExtFileSystem(system.blocks.volume)
            self.replayed.append(volume.facts.place)
        return system

    def opened(self, files: FileSystem) -> bool:
        """As ``LinuxOpener.opened``."""
        return isinstance(files, ExtFileSystem)

    def writer(self, files: FileSystem, now: int) -> FileWriter:
        """As ``LinuxOpener.writer``."""
        assert isinstance(files, ExtFileSystem)
        return ExtWriter(files, now)


def volume_on(disk: OverlayDisk, volume: Volume) -> OverlayVolume:
    """The bytes of ``volume``, which can be read. Raises ``GuestError`` where they are not written to here."""
    assert volume.area is not None
    return OverlayVolume(disk, find_ranges(disk, volume.area))


def _find_esps(disk: OverlayDisk, mounter: Mounter) -> dict[str, OverlayVolume]:
    """The EFI system partitions, by their places."""
    found = (volume for place in mounter.efi_places() if (volume := mounter.volume(place)) and volume.area)
    return {one.facts.place: volume_on(disk, one) for one in found if (one.facts.kind or "").startswith("fat")}


def _others(volumes: Sequence[VolumeFacts], kinds: Sequence[str]) -> Iterator[str]:
    """What there is instead of a system that can be written to, on one of ``kinds``."""
    for volume in volumes:
        if volume.problem or volume.kind not in (*kinds, *_BENEATH):
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


def _mount(root: Root, mounter: Mounter, opener: LinuxOpener) -> dict[str, FileSystem]:
    """What the system mounts whose root is ``root``: where → what, of ``MOUNTS``."""
    mounts = {"/": root.tree.mounts["/"]}
    for mount in read_fstab(Files(root.tree), mounter.facts()):
        target = posixpath.normpath(mount.target)
        if target not in MOUNTS:
            continue
        system = mounter.open(mount.volume) if mount.volume else None
        if system is None or not opener.opened(part := mounted_part(system, mount)):
            raise GuestError(
                f"{quote(target)} of the guest is {quote(mount.source)}, of type {quote(mount.kind)}: not one of the "
                f"{opener.words}s on this disk, which are written to here. {REMEDY}."
            )
        mounts[target] = part
    return mounts
