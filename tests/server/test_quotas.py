"""The profile of a configuration reaches the front end and the workers: the same requests, on two servers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.server.harness import Server, running_server
from tests.server.material import holds, make_disk, make_ova, make_vmdk
from tests.server.test_import import in_s3
from vmferry.quotas import AWS

pytestmark = [pytest.mark.server, pytest.mark.slow]

DISKS = AWS.disks + 3


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("wide")
    (folder / "config.toml").write_text('limits.profile = "vmferry"\nlimits.concurrent_import_tasks = 30\n')
    with running_server(folder) as running:
        yield running


def test_a_machine_with_more_disks_than_ec2_takes(server: Server, wide: Server, tmp_path: Path) -> None:
    disks = [make_disk(tmp_path / f"disk{number}.img", 8, 2, seed=number) for number in range(DISKS)]
    ova = make_ova(tmp_path / "many.ova", [make_vmdk(disk) for disk in disks])
    refused = server.wait(server.import_image(in_s3(server.upload(ova, "imports"))))
    assert refused["Status"] == "deleted"
    assert f"The machine has {DISKS} disks; {AWS.disks} can be imported at once." in refused["StatusMessage"]
    task = wide.wait(wide.import_image(in_s3(wide.upload(ova, "imports"))))
    assert task["Status"] == "completed", task["StatusMessage"]
    found = wide.client("ec2").describe_images(ImageIds=[task["ImageId"]])["Images"][0]["BlockDeviceMappings"]
    assert [device["DeviceName"] for device in found][-2:] == ["/dev/xvdba", "/dev/xvdbb"]
    assert all(holds(wide, device["Ebs"]["SnapshotId"], disk) for device, disk in zip(found, disks, strict=True))


def test_a_format_that_ec2_does_not_take(server: Server, wide: Server, tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "root.img", 16, 4)
    path = tmp_path / "root.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(disk), str(path)], check=True)
    container = {"UserBucket": {"S3Bucket": "imports", "S3Key": path.name}}
    for one in (server, wide):
        one.upload(path, "imports")
    refused = server.wait(server.import_image(container))
    assert refused["Status"] == "deleted"
    assert refused["StatusMessage"].startswith(
        "ClientError: Disk validation failed [Unsupported specified file format] | "
    )
    with pytest.raises(ClientError, match="is not a disk-image format that is imported here"):
        server.import_image({**container, "Format": "QCOW2"})
    for given in (container, {**container, "Format": "qcow2"}):
        task = wide.wait(wide.import_image(given))
        assert task["Status"] == "completed", task["StatusMessage"]
        assert holds(wide, task["SnapshotDetails"][0]["SnapshotId"], disk)


def test_more_tasks_than_ec2_runs_at_once(wide: Server, tmp_path: Path) -> None:
    place = in_s3(wide.upload(make_disk(tmp_path / "small.img", 8, 1), "imports"), "RAW")
    began = [wide.import_image(place) for _ in range(AWS.concurrent_import_tasks + 5)]
    assert {wide.wait(task_id)["Status"] for task_id in began} == {"completed"}
