"""What an import finds out: from an open source the facts and the slices, from the facts the snapshots and the AMI."""

from __future__ import annotations

import platform
import secrets
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from vmferry import __version__, guest
from vmferry.catalog.hardware import hardware_of
from vmferry.catalog.images import AVAILABLE, BlockDevice, Image
from vmferry.catalog.import_tasks import ImportedDisk, ImportFacts, ImportTask, Slice
from vmferry.catalog.snapshots import PENDING, Snapshot
from vmferry.convert import plan_slices
from vmferry.formats.qcow2.writer import Qcow2Writer
from vmferry.guest import BootFacts, Looker
from vmferry.guest.evidence import Evidence, name_system
from vmferry.guest.findings import RuleSet
from vmferry.machine import Firmware
from vmferry.quotas import Quotas
from vmferry.tasks.import_image.bounds import card_notes, check_bounds
from vmferry.tasks.import_image.devices import asked_root, name_devices
from vmferry.tasks.import_image.licences import LINUX, WINDOWS, find_usage_operation
from vmferry.tasks.import_image.preflight import find_faults, gather_evidence
from vmferry.tasks.import_image.source import Source, SourceDisk
from vmferry.units import to_gib


def find_facts(
    task: ImportTask,
    source: Source,
    quotas: Quotas,
    rules: str = RuleSet.VMFERRY.value,
    looker: Looker | None = None,
) -> ImportFacts:
    """What the open source shows, the root disk first. Ids that an earlier run of this step gave are kept.

    Raises as ``check_bounds`` does for what is over ``quotas``, ``GuestError`` for what preflight by ``rules`` stops.
    """
    check_bounds(task, source, quotas)
    evidence = gather_evidence(task, source, looker)
    boots = [disk.boot for disk in evidence.disks]
    asked = _asked_devices(task, source, boots)
    named = asked_root(asked)
    root = guest.pick_root(boots) if named is None else named
    names = name_devices(root, asked)
    known = [found.snapshot_id for found in task.facts.disks]
    order = [root, *(i for i in range(len(source.disks)) if i != root)]
    disks = [
        _imported(source.disks[index], names[index], known[position] if known else _new_id("snap"))
        for position, index in enumerate(order)
    ]
    firmware = _choose_firmware(source, boots[root].firmwares)
    system = task.request.platform or (WINDOWS if evidence.windows else LINUX)
    client = evidence.windows is not None and evidence.windows.is_client
    facts = ImportFacts(
        pins=tuple(source.pins),
        disks=tuple(disks),
        architecture=task.request.architecture or _architecture(evidence),
        boot_mode=task.request.boot_mode or firmware.value,
        platform=system,
        usage_operation=find_usage_operation(task.request, system, client=client),
        notes=(*(source.machine.notes if source.machine else ()), *card_notes(source, quotas)),
        hardware=None if source.machine is None else hardware_of(source.machine, quotas.network_interfaces),
        system=name_system(evidence),
        findings=find_faults(task, evidence, rules),
    )
    before = task.facts
    if not before.changes:
        return facts
    # An earlier run of this step has prepared the guest, and now the source shows it so.
    return replace(
        facts, notes=before.notes, findings=before.findings, changes=before.changes, prepared=before.prepared
    )


def _architecture(evidence: Evidence) -> str:
    found = evidence.linux or evidence.windows
    return "i386" if found is not None and found.architecture == "i386" else "x86_64"


def find_slices(source: Source, facts: ImportFacts) -> list[Slice]:
    """The slices of all disks that are converted, from their maps alone."""
    slices = []
    for index, found in enumerate(facts.disks):
        opened = source_disk(source, found)
        if opened.snapshot is not None:
            continue
        disk = opened.disk
        planned = plan_slices(disk.extents(), disk.size, Qcow2Writer.granularity)
        slices += [Slice(index, number, piece.start, piece.end, piece.data) for number, piece in enumerate(planned)]
    return slices


def source_disk(source: Source, found: ImportedDisk) -> SourceDisk:
    """The open disk that ``found`` speaks of."""
    return next(disk for disk in source.disks if (disk.container, disk.name) == (found.container, found.name))


