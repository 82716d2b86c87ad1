"""``vmferry volumes`` and ``vmferry instances`` against the running server, and a volume's file that may be written."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.material import VMFERRY
from tests.server.harness import Server
from tests.server.material import same_guest
from tests.server.test_snapshots import snapshot_id

pytestmark = [pytest.mark.server, pytest.mark.slow]

__all__ = ["snapshot_id"]


def call(server: Server, *words: str) -> str:
    done = subprocess.run(
        [VMFERRY, *words, "--data-dir", str(server.data_dir)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_same(one: Path, other: Path) -> bool:
    done = subprocess.run(["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", one, other], capture_output=True)
    return done.returncode == 0


def test_a_volumes_file_is_its_own_once_it_is_asked_for(server: Server, snapshot_id: str, small_disk: Path) -> None:
    ec2 = server.client("ec2")
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", SnapshotId=snapshot_id)["VolumeId"]
    shared = next((server.data_dir / "images").rglob(f"{volume}.qcow2"))
    assert shared.stat().st_nlink > 1, "it costs nothing until somebody wants to write"
    path = Path(call(server, "volumes", "locate", volume).strip())
    assert path == shared
    assert path.stat().st_nlink == 1
    assert same_guest(path, small_disk)
    assert path.stat().st_blocks <= server.locate(snapshot_id).stat().st_blocks + 64, "holes stay holes"
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 64k", path], check=True, capture_output=True)
    assert same_guest(server.locate(snapshot_id), small_disk), "the snapshot is as it was"
    assert not same_guest(path, small_disk)
    kept = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 9 0 64k", path], check=True, capture_output=True)
    assert not is_same(path, server.locate(kept)), "a snapshot stays as it was made, whoever writes the volume"
    before = path.stat().st_ino
    assert json.loads(call(server, "volumes", "locate", volume, "--json"))["Path"] == str(path)
    assert path.stat().st_ino == before, "its bytes stay where they are"


def test_a_volume_that_is_larger_than_its_snapshot_is_so_for_its_machine(
    server: Server, snapshot_id: str, small_disk: Path
) -> None:
    ec2 = server.client("ec2")
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", SnapshotId=snapshot_id, Size=3)["VolumeId"]
    path = Path(call(server, "volumes", "locate", volume).strip())
    shown = json.loads(subprocess.run(["qemu-img", "info", "--output=json", path], capture_output=True).stdout)
    assert shown["virtual-size"] == 3 << 30
    command = ["qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(path), str(small_disk)]
    assert subprocess.run(command, capture_output=True).returncode == 0, "zeros behind what the snapshot holds"
    assert same_guest(server.locate(snapshot_id), small_disk), "the snapshot has the size that it had"


def test_volumes_and_instances_are_listed(server: Server, snapshot_id: str) -> None:
    ec2 = server.client("ec2")
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=5)["VolumeId"]
    image = ec2.register_image(
        Name="listed", VirtualizationType="hvm", RootDeviceName="/dev/sda1",
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot_id}}],
    )["ImageId"]  # fmt: skip
    instance = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    assert volume in call(server, "volumes", "list")
    assert "5 GiB" in call(server, "volumes", "list")
    listed = call(server, "instances")
    assert instance in listed
    assert "stopped" in listed
    assert instance in {one["InstanceId"] for one in json.loads(call(server, "instances", "--json"))["Instances"]}
    done = subprocess.run(
        [VMFERRY, "volumes", "locate", "vol-00000000", "--data-dir", str(server.data_dir)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "is not there" in done.stderr
