"""The volumes of a disk, mounted in the machine of a session."""

from __future__ import annotations

import re
from collections.abc import Collection

from vmferry.guest.facts import VolumeFacts
from vmferry.guest.filesystems import FileSystem
from vmferry.guest.guestfish.filesystem import MountedFileSystem
from vmferry.guest.guestfish.session import Session
from vmferry.guest.guestfish.writer import GuestfishWriter
from vmferry.guest.volumes import Volume

_OPTIONS = {"ext2": "", "ext3": "", "ext4": "", "xfs": "nouuid", "btrfs": ""}
"""The kinds that are mounted, and with which options: a copy of an XFS on the same disk is no reason not to."""
_TOP_LEVEL = "subvolid=5"
_LOGICAL = re.compile(r"(?!-)[\w+.-]+/(?!-)[\w+.-]+", re.ASCII)


class GuestfishOpener:
    """A ``LinuxOpener`` that mounts volumes in the machine of ``session``."""

    kinds = tuple(_OPTIONS)
    words = "ext2, ext3, ext4, XFS or Btrfs file system"

    def __init__(self, session: Session, wanted: Collection[str]) -> None:
        """``wanted``: places of the volumes that are mounted; no others are."""
        self._session = session
        self._wanted = wanted
        self._count = 0
        self.replayed: list[str] = []

    def open(self, volume: Volume) -> FileSystem | None:
        """As ``LinuxOpener.open``."""
        kind, place = volume.facts.kind or "", volume.facts.place
        device = device_of(volume.facts)
        if kind not in _OPTIONS or place not in self._wanted or device is None:
            return None
        mount = self._mount(device, _OPTIONS[kind])
        top_level = None
        if kind == "btrfs":
            top_level = MountedFileSystem(self._session, self._mount(device, _TOP_LEVEL), kind)
        if volume.facts.dirty:
            self.replayed.append(place)
        return MountedFileSystem(self._session, mount, kind, top_level)

    def opened(self, files: FileSystem) -> bool:
        """As ``LinuxOpener.opened``."""
        return isinstance(files, MountedFileSystem)

    def writer(self, files: FileSystem, now: int) -> GuestfishWriter:
        """As ``LinuxOpener.writer``."""
        assert isinstance(files, MountedFileSystem)
        return GuestfishWriter(files, now)

    def _mount(self, device: str, options: str) -> str:
        """Where ``device`` is mounted, with ``options``."""
        self._count += 1
        mount = f"/volume-{self._count}"
        self._session.call("mkmountpoint", mount)
        if options:
            self._session.call("mount-options", options, device, mount)
        else:
            self._session.call("mount", device, mount)
        return mount


def device_of(volume: VolumeFacts) -> str | None:
    """What ``volume`` of the only disk is called in the machine; ``None`` where it is not known."""
    if volume.place.startswith("disk "):
        return "/dev/sda" if volume.partition is None else f"/dev/sda{volume.partition}"
    return f"/dev/{volume.place}" if _LOGICAL.fullmatch(volume.place) and ".." not in volume.place else None
