"""What an import task has found out: of its sources, its disks and the guest on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vmferry import own_tags
from vmferry.catalog.hardware import Hardware, hardware_from_json

_MAX_TAG_VALUE = 255


@dataclass(frozen=True, slots=True)
class ObjectPin:
    """Which bytes a container's key stood for when the task opened it."""

    size: int
    etag: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class ImportedDisk:
    """A disk that was found in a container."""

    container: int
    """Index of its container in the request."""
    name: str | None
    """Its file's name inside an appliance; ``None`` for a container that is a disk image itself."""
    format: str
    """EC2's name of its format, upper case."""
    stored_size: int
    """Bytes of the disk image's file."""
    size: int
    """Guest bytes."""
    device_name: str
    snapshot_id: str
    status: str | None = None
    """``active`` while it is converted, then ``completed``."""
    digest: str | None = None
    """The guest digest of its bytes, once all are converted."""
    manifest_digest: str | None = None
    """What the appliance's manifest says of its file, and what was checked: algorithm, colon, value."""


@dataclass(frozen=True, slots=True)
class ImportFinding:
    """What preflight found about the guest."""

    id: str
    severity: str
    """``will not boot``, ``should mend``, ``note``."""
    sentence: str
    """Where it was seen, what it is, and what to do."""


@dataclass(frozen=True, slots=True)
class ImportChange:
    """A file of the guest that was changed or added, so that it starts on its new hardware."""

    path: str
    what: str
    """``replaced`` or ``added``; or ``changed``, of files that are not listed."""
    before: int | None
    """Bytes of the old file."""
    after: int
    why: str
    kept_as: str | None = None
    """The old file's name now."""


@dataclass(frozen=True, slots=True)
class ImportFacts:
    """What the task has found out."""

    pins: tuple[ObjectPin, ...] = ()
    """One for each container."""
    disks: tuple[ImportedDisk, ...] = ()
    """In device order, the root's first."""
    architecture: str | None = None
    boot_mode: str | None = None
    platform: str | None = None
    usage_operation: str | None = None
    """How a machine from the AMI is billed: EC2's code."""
    notes: tuple[str, ...] = ()
    hardware: Hardware | None = None
    """Of the appliance; ``None`` where disks came alone."""
    system: str | None = None
    """The system on the disks, in words; ``None`` where none was recognised."""
    findings: tuple[ImportFinding, ...] = ()
    """Of preflight, the gravest first."""
    changes: tuple[ImportChange, ...] = ()
    """To the root disk's guest: the disk that is converted has them, the source does not."""
    prepared: str | None = None
    """What became of preparing, where it was asked for: ``yes``, ``by virt-v2v``, ``nothing to do``; or ``no`` and what
    the guest starts on as it is."""


def found_tags(facts: ImportFacts) -> dict[str, str]:
    """What an AMI's tags say of its guest: the ids of what was found against it, notes left out; whether it is
    prepared."""
    ids = dict.fromkeys(finding.id for finding in facts.findings if finding.severity != "note")
    found = {own_tags.PREFLIGHT: ", ".join(ids)[:_MAX_TAG_VALUE]} if ids else {}
    return found if facts.prepared is None else {**found, own_tags.PREPARED: facts.prepared}


def facts_to_json(facts: ImportFacts) -> dict[str, Any]:
    """As the catalog records them."""
    return asdict(facts)


def facts_from_json(value: Mapping[str, Any]) -> ImportFacts:
    """What ``facts_to_json`` made; what older versions did not know has its default."""
    return ImportFacts(
        **{
            **value,
            "pins": tuple(ObjectPin(**pin) for pin in value["pins"]),
            "disks": tuple(ImportedDisk(**disk) for disk in value["disks"]),
            "notes": tuple(value["notes"]),
            "hardware": hardware_from_json(value.get("hardware")),
            "changes": tuple(ImportChange(**change) for change in value.get("changes", ())),
            "findings": tuple(ImportFinding(**finding) for finding in value.get("findings", ())),
        }
    )