def pending_snapshots(task: ImportTask, facts: ImportFacts) -> list[Snapshot]:
    """The snapshots to begin, one for each disk."""
    return [
        Snapshot(
            id=found.snapshot_id,
            place=task.place,
            state=PENDING,
            size=found.size,
            description=f"Created by AWS-VMImport service for {task.id}",
            created_at=datetime.now(UTC),
            bucket=task.place.region,
            key=f"{task.place.account_id}/{found.snapshot_id}.qcow2",
            task_id=task.id,
        )
        for found in facts.disks
    ]


def new_image(task: ImportTask) -> Image:
    """The AMI that ``task`` ends in, with an id of its own."""
    facts = task.facts
    platform = facts.platform if facts.platform == WINDOWS else None
    return Image(
        id=_new_id("ami"),
        place=task.place,
        name=task.id,
        description=task.request.description,
        state=AVAILABLE,
        architecture=facts.architecture or "x86_64",
        boot_mode=facts.boot_mode or Firmware.BIOS.value,
        platform=platform,
        usage_operation=facts.usage_operation,
        root_device_name=facts.disks[0].device_name,
        created_at=datetime.now(UTC),
        block_devices=tuple(
            BlockDevice(found.device_name, found.snapshot_id, to_gib(found.size)) for found in facts.disks
        ),
        hardware=facts.hardware,
    )


def receipt_facts(task: ImportTask, image: Image | None) -> dict[str, Any]:
    """What the receipt of a task says that ends in ``image``, or in a snapshot alone: what was read, made, changed."""
    facts = task.facts
    return {
        "task": task.id,
        "image": None if image is None else image.id,
        "account": task.place.account_id,
        "region": task.place.region,
        "requested_at": task.created_at.astimezone(UTC).isoformat(),
        "completed_at": (datetime.now(UTC) if image is None else image.created_at).isoformat(),
        "sources": [
            {"bucket": container.bucket, "key": container.key, "snapshot": container.snapshot_id, **asdict(pin)}
            for container, pin in zip(task.request.containers, facts.pins, strict=True)
        ],
        "disks": [
            {
                "source": found.container,
                "file": found.name,
                "format": found.format,
                "manifest_digest": found.manifest_digest,
                "snapshot": found.snapshot_id,
                "device": found.device_name,
                "virtual_size": found.size,
                "guest_digest": found.digest,
            }
            for found in facts.disks
        ],
        "system": facts.system,
        "notes": list(facts.notes),
        "preflight": [asdict(finding) for finding in facts.findings],
        "changes": [asdict(change) for change in facts.changes],
        "versions": {"vmferry": __version__, "python": platform.python_version()},
    }


def _imported(opened: SourceDisk, device_name: str, snapshot_id: str) -> ImportedDisk:
    return ImportedDisk(
        container=opened.container,
        name=opened.name,
        format=opened.format.ec2_name or opened.format.name.upper(),
        stored_size=opened.blob.size if opened.snapshot is None else opened.disk.size,
        size=opened.disk.size,
        device_name=device_name,
        snapshot_id=snapshot_id,
        status="active",
        digest=None if opened.snapshot is None else opened.snapshot.digest,
        manifest_digest=None if opened.digest is None else f"{opened.digest.algorithm}:{opened.digest.value.hex()}",
    )


def _asked_devices(task: ImportTask, source: Source, boots: Sequence[BootFacts]) -> list[str | None]:
    """The device name that the caller asked for, for each disk.

    The name of a container with several disks is for the one of them that boots most certainly.
    """
    asked: list[str | None] = [None] * len(source.disks)
    for index, container in enumerate(task.request.containers):
        inside = [i for i, opened in enumerate(source.disks) if opened.container == index]
        if inside and container.device_name is not None:
            asked[inside[guest.pick_root([boots[i] for i in inside])]] = container.device_name
    return asked


def _choose_firmware(source: Source, firmwares: Sequence[Firmware]) -> Firmware:
    """What the disk can be started with; where that is both or unknown, what the appliance says; BIOS at last."""
    said = source.machine.firmware if source.machine else None
    if said is not None and (said in firmwares or not firmwares):
        return said
    return firmwares[0] if firmwares else Firmware.BIOS


def _new_id(kind: str) -> str:
    return f"{kind}-{secrets.randbits(68):017x}"
