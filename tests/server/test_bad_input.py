"""What is wrong with an import is said: at once where that can be known, else by the task; with the remedy."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.server.harness import Server
from tests.server.material import make_disk, make_ova, make_vmdk
from tests.server.test_import import in_s3

pytestmark = [pytest.mark.server, pytest.mark.slow]


def failed(server: Server, path: Path, image_format: str = "OVA") -> str:
    """Import a file that cannot be imported; its task's reason. Nothing may be left of it."""
    before = server.settled()
    snapshots = server.client("ec2").describe_snapshots()["Snapshots"]
    task = server.wait(server.import_image(in_s3(server.upload(path, "broken"), image_format) | bucket("broken", path)))
    assert task["Status"] == "deleted", task
    assert set(server.leftovers()) == before
    assert server.client("ec2").describe_snapshots()["Snapshots"] == snapshots
    message = str(task["StatusMessage"])
    assert "\n" not in message
    assert "Traceback" not in message
    return message


def bucket(name: str, path: Path) -> dict[str, dict[str, str]]:
    return {"UserBucket": {"S3Bucket": name, "S3Key": path.name}}


def test_a_digest_that_differs_from_the_manifest(server: Server, tmp_path: Path) -> None:
    disk = make_vmdk(make_disk(tmp_path / "root.img", 64, 12))
    message = failed(server, make_ova(tmp_path / "spoilt.ova", [disk], spoil_manifest=True))
    assert message.startswith("ClientError: Disk validation failed [Invalid OVA file] | ")
    assert "root.vmdk" in message
    assert "0" * 64 in message


def test_a_file_that_is_no_ova(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "letter.ova"
    path.write_text("Dear Sir or Madam, " * 1000)
    message = failed(server, path)
    assert message.startswith("ClientError: Disk validation failed [Unsupported specified file format] | ")
    assert "letter.ova is not an OVA" in message


def test_an_ova_that_is_cut_short(server: Server, small_ova: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.ova"
    path.write_bytes(small_ova.read_bytes()[:-200_000])
    message = failed(server, path)
    assert message.startswith("ClientError: Disk validation failed [Invalid ")
    assert re.search("cut short|truncated|missing", message), message


def test_a_vmdk_with_a_damaged_grain(server: Server, small_disk: Path, small_ova: Path, tmp_path: Path) -> None:
    stored = bytearray(small_disk.with_suffix(".vmdk").read_bytes())  # the one in small_ova
    stored[len(stored) // 2 : len(stored) // 2 + 64] = bytes(64)
    path = tmp_path / "damaged.vmdk"
    path.write_bytes(stored)
    message = failed(server, path, "VMDK")
    assert message.startswith("ClientError: Disk validation failed [Invalid VMDK file] | ")
    assert "grain at guest offset" in message


def test_a_raw_disk_that_was_declared_as_vmdk(server: Server, small_disk: Path) -> None:
    message = failed(server, small_disk, "VMDK")
    assert "was declared as vmdk" in message


def test_a_href_that_leaves_the_appliance(server: Server, small_ova: Path, tmp_path: Path) -> None:
    path = tmp_path / "escape.ova"
    with tarfile.open(small_ova) as source, tarfile.open(path, "w") as target:
        for member in source:
            content = source.extractfile(member)
            assert content is not None
            data = content.read()
            if member.name.endswith(".mf"):
                continue
            if member.name.endswith(".ovf"):
                data = data.replace(b'ovf:href="root.vmdk"', b'ovf:href="../../etc/passwd"')
                member.size = len(data)
            copied = tmp_path / "member"
            copied.write_bytes(data)
            with copied.open("rb") as file:
                target.addfile(member, file)
    message = failed(server, path)
    assert message.startswith("ClientError: ")
    assert "../../etc/passwd" in message


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [("imports", "not/there.ova", "not/there.ova"), ("no-such-bucket", "k.ova", "no-such-bucket")],
)
def test_an_object_that_is_not_there_is_said_at_once(
    server: Server, small_ova: Path, name: str, key: str, said: str
) -> None:
    server.upload(small_ova, "imports")
    with pytest.raises(ClientError) as refused:
        server.import_image({"Format": "OVA", "UserBucket": {"S3Bucket": name, "S3Key": key}})
    error = refused.value.response["Error"]
    assert error["Code"] == "InvalidParameter"
    assert error["Message"].startswith("Invalid S3 source location | ")
    assert said in error["Message"]


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"DiskContainers": []}, "MissingParameter"),
        ({"DiskContainers": [{"Format": "OVA"}]}, "MissingParameter"),
        ({"DiskContainers": [{**in_s3("k"), "Url": "s3://a-b/c"}]}, "InvalidParameterCombination"),
        ({"DiskContainers": [in_s3("k", "ISO")]}, "InvalidParameter"),
        ({"DiskContainers": [in_s3("k", "VDI")]}, "InvalidParameter"),
        ({"DiskContainers": [in_s3("k", DeviceName="sda")]}, "InvalidBlockDeviceMapping"),
        ({"DiskContainers": [in_s3("k", DeviceName="/dev/sdf")] * 2}, "InvalidBlockDeviceMapping"),
        ({"DiskContainers": [in_s3("k")] * 22}, "InvalidParameterValue"),
        ({"DiskContainers": [in_s3("k")], "Platform": "BeOS"}, "InvalidParameterValue"),
        ({"DiskContainers": [in_s3("k")], "Architecture": "arm64"}, "InvalidParameterValue"),
        ({"DiskContainers": [in_s3("k")], "BootMode": "uefi-preferred"}, "InvalidParameterValue"),
        ({"DiskContainers": [in_s3("k")], "KmsKeyId": "k"}, "InvalidParameterDependency"),
        ({"DiskContainers": [in_s3("k")], "Encrypted": True}, "UnsupportedOperation"),
        (
            {"DiskContainers": [in_s3("k")], "LicenseType": "BYOL", "UsageOperation": "RunInstances"},
            "InvalidParameterCombination",
        ),
        ({"DiskContainers": [in_s3("k")], "LicenseType": "aws", "Platform": "linux"}, "InvalidParameterCombination"),
        ({"DiskContainers": [in_s3("k")], "UsageOperation": "RunInstances:9999"}, "InvalidParameterValue"),
        (
            {"DiskContainers": [in_s3("k")], "UsageOperation": "RunInstances:0002", "Platform": "Linux"},
            "InvalidParameterCombination",
        ),
        ({"DiskContainers": [in_s3("k")], "DryRun": True}, "DryRunOperation"),  # its upload may come later
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_with_awss_code(server: Server, parameters: dict[str, object], code: str) -> None:
    with pytest.raises(ClientError) as refused:
        server.client("ec2").import_image(**parameters)
    assert refused.value.response["Error"]["Code"] == code


