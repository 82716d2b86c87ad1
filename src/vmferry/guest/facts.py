"""What was seen inside a machine's disks: facts only, no judgement. ``look`` finds them, ``preflight`` judges them.

All of it is frozen, of plain values, and goes through JSON unchanged: the facts come out of a child process that has
read a stranger's file systems. Every text in here is the guest's own: ``quote`` it.
"""

from __future__ import annotations

from dataclasses import dataclass

from vmferry.guest.linux.facts import LinuxFacts
from vmferry.guest.windows.facts import WindowsFacts


@dataclass(frozen=True, slots=True)
class VolumeFacts:
    """One place that a file system may stand in: a partition, a logical volume, a whole disk."""

    place: str
    """In our words, the key of this volume: ``disk 1, partition 2``, ``disk 1``, ``vg0/root``."""
    disk: int
    """Number of the disk that it begins on, from 1."""
    partition: int | None = None
    """Number in the partition table."""
    start: int | None = None
    """Guest offset on the disk in bytes; ``None`` for what does not lie in one piece."""
    size: int = 0
    """Bytes."""
    kind: str | None = None
    """What stands in it: ``ext4``, ``xfs``, ``btrfs``, ``fat32``, ``ntfs``, ``swap``, ``lvm`` (a physical volume),
    ``raid`` (Linux software RAID), ``luks1``, ``luks2``, ``bitlocker``, ``ldm``, ``storage-spaces``, ``zfs``, ``ufs``,
    ``iso9660`` …; ``None`` where nothing is recognised."""
    label: str | None = None
    uuid: str | None = None
    """As fstab has it: lower case with dashes; FAT's as ``1A2B-3C4D``, NTFS's as 16 hexadecimal digits."""
    partition_uuid: str | None = None
    """fstab's PARTUUID."""
    free: int | None = None
    """Bytes that are not in use, as the file system itself says."""
    free_inodes: int | None = None
    dirty: bool = False
    """Whether it was not unmounted cleanly: a journal to replay, a dirty flag, a hibernated system."""
    features: tuple[str, ...] = ()
    """What it asks of whoever mounts it, in its own words: ``bigtime``, ``metadata_csum``."""
    problem: str | None = None
    """Why it could not be read, a sentence; it names the layer that was reached."""


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """One system that may be started."""

    root: str
    """The place of the volume that holds it."""
    volumes: tuple[str, ...] = ()
    """Places of all volumes that it mounts and that were found."""
    linux: LinuxFacts | None = None
    windows: WindowsFacts | None = None
    other: str | None = None
    """The name of a system that is neither, as far as it shows: ``FreeBSD``."""
    last_used: int = 0
    """Seconds since 1970 when its root was last mounted or written to; 0 where nothing tells."""
    chosen_by: str = ""
    """Why it stands where it does among several: ``the boot loader names it``, ``the only one``."""


@dataclass(frozen=True, slots=True)
class GuestFacts:
    """All that was seen in a machine's disks."""

    volumes: tuple[VolumeFacts, ...] = ()
    systems: tuple[SystemFacts, ...] = ()
    """The one that will start first; empty where none was found."""
    problems: tuple[str, ...] = ()
    """What ended the look early, a sentence each: a limit, a file system that ended the reader."""
    bytes_read: int = 0
    seconds: float = 0.0

    @property
    def system(self) -> SystemFacts | None:
        """The system that will start."""
        return self.systems[0] if self.systems else None
