"""What an export takes: the machine that it is, as far as that is known, and where its disk images lie."""

from __future__ import annotations

from vmferry.catalog.export_tasks import ExportTask
from vmferry.catalog.instance_types import INSTANCE_TYPES
from vmferry.errors import NotFoundError
from vmferry.machine import Firmware, Machine, NetworkInterface
from vmferry.tasks import Services
from vmferry.units import MIB

DiskImages = list[tuple[str, str]]
"""Bucket and key of each disk's image in the image store, the root's first."""

_CPUS, _MEMORY = 2, 2048 * MIB
"""Of a machine of which nothing is known: an AMI does not say how many it had."""


def exported_image(services: Services, task: ExportTask) -> tuple[Machine, DiskImages]:
    """The AMI of ``task``. Raises ``NotFoundError`` where it or a snapshot was removed meanwhile."""
    (image,) = services.catalog.images.describe(task.place, [task.image_id or ""])
    ids = [device.snapshot_id for device in image.block_devices]
    found = {one.id: one for one in services.catalog.snapshots.describe(task.place, ids)}
    machine = _machine(image.name, image.boot_mode, _CPUS, _MEMORY)
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
    cpus, memory = (_CPUS, _MEMORY) if kind is None else (kind.vcpus, kind.memory_mib * MIB)
    return _machine(instance_id, instance.boot_mode, cpus, memory), [(one.bucket, one.key) for one in ordered]


def _machine(name: str, boot_mode: str, cpus: int, memory: int) -> Machine:
    firmware = Firmware.BIOS if boot_mode == Firmware.BIOS.value else Firmware.UEFI
    return Machine(name, cpus=cpus, memory=memory, firmware=firmware, interfaces=(NetworkInterface(),))
