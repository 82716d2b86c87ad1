"""Real guests through a real server: looked into, told of, and prepared where that is asked for."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.server.harness import Server
from tests.server.material import holds, make_disk

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from build_guest import cached_guest

pytestmark = [pytest.mark.server, pytest.mark.slow]


def imported(server: Server, *words: str) -> tuple[str, str]:
    """The AMI that ``vmferry import`` answers, and its root's snapshot."""
    done = server.vmferry("import", *words)
    assert done.returncode == 0, done.stderr
    image_id = done.stdout.strip()
    (image,) = server.client("ec2").describe_images(ImageIds=[image_id])["Images"]
    return image_id, image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]


def starts_on(server: Server, snapshot_id: str) -> list[str]:
    """The drivers in the initramfs of the disk image behind a snapshot."""
    path = server.vmferry("snapshots", "locate", snapshot_id, "--data-dir", str(server.data_dir)).stdout.strip()
    facts = json.loads(server.vmferry("inspect", path, "--json").stdout)["guest"]
    found: list[str] = facts["systems"][0]["linux"]["kernels"][0]["in_initramfs"]
    return found


def test_a_guest_is_imported_byte_for_byte_and_told_of(server: Server) -> None:
    guest = cached_guest("hostonly")
    image_id, snapshot_id = imported(server, str(guest), "--format", "raw")
    assert holds(server, snapshot_id, guest)
    assert "virtio_blk" not in starts_on(server, snapshot_id)
    tags = {
        tag["Key"]: tag["Value"]
        for tag in server.client("ec2").describe_images(ImageIds=[image_id])["Images"][0]["Tags"]
    }
    assert "little-room" in tags["vmferry:preflight"].split(", ")


def test_a_guest_that_is_to_be_prepared_has_virtio_and_the_receipt_says_what_was_done(server: Server) -> None:
    guest = cached_guest("hostonly")
    image_id, snapshot_id = imported(server, str(guest), "--format", "raw", "--prepare")
    assert {"virtio_blk", "virtio_pci"} <= set(starts_on(server, snapshot_id))
    tasks = server.client("ec2").describe_import_image_tasks()["ImportImageTasks"]
    (task_id,) = [task["ImportTaskId"] for task in tasks if task.get("ImageId") == image_id]
    receipt = json.loads(server.vmferry("receipt", task_id, "--data-dir", str(server.data_dir)).stdout)
    assert receipt["system"] == "vmferry tiny guest, x86_64"
    assert receipt["changes"][0]["what"] == "replaced"
    assert "no-virtio-driver" in [finding["id"] for finding in receipt["preflight"]]
    done = server.vmferry("import", str(guest), "--prepare", "--snapshot", "--format", "raw")
    assert done.returncode == 2
    assert "--prepare is an AMI's" in done.stderr


def test_a_machine_that_does_not_start_ends_in_ec2s_first_boot_failure(server: Server, tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "data.raw", 8, 2, boots=False)
    done = server.vmferry("import", str(disk), "--format", "raw", "--boot-check")
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert "FirstBootFailure: This import request failed because the instance failed to boot | " in said
    assert "The firmware found nothing to start." in said
    assert "It said last: " in said
    assert re.search(r"All of it, with its screen: .* --evidence DIR, or aws s3 cp --recursive s3://[\w/-]+ DIR", said)
    images = server.client("ec2").describe_images(Owners=["self"])["Images"]
    assert not [image for image in images if image["Name"] in said]
