"""An import task as it is recorded: what was asked, what was found, how far it is, and how long it will take."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from vmferry.catalog._outbox import ACTIVE
from vmferry.catalog.import_facts import ImportFacts
from vmferry.catalog.pages import position_of
from vmferry.catalog.places import Place

IMPORT_IMAGE, IMPORT_SNAPSHOT = "import-image-task", "import-snapshot-task"
CONVERSION = "conversion-task"
"""Kinds of tasks, as tags call them. A conversion makes volumes, and perhaps an instance that they hang on."""
_STORED_WEIGHT = 4
"""How much longer a stored byte takes than one of the guest's: it is sent, received, checked and unpacked, the other is
checked and written. What fits is between 2 and 6, by imports of packed disks that were watched."""


@dataclass(frozen=True, slots=True)
class DiskContainer:
    """One disk container of the request: a place in S3, or a snapshot."""

    bucket: str | None = None
    key: str | None = None
    url: str | None = None
    """As the caller gave it."""
    format: str | None = None
    """Upper case."""
    description: str | None = None
    device_name: str | None = None
    volume_id: str | None = None
    """Of a conversion, whose container is the import manifest of a disk image in parts: the volume that it becomes."""
    volume_size_gib: int = 0
    said_bytes: int = 0
    """Bytes of the disk image, as the caller said."""
    snapshot_id: str | None = None
    """The snapshot that holds the disk, where no place in S3 does."""


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What ImportImage was asked for, or ImportSnapshot, which has one container and a description; or a conversion."""

    containers: tuple[DiskContainer, ...]
    description: str | None = None
    architecture: str | None = None
    boot_mode: str | None = None
    platform: str | None = None
    license_type: str | None = None
    usage_operation: str | None = None
    role_name: str | None = None
    hypervisor: str | None = None
    instance_id: str | None = None
    """The instance that a conversion makes, if any."""
    zone: str | None = None
    """Where a conversion's volumes are."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A piece of a disk that one worker converts: guest bytes ``[start, end)`` that hold ``data`` bytes of DATA."""

    disk: int
    number: int
    start: int
    end: int
    data: int
    done: int = 0
    """Bytes of DATA that are converted."""


@dataclass(frozen=True, slots=True)
class DiskConversion:
    """How far a disk is: ``done`` of ``data`` guest bytes."""

    done: int
    data: int


@dataclass(frozen=True, slots=True)
class ImportTask:
    """An import task. ``status`` is EC2's; ``stage`` is the word in StatusMessage while it is active."""

    id: str
    place: Place
    created_at: datetime
    request: ImportRequest
    kind: str = IMPORT_IMAGE
    status: str = ACTIVE
    stage: str = "pending"
    progress: int = 1
    reason: str | None = None
    """Why it was cancelled or failed: a whole status message."""
    waiting_for: str | None = None
    waiting_since: datetime | None = None
    facts: ImportFacts = field(default_factory=ImportFacts)
    image_id: str | None = None
    bytes_read: int = 0
    """From the object store."""
    bytes_written: int = 0
    """To the disk images."""
    measured_since: datetime | None = None
    """When ``done_before`` guest bytes were converted: what comes before that, like opening the source, has no rate."""
    done_before: int = 0
    read_before: int = 0
    """``bytes_read`` then."""
    recorded_at: datetime | None = None
    """When ``conversion`` was written."""
    conversion: tuple[DiskConversion, ...] = ()
    """One for each disk, while the task is active; empty before it is known what is to do."""

    @property
    def position(self) -> str:
        """Where it stands among all of its kind, oldest first."""
        return position_of(self.created_at, self.id)

    @property
    def rate(self) -> float | None:
        """Guest bytes converted a second; ``None`` before that can be said."""
        seconds, done = self._measured_seconds, self._done
        return done / seconds if seconds is not None and done > 0 else None

    def seconds_left(self, now: datetime) -> float | None:
        """Until all is converted, if it goes on as it went; ``None`` before that can be said."""
        seconds, share = self._measured_seconds, self._share
        if seconds is None or share is None or self.recorded_at is None:
            return None
        return max(seconds * (1 - share) / share - (now - self.recorded_at).total_seconds(), 0.0)

    @property
    def _measured_seconds(self) -> float | None:
        if self.measured_since is None or self.recorded_at is None or self.recorded_at <= self.measured_since:
            return None
        return (self.recorded_at - self.measured_since).total_seconds()

    @property
    def _done(self) -> int:
        """Guest bytes converted since it is measured."""
        return sum(part.done for part in self.conversion) - self.done_before

    @property
    def _share(self) -> float | None:
        """How much is done of what there was to do when measuring began; ``None`` for nothing.

        Guest bytes alone would not tell: where a disk is packed, its parts differ in how many stored bytes they are.
        """
        planned = sum(part.data for part in self.conversion) - self.done_before
        if self._done <= 0:
            return None
        stored = max(self._stored - self.read_before, 0)
        read = min(self.bytes_read - self.read_before, stored)
        if read <= 0 or self._done >= planned:  # a source whose reads are not counted; or all is done
            return self._done / planned
        return (self._done + _STORED_WEIGHT * read) / (planned + _STORED_WEIGHT * stored)

    @property
    def _stored(self) -> int:
        """Bytes of the disks' files in the object store."""
        containers = self.request.containers
        return sum(one.stored_size for one in self.facts.disks if containers[one.container].snapshot_id is None)
