"""NOUN Evidence: all that is known of a machine before it is imported; what the rules of preflight look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vmferry.errors import quote
from vmferry.guest.boot import BootFacts, pick_root
from vmferry.guest.facts import GuestFacts, SystemFacts, VolumeFacts
from vmferry.guest.linux.facts import LinuxFacts
from vmferry.guest.windows.facts import WindowsFacts
from vmferry.machine import Firmware, Machine


@dataclass(frozen=True, slots=True)
class DiskEvidence:
    """One disk, without what is in its file systems."""

    size: int
    """Bytes."""
    boot: BootFacts


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a machine. ``disks`` stand in the machine's order and are not empty."""

    disks: Sequence[DiskEvidence]
    guest: GuestFacts = field(default_factory=GuestFacts)
    machine: Machine | None = None
    """What an appliance's descriptor says; ``None`` for a disk alone."""

    @property
    def root(self) -> DiskEvidence:
        """The disk that the machine starts from."""
        return self.disks[pick_root([disk.boot for disk in self.disks])]

    @property
    def firmwares(self) -> tuple[Firmware, ...]:
        """Those that the machine can be started with, as its disk shows; what the descriptor says where it does not."""
        said = self.machine.firmware if self.machine else None
        return self.root.boot.firmwares or ((said,) if said else ())

    @property
    def system(self) -> SystemFacts | None:
        """The system that will start, where one was recognised."""
        return self.guest.system

    @property
    def linux(self) -> LinuxFacts | None:
        """It, if it is a Linux."""
        return self.system.linux if self.system else None

    @property
    def windows(self) -> WindowsFacts | None:
        """It, if it is a Windows."""
        return self.system.windows if self.system else None

    def volume(self, place: str | None) -> VolumeFacts | None:
        """The volume at ``place``."""
        return next((volume for volume in self.guest.volumes if volume.place == place), None)

    def mounted(self, target: str) -> VolumeFacts | None:
        """The volume that the Linux system mounts at ``target``; its root for ``/``."""
        if target == "/":
            return self.volume(self.system.root) if self.system else None
        mounts = self.linux.mounts if self.linux else ()
        return next((self.volume(mount.volume) for mount in mounts if mount.target == target and mount.volume), None)


def name_system(evidence: Evidence) -> str | None:
    """The system that will start, in one line: ``Debian GNU/Linux 12 (bookworm), x86_64``; ``None`` without one."""
    linux, windows = evidence.linux, evidence.windows
    if linux is not None:
        return quote(", ".join(filter(None, (linux.title or linux.distribution, linux.architecture, linux.hostname))))
    if windows is not None:
        build = f"build {windows.build}" if windows.build else ""
        return quote(", ".join(filter(None, (windows.product, build, windows.architecture, windows.hostname))))
    return quote(evidence.system.other) if evidence.system is not None and evidence.system.other else None
