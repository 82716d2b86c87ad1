"""AMIs of instances: a snapshot of each volume, and the image over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from vmferry.catalog.images import AVAILABLE, BlockDevice, Image
from vmferry.catalog.instances import Instance
from vmferry.catalog.volumes import Volume
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.snapshot_removal import remove_snapshot
from vmferry.ec2.volume_snapshots import snapshot_volume


@dataclass(frozen=True, slots=True)
class WantedImage:
    """What is to be made."""

    id: str
    name: str
    description: str | None
    tags: Mapping[str, str]
    snapshot_tags: Mapping[str, str]


def create_image_of(
    context: RequestContext, instance: Instance, volumes: Sequence[Volume], wanted: WantedImage
) -> None:
    """Make the snapshots, then record the AMI; nothing is left of what failed.

    Raises ``StoreError``, ``ConflictError`` when the name is in use.
    """
    devices: list[BlockDevice] = []
    try:
        for volume in sorted(volumes, key=lambda one: _device(one) != instance.root_device_name):
            told = f"Created by CreateImage({instance.id}) for {wanted.id}"
            snapshot = snapshot_volume(context, volume, told, wanted.snapshot_tags)
            held = volume.attachment
            keep = held is not None and held.delete_on_termination
            devices.append(BlockDevice(_device(volume), snapshot.id, volume.size_gib, keep, volume.volume_type))
        image = Image(
            id=wanted.id,
            place=context.place,
            name=wanted.name,
            description=wanted.description,
            state=AVAILABLE,
            architecture=instance.architecture,
            boot_mode=instance.boot_mode,
            platform=instance.platform,
            usage_operation=instance.billed_as,
            root_device_name=instance.root_device_name,
            created_at=datetime.now(UTC),
            block_devices=tuple(devices),
            support=instance.support,
            hardware=instance.hardware,
        )
        context.services.catalog.images.register(image, wanted.tags)
    except BaseException:
        for device in devices:
            remove_snapshot(context, device.snapshot_id)
        raise


def _device(volume: Volume) -> str:
    return "" if volume.attachment is None else volume.attachment.device_name
