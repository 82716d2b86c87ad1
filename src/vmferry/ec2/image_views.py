"""AMIs and snapshots as the API shows them, and what they can be filtered by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.images import BlockDevice, Image
from vmferry.catalog.snapshots import COMPLETED, Snapshot
from vmferry.ec2.import_task_views import tag_list

IMPORTED_VOLUME_ID = "vol-ffffffff"
"""The volume of a snapshot that was imported: EC2's word for none; clients test for it."""


def describe_image(image: Image, tags: Mapping[str, str]) -> dict[str, Any]:
    """An AMI as DescribeImages shows it."""
    return {
        "Architecture": image.architecture,
        "BlockDeviceMappings": [_describe_device(device) for device in image.block_devices],
        "BootMode": image.boot_mode,
        "CreationDate": f"{image.created_at:%Y-%m-%dT%H:%M:%S}.000Z",
        "Description": image.description,
        "EnaSupport": image.support.ena,
        "Hypervisor": "xen",
        "ImageId": image.id,
        "ImageLocation": f"{image.place.account_id}/{image.name}",
        "ImageType": "machine",
        "ImdsSupport": image.support.imds,
        "Name": image.name,
        "OwnerId": image.place.account_id,
        "Platform": "windows" if image.platform else None,
        "PlatformDetails": "Windows" if image.platform else "Linux/UNIX",
        "Public": image.public,
        "RootDeviceName": image.root_device_name,
        "RootDeviceType": "ebs",
        "SriovNetSupport": image.support.sriov_net,
        "State": image.state,
        "Tags": tag_list(tags),
        "TpmSupport": image.support.tpm,
        "UsageOperation": image.usage_operation,
        "VirtualizationType": "hvm",
    }


def _describe_device(device: BlockDevice) -> dict[str, Any]:
    return {
        "DeviceName": device.device_name,
        "Ebs": {
            "DeleteOnTermination": device.delete_on_termination,
            "Encrypted": False,
            "SnapshotId": device.snapshot_id,
            "VolumeSize": device.volume_size_gib,
            "VolumeType": device.volume_type,
        },
    }


def describe_snapshot(snapshot: Snapshot, tags: Mapping[str, str]) -> dict[str, Any]:
    """A snapshot as DescribeSnapshots shows it."""
    return {
        "Description": snapshot.description or "",
        "Encrypted": False,
        "OwnerId": snapshot.place.account_id,
        "Progress": "100%" if snapshot.state == COMPLETED else f"{snapshot.progress or 0}%",
        "SnapshotId": snapshot.id,
        "StartTime": snapshot.created_at,
        "State": snapshot.state,
        "StateMessage": snapshot.state_message,
        "StorageTier": "standard",
        "Tags": tag_list(tags),
        "VolumeId": snapshot.volume_id or IMPORTED_VOLUME_ID,
        "VolumeSize": snapshot.volume_size_gib,
    }
