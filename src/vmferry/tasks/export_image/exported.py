"""What an export takes: the machine that it is, as far as that is known, and where its disk images lie."""

from __future__ import annotations

from dataclasses import replace

from vmferry.catalog.export_tasks import ExportTask
from vmferry.catalog.hardware import Hardware
from vmferry.catalog.instance_types import INSTANCE_TYPES
from vmferry.errors import NotFoundError
from vmferry.machine import Firmware, Machine, NetworkInterface
from vmferry.tasks import Services
from vmferry.units import MIB

DiskImages = list[tuple[str, str]]
"""Bucket and key of each disk's image in the image store, the root's first."""

_UNKNOWN = Hardware(cpus=2, memory=2048 * MIB)
"""Of a machine of which nothing is known: its disks came alone."""


def exported_image(services: Services, task: ExportTask) -> tuple[Machine, DiskImages]:
    """The AMI of ``task``. Raises ``NotFoundError`` where it or a snapshot was removed meanwhile."""
    (image,) = services.catalog.images.describe(task.place, [task.image_id or ""])
    ids = [device.snapshot_id for device in image.block_devices]
    found = {one.id: one for one in services.catalog.snapshots.describe(task.place, ids)}
    machine = _machine(image.name, image.boot_mode, image.hardware or _UNKNOWN)
    return machine, [(found[snapshot_id].bucket, found[snapshot_id].key) for snapshot_id in ids]


def exported_instance(services: Services, task: ExportTask) -> tuple[Machine, DiskImages]:
    """The instance of ``task``, with the volumes that came with it. Raises ``NotFoundError`` where it was ended."""
    instance_id = task.instance_id or ""
    (instance,) = services.catalog.instances.describe(task.place, [instance_id])
    volumes = services.catalog.volumes.of_instances([instance_id])[instance_id]
    imported = [one for one in volumes if one.task_id is not None and one.task_id == instance.task_id]
    if not imported:
        raise NotFoundError(f"The instance {instance_id} has no volumes any more.", resource_id=instance_id)
    root = instance.root_device_name
    ordered = sorted(imported, key=lambda one: one.attachment is None or one.attachment.device_name != root)
    kind = INSTANCE_TYPES.get(instance.instance_type)
    hardware = instance.hardware or _UNKNOWN
    if kind is not None:  # what the instance has now, whatever it had before
        hardware = replace(hardware, cpus=kind.vcpus, memory=kind.memory_mib * MIB)
    return _machine(instance_id, instance.boot_mode, hardware), [(one.bucket, one.key) for one in ordered]


def _machine(name: str, boot_mode: str, hardware: Hardware) -> Machine:
    firmware = Firmware.BIOS if boot_mode == Firmware.BIOS.value else Firmware.UEFI
    return Machine(
        name,
        cpus=hardware.cpus,
        memory=hardware.memory,
        firmware=firmware,
        interfaces=hardware.interfaces or (NetworkInterface(),),  # EC2 gives every machine one
        guest_os=hardware.guest_os,
    )
