"""What ``vmferry import`` and ``export`` make of their arguments, at AWS and elsewhere."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from botocore.exceptions import ClientError

from tests.cli.material import make_raw, qemu_img
from vmferry.cli._client import ApiError, Clients, api_errors
from vmferry.cli._export_kinds import Export, check_export, choose_format
from vmferry.cli._import_sources import ImportSource, check_files, made_by, read_sources
from vmferry.errors import BlobNotFoundError, ConfigError


def nobody(service: str) -> Any:
    raise AssertionError(f"{service} is not to be asked")


AWS, OWN = Clients(nobody, is_aws=True), Clients(nobody, is_aws=False)


def test_files_and_objects_become_disk_containers(tmp_path: Path) -> None:
    file = tmp_path / "root.VMDK"
    file.write_bytes(b"x")
    there = read_sources(AWS, [str(file), "s3://mine/data/disk.img"], "imports", None, None)
    assert [source.container() for source in there] == [
        {"Format": "VMDK", "UserBucket": {"S3Bucket": "imports", "S3Key": "root.VMDK"}},
        {"Format": "RAW", "UserBucket": {"S3Bucket": "mine", "S3Key": "data/disk.img"}},
    ]
    (here,) = read_sources(OWN, [str(file)], None, "a/b", None)
    assert here.container() == {"UserBucket": {"S3Bucket": "vmferry-imports", "S3Key": "a/b"}}
    (stated,) = read_sources(OWN, [str(file)], None, None, "raw")
    assert stated.container()["Format"] == "RAW"


def test_what_aws_must_be_told_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "web.qcow2"
    file.write_bytes(b"x")
    with pytest.raises(ConfigError, match="does not say by its name which format it has: add --format"):
        read_sources(AWS, [str(file)], "imports", None, None)
    with pytest.raises(ConfigError, match="Name a bucket of yours with --bucket"):
        read_sources(AWS, [str(file)], None, None, "raw")
    with pytest.raises(BlobNotFoundError, match="does not exist"):
        read_sources(AWS, [str(tmp_path / "no.ova")], "imports", None, None)
    with pytest.raises(typer.BadParameter, match="--key names one object"):
        read_sources(OWN, [str(file), str(file)], None, "k", None)


def test_a_file_that_aws_would_refuse_is_refused_before_the_upload(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "root.raw", 4 << 20)
    qemu_img("convert", "-f", "raw", "-O", "vmdk", raw, tmp_path / "sparse.vmdk")
    qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, tmp_path / "stream.vmdk")
    check_files(read_sources(AWS, [str(raw), str(tmp_path / "stream.vmdk")], "imports", None, None))
    with pytest.raises(ConfigError, match=r"AWS would refuse .*monolithicSparse is no kind of VMDK that EC2 takes"):
        check_files(read_sources(AWS, [str(tmp_path / "sparse.vmdk")], "imports", None, None))
    with pytest.raises(ConfigError, match="it is said to be VHDX, and shows RAW"):
        check_files(read_sources(AWS, [str(raw)], "imports", None, "vhdx"))
    with pytest.raises(
        ConfigError, match=r"No partition table was found.*\[No valid partitions. Not a valid volume.\]"
    ):
        check_files(read_sources(AWS, [str(raw)], "imports", None, "raw"), machine=True)
    subprocess.run(["gzip", "-k", str(raw)], check=True)
    with pytest.raises(ConfigError, match="packed by gzip"):
        check_files(read_sources(AWS, [str(raw) + ".gz"], "imports", None, "raw"))
    check_files([ImportSource("s3://b/k.ova", None, "b", "k.ova", "OVA")])  # an object is the service's to judge


@pytest.mark.parametrize(
    ("code", "message", "said", "retryable"),
    [
        ("NoSuchBucket", "It does not exist", "NoSuchBucket: It does not exist. Make it, or name another.", False),
        ("ExpiredToken", "The token has expired.", "has expired. Get new temporary keys, and call again.", False),
        ("AuthFailure", "Not validated | It is so: do that.", "AuthFailure: Not validated | It is so: do that.", False),
        (
            "AuthFailure",
            "AWS was not able to validate the provided access credentials",
            "credentials. Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile that AWS_PROFILE names.",
            False,
        ),
        (
            "AuthFailure",
            "vm-import-export@amazon.com must have WRITE and READ_ACL permission on the S3 bucket.",
            "An AMI is exported without that.",
            False,
        ),
        (
            "AuthFailure",
            "This request has been administratively disabled.",
            "AuthFailure: This request has been administratively disabled.",
            False,
        ),
        ("Throttling", "Rate exceeded", "Throttling: Rate exceeded", True),
        ("404", "", "404: no message", False),
    ],
)
def test_a_code_of_aws_is_told_with_what_to_do(code: str, message: str, said: str, *, retryable: bool) -> None:
    with pytest.raises(ApiError) as caught, api_errors():
        raise ClientError({"Error": {"Code": code, "Message": message}}, "ImportImage")
    assert str(caught.value).endswith(said)
    assert (caught.value.code, caught.value.retryable) == (code, retryable)


def test_what_an_import_made_is_found_in_its_task() -> None:
    image = {"ImageId": "ami-1", "SnapshotDetails": [{"SnapshotId": "snap-1"}, {"SnapshotId": "snap-2"}]}
    assert list(made_by(image)) == ["ami-1", "snap-1", "snap-2"]
    assert list(made_by({"SnapshotTaskDetail": {"SnapshotId": "snap-3"}})) == ["snap-3"]


def export(subject: str, image_format: str, **options: Any) -> Export:
    facts = {"description": None, "tags": [], "role": None, "client_token": None, "target": None, **options}
    return Export(subject, image_format, "exports", "web/", **facts)


def test_exports_in_the_words_of_the_api() -> None:
    image = export("ami-1", "VHD", tags=["a=b"], role="r", client_token="t")
    assert (image.method, image.key("export-ami-1")) == ("export_image", "web/export-ami-1.vhd")
    assert image.parameters() == {
        "ImageId": "ami-1",
        "DiskImageFormat": "VHD",
        "S3ExportLocation": {"S3Bucket": "exports", "S3Prefix": "web/"},
        "ClientToken": "t",
        "RoleName": "r",
        "TagSpecifications": [{"ResourceType": "export-image-task", "Tags": [{"Key": "a", "Value": "b"}]}],
    }
    assert export("i-1", "OVA").parameters() == {
        "InstanceId": "i-1",
        "TargetEnvironment": "vmware",
        "ExportToS3Task": {
            "ContainerFormat": "ova",
            "DiskImageFormat": "VMDK",
            "S3Bucket": "exports",
            "S3Prefix": "web/",
        },
    }
    assert export("i-1", "VHD").parameters()["TargetEnvironment"] == "microsoft"
    assert export("i-1", "VHD", target="citrix").parameters()["TargetEnvironment"] == "citrix"


def test_the_format_of_an_export() -> None:
    assert choose_format(None, "web.vhdx", "ami-1") == "VHDX"
    assert choose_format(None, "s3://exports/web/", "ami-1") == "VMDK"
    assert choose_format(None, "s3://exports/web/", "i-1") == "OVA"
    assert choose_format("ova", "web.img", "ami-1") == "OVA"
    with pytest.raises(typer.BadParameter, match="--format is VMDK, VHD, RAW, VHDX or OVA, not qcow2"):
        choose_format("qcow2", "web", "ami-1")
    check_export(export("ami-1", "OVA"), is_aws=False)
    with pytest.raises(ConfigError, match="AWS exports VMDK, VHD and RAW, not OVA"):
        check_export(export("ami-1", "OVA"), is_aws=True)
    with pytest.raises(typer.BadParameter, match="--target is for instances"):
        check_export(export("ami-1", "VHD", target="citrix"), is_aws=False)
