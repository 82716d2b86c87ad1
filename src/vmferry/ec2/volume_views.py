"""Volumes and their attachments as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.volumes import Volume
from vmferry.ec2.import_task_views import tag_list


def describe_volume(volume: Volume, tags: Mapping[str, str]) -> dict[str, Any]:
    """A volume as CreateVolume and DescribeVolumes show it."""
    return {
        "Attachments": [] if volume.attachment is None else [describe_attachment(volume, "attached")],
        "AvailabilityZone": volume.zone,
        "CreateTime": volume.created_at,
        "Encrypted": False,
        "MultiAttachEnabled": False,
        "Size": volume.size_gib,
        "SnapshotId": volume.snapshot_id or "",
        "State": volume.state,
        "Tags": tag_list(tags),
        "VolumeId": volume.id,
        "VolumeType": volume.volume_type,
    }


def describe_attachment(volume: Volume, state: str) -> dict[str, Any]:
    """What ``volume`` hangs on. It does hang on something."""
    held = volume.attachment
    assert held is not None, f"{volume.id} is not attached"
    return {
        "AttachTime": held.attached_at,
        "DeleteOnTermination": held.delete_on_termination,
        "Device": held.device_name,
        "InstanceId": held.instance_id,
        "State": state,
        "VolumeId": volume.id,
    }