def test_a_dry_run_looks_into_the_disks_and_makes_nothing(server: Server, small_ova: Path, small_disk: Path) -> None:
    """What metadata can tell is said before there is a task: EC2's code, and the words of the task's StatusMessage."""
    ec2 = server.client("ec2")
    server.upload(small_ova, "imports")
    server.upload(small_disk, "imports")
    tasks, snapshots = ec2.describe_import_image_tasks(), ec2.describe_snapshots(OwnerIds=["self"])

    def tried(key: str, declared: str) -> tuple[str, str]:
        for _ in range(30):
            with pytest.raises(ClientError) as refused:
                ec2.import_image(DiskContainers=[in_s3(key, declared)], DryRun=True)
            code, message = (refused.value.response["Error"][name] for name in ("Code", "Message"))
            if "were not looked into" not in message:  # on a busy machine they are not, within the time of a request
                return code, message
        raise AssertionError(message)

    code, message = tried(small_ova.name, "OVA")
    assert code == "DryRunOperation"
    assert message.startswith("Request would have succeeded, but DryRun flag is set. | ")
    assert "No system was recognised" in message
    code, message = tried(small_disk.name, "VMDK")
    assert code == "InvalidParameter"
    assert message.startswith("Disk validation failed [Unsupported VMDK File Format] | s3://imports/")
    assert ec2.describe_import_image_tasks()["ImportImageTasks"] == tasks["ImportImageTasks"]
    assert ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == snapshots["Snapshots"]


def test_what_vmferry_lacks_is_named(server: Server) -> None:
    with pytest.raises(ClientError) as refused:
        server.client("ec2").describe_spot_price_history()
    error = refused.value.response["Error"]
    assert error["Code"] == "InvalidAction"
    assert "DescribeSpotPriceHistory" in error["Message"]


def test_a_wrong_secret_is_refused(server: Server) -> None:
    with pytest.raises(ClientError) as refused:
        server.client("ec2", aws_secret_access_key="x" * 40).describe_images()
    assert refused.value.response["Error"]["Code"] == "AuthFailure"


def test_an_unknown_task_and_a_malformed_one(server: Server) -> None:
    for task_id, code in (
        ("import-ami-00000000000000000", "InvalidConversionTaskId"),
        ("ami-1", "InvalidConversionTaskId.Malformed"),
    ):
        with pytest.raises(ClientError) as refused:
            server.client("ec2").describe_import_image_tasks(ImportTaskIds=[task_id])
        assert refused.value.response["Error"]["Code"] == code
