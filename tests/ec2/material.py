"""Snapshots and AMIs as an import leaves them, put where actions find them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.ec2.running_gateway import ACCOUNT
from vmferry.catalog.import_facts import ImportedDisk
from vmferry.catalog.places import Place
from vmferry.catalog.snapshots import COMPLETED, PENDING, Snapshot
from vmferry.ec2.ids import new_id
from vmferry.ec2.services import Services
from vmferry.extent import Extent, ExtentKind
from vmferry.formats import FORMATS, SupportsCreate, open_disk
from vmferry.units import MIB

HERE = Place("us-east-1", ACCOUNT)
A_DISK = ImportedDisk(0, "web.vmdk", "VMDK", 652_312_064, 1 << 33, "/dev/sda1", "snap-1", "active")
"""What a task has found out of its only disk once it converts."""


def make_snapshot(services: Services, content: bytes = b"guest", size: int = 3 * MIB, *, whole: bool = True) -> str:
    """A snapshot of ``size`` bytes that begins with ``content``; its id."""
    snapshot_id = new_id("snap-")
    key = f"{ACCOUNT}/{snapshot_id}.qcow2"
    maker = FORMATS["qcow2"]
    assert isinstance(maker, SupportsCreate)
    writer: Any = maker.create(services.images.create(HERE.region, key), size, [Extent(0, size, ExtentKind.DATA)])
    writer.write_at(0, content.ljust(64 * 1024, b"\0"))
    writer.finish()
    state = COMPLETED if whole else PENDING
    services.catalog.snapshots.begin(
        Snapshot(snapshot_id, HERE, state, size, None, datetime.now(UTC), HERE.region, key, None)
    )
    return snapshot_id


def make_image(ec2: Any, snapshot_id: str, **parameters: Any) -> str:
    """An AMI over a snapshot; its id."""
    answer = ec2.register_image(
        Name=new_id("web-"),
        VirtualizationType="hvm",
        RootDeviceName="/dev/sda1",
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot_id}}],
        **parameters,
    )
    return str(answer["ImageId"])


def first_bytes(services: Services, key: str, count: int = 5) -> bytes:
    """What a guest sees first of the disk image at ``key``."""
    disk = open_disk(services.images.open(HERE.region, key), FORMATS["qcow2"])
    try:
        return bytes(disk.read_at(0, count))
    finally:
        disk.close()


def has_image(services: Services, key: str) -> bool:
    """Whether there is a disk image at ``key``."""
    return key in set(services.images.keys(HERE.region))


def put_object(services: Services, bucket: str, key: str) -> None:
    writer = services.objects(Place("us-east-1", ACCOUNT)).create(bucket, key)
    writer.write_at(0, bytes(512))
    writer.finish()
