"""What clients send that cannot be run against the server, call by call, in their own spelling.

Packer's amazon-import, which gives S3 the address of EC2 (1.6.6 has no other setting than custom_endpoint_ec2);
Terraform's aws_ebs_snapshot_import, osbuild, bsdec2-image-upload and euca2ools, which are not packaged where this runs.
Read from their sources. Forms are signed by hand, for it is the bytes on the wire that matter.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.server.harness import Server
from tests.server.material import holds, same_guest
from vmferry.import_manifest import ImportManifest, ManifestPart, render_manifest

pytestmark = [pytest.mark.server, pytest.mark.slow]

FRIEND = "999900001111"
SMALLEST_BUFFER = 16 * 1024
"""What bsdec2-image-upload reads of an answer, its headers included."""


class Wire:
    """A client that sends forms and reads text."""

    def __init__(self, server: Server, version: str = "2016-11-15", headers: Mapping[str, str] | None = None) -> None:
        self._server = server
        self._version = version
        form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        self._headers = form if headers is None else dict(headers)

    def call(self, action: str, code: str = "", service: str = "ec2", **parameters: str) -> str:
        """The answer to ``action``; ``__`` stands for a dot. ``code`` is the error that is expected."""
        asked = {name.replace("__", "."): value for name, value in parameters.items()}
        body = urlencode({"Action": action, **asked, "Version": self._version}).encode()  # the version last, as bsdec2
        status, text = self._send(body, service)
        found = re.search("<Code>(.*?)</Code>", text)
        assert (found[1] if found else "") == code, text
        assert (status == 200) == (code == ""), text
        return text

    def _send(self, body: bytes, service: str) -> tuple[int, str]:
        ready = self._server.ready
        headers = {**self._headers, "X-Amz-Content-SHA256": hashlib.sha256(body).hexdigest()}
        request = AWSRequest(method="POST", url=f"{ready['endpoint']}/", data=body, headers=headers)
        keys = Credentials(ready["access_key_id"], ready["secret_access_key"])
        SigV4Auth(keys, service, ready["region"]).add_auth(request)
        connection = http.client.HTTPConnection(urlsplit(ready["endpoint"]).netloc, timeout=30)
        try:
            connection.putrequest("POST", "/", skip_accept_encoding=True)
            for name, value in {**dict(request.headers.items()), "Content-Length": str(len(body))}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


def first(tag: str, text: str) -> str:
    """The first ``tag`` of an answer, as clients that search the text find it."""
    found = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    assert found, f"no <{tag}> in {text}"
    return found[1]


def looks(seconds: float = 120) -> Iterator[None]:
    """Turns of a client that looks again and again."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        yield
        time.sleep(0.1)
    raise AssertionError(f"it did not end within {seconds} s")


@pytest.fixture
def key(server: Server, small_disk: Path) -> str:
    return server.upload(small_disk, "sequences", "disk.raw")


def in_s3(prefix: str, key: str) -> dict[str, str]:
    return {f"{prefix}__UserBucket__S3Bucket": "sequences", f"{prefix}__UserBucket__S3Key": key}


# --- Packer's amazon-import


def packer_import(wire: Wire, key: str, declared: str) -> str:
    """ImportImage as the plug-in fills it in: an empty Platform, and Encrypted always."""
    options = {"Architecture": "x86_64", "BootMode": "legacy-bios", "Encrypted": "false", "Platform": ""}
    answer = wire.call("ImportImage", DiskContainer__1__Format=declared, **options, **in_s3("DiskContainer__1", key))
    return first("importTaskId", answer)


def packer_wait(wire: Wire, task_id: str) -> str:
    """The answer in which the task has ended; until then it always has a status."""
    for _ in looks():
        answer = wire.call("DescribeImportImageTasks", ImportTaskId__1=task_id)
        outer = re.sub("<snapshotDetailSet>.*?</snapshotDetailSet>", "", answer, flags=re.DOTALL)
        if first("status", outer) in ("completed", "deleted"):
            return answer
    raise AssertionError("unreachable")


def test_packer_imports_renames_tags_and_shares(server: Server, small_disk: Path, key: str) -> None:
    wire = Wire(server)
    sts = Wire(server, "2011-06-15").call("GetCallerIdentity", service="sts")
    assert first("Account", sts) == server.ready["account_id"]
    answer = packer_wait(wire, packer_import(wire, key, "raw"))
    source = first("imageId", answer)
    copied = wire.call(
        "CopyImage", Name="packer-web", SourceImageId=source, SourceRegion="us-east-1", Encrypted="false"
    )
    image_id = first("imageId", copied)
    assert first("imageState", wire.call("DescribeImages", ImageId__1=image_id)) == "available"
    old = first("snapshotId", wire.call("DescribeImages", ImageId__1=source))
    wire.call("DeregisterImage", ImageId=source)
    wire.call("DeleteSnapshot", SnapshotId=old)
    described = wire.call("DescribeImages", ImageId__1=image_id)
    snapshot_id = first("snapshotId", described)
    tags = {"Tag__1__Key": "who", "Tag__1__Value": "packer"}
    wire.call("CreateTags", ResourceId__1=image_id, ResourceId__2=snapshot_id, **tags)
    wire.call("ModifyImageAttribute", ImageId=image_id, Description__Value="web, by Packer")
    both = {"UserId__1": FRIEND, "LaunchPermission__Add__1__UserId": FRIEND}  # both spellings in one request
    wire.call("ModifyImageAttribute", ImageId=image_id, **both)
    public = {"UserGroup__1": "all", "LaunchPermission__Add__1__Group": "all"}
    wire.call("ModifyImageAttribute", ImageId=image_id, **public)
    shown = wire.call("DescribeImageAttribute", ImageId=image_id, Attribute="launchPermission")
    assert first("userId", shown) == FRIEND
    (image,) = server.client("ec2").describe_images(ImageIds=[image_id])["Images"]
    assert (image["Name"], image["Description"], image["Public"]) == ("packer-web", "web, by Packer", True)
    assert holds(server, snapshot_id, small_disk)
    server.client("s3").delete_object(Bucket="sequences", Key=key)


def test_packer_reads_why_an_import_failed(server: Server, tmp_path: Path) -> None:
    """It dereferences the StatusMessage of a task that was deleted, without looking whether there is one."""
    rubbish = tmp_path / "rubbish.vmdk"
    rubbish.write_bytes(b"no disk image" * 100)
    wire = Wire(server)
    answer = packer_wait(wire, packer_import(wire, server.upload(rubbish, "sequences"), "vmdk"))
    assert (
        first("status", re.sub("<snapshotDetailSet>.*?</snapshotDetailSet>", "", answer, flags=re.DOTALL)) == "deleted"
    )
    assert first("statusMessage", answer)


# --- Terraform's aws_ebs_snapshot_import


def test_terraform_imports_a_snapshot_and_reads_it_back(server: Server, small_disk: Path, key: str) -> None:
    wire = Wire(server)
    asked = {
        "ClientToken": "terraform-20261123", "Description": "by Terraform", "RoleName": "vmimport",
        "ClientData__Comment": "c", "ClientData__UploadSize": "6.7108864E7",
        "ClientData__UploadStart": "2026-11-23T09:00:00Z", "ClientData__UploadEnd": "2026-11-23T10:00:00Z",
        "DiskContainer__Description": "root", "DiskContainer__Format": "RAW", **in_s3("DiskContainer", key),
        "TagSpecification__1__ResourceType": "import-snapshot-task", "TagSpecification__1__Tag__1__Key": "Name",
        "TagSpecification__1__Tag__1__Value": "web",
    }  # fmt: skip
    refused = wire.call(
        "ImportSnapshot", "InvalidParameter", **{**asked, "RoleName": "just-created", "ClientToken": "t"}
    )
    assert "provided does not exist or does not have sufficient permissions" in refused  # on which it tries again
    task_id = first("importTaskId", wire.call("ImportSnapshot", **asked))
    assert first("importTaskId", wire.call("ImportSnapshot", **asked)) == task_id
    for _ in looks():
        answer = wire.call("DescribeImportSnapshotTasks", ImportTaskId__1=task_id)
        if (status := first("status", answer)) == "completed":
            break
        assert status in ("active", "updating", "validating", "validated", "converting")
    snapshot_id = first("snapshotId", answer)
    wire.call("CreateTags", ResourceId__1=snapshot_id, Tag__1__Key="Name", Tag__1__Value="web")
    unknown = wire.call("ModifySnapshotTier", "InvalidAction", SnapshotId=snapshot_id, StorageTier="archive")
    assert "is not valid" in unknown  # it goes on without what is not offered
    shown = wire.call("DescribeSnapshots", SnapshotId__1=snapshot_id)
    assert (first("encrypted", shown), first("ownerId", shown)) == ("false", server.ready["account_id"])
    assert (first("storageTier", shown), first("volumeSize", shown)) == ("standard", "1")
    assert holds(server, snapshot_id, small_disk)
    wire.call("DeleteSnapshot", SnapshotId=snapshot_id)
    wire.call("DescribeSnapshots", "InvalidSnapshot.NotFound", SnapshotId__1=snapshot_id)


# --- osbuild's images


def test_osbuild_names_no_format_and_registers_what_it_gets(server: Server, small_disk: Path, key: str) -> None:
    ec2 = server.client("ec2")
    container = {"UserBucket": {"S3Bucket": "sequences", "S3Key": key}}
    asked = {"Description": "Image Builder AWS Import of web", "RoleName": "vmimport"}
    task_id = ec2.import_snapshot(DiskContainer=container, **asked)["ImportTaskId"]
    waiter = ec2.get_waiter("snapshot_imported")
    waiter.wait(ImportTaskIds=[task_id], WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    (task,) = ec2.describe_import_snapshot_tasks(ImportTaskIds=[task_id])["ImportSnapshotTasks"]
    assert task["SnapshotTaskDetail"]["Status"] == "completed"
    snapshot_id = task["SnapshotTaskDetail"]["SnapshotId"]
    server.client("s3").delete_object(Bucket="sequences", Key=key)
    ec2.create_tags(Resources=[snapshot_id], Tags=[{"Key": "Name", "Value": "web"}])
    image_id = ec2.register_image(
        Architecture="x86_64",
        BootMode="uefi-preferred",
        VirtualizationType="hvm",
        Name="osbuild-web",
        RootDeviceName="/dev/sda1",
        EnaSupport=True,
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot_id}}],
    )["ImageId"]
    ec2.create_tags(Resources=[image_id], Tags=[{"Key": "Name", "Value": "web"}])
    ec2.modify_snapshot_attribute(
        Attribute="createVolumePermission", OperationType="add", SnapshotId=snapshot_id, UserIds=[FRIEND]
    )
    ec2.modify_image_attribute(ImageId=image_id, LaunchPermission={"Add": [{"UserId": FRIEND}]})
    shared = ec2.describe_snapshot_attribute(Attribute="createVolumePermission", SnapshotId=snapshot_id)
    assert shared["CreateVolumePermissions"] == [{"UserId": FRIEND}]
    (image,) = ec2.describe_images(ImageIds=[image_id])["Images"]
    assert (image["BootMode"], image["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"]) == ("uefi-preferred", 1)
    assert holds(server, snapshot_id, small_disk)


# --- bsdec2-image-upload


def upload_parts(server: Server, disk: Path) -> str:
    """Parts of 10 MiB, then the manifest; all URLs are presigned for seven days. The manifest's."""
    s3, length, size = server.client("s3"), 10 << 20, disk.stat().st_size
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket="sequences")

    def url(key: str) -> str:
        place = {"Bucket": "sequences", "Key": key}
        return str(s3.generate_presigned_url("get_object", place, ExpiresIn=604800))

    parts, data = [], disk.read_bytes()
    for index, start in enumerate(range(0, size, length)):
        key, end = f"a1b2/part{index}", min(start + length, size)
        s3.put_object(Bucket="sequences", Key=key, Body=data[start:end])
        parts.append(ManifestPart(index, start, end - 1, key, url(key)))
    manifest = render_manifest(ImportManifest("RAW", size, 1, tuple(parts)))
    s3.put_object(Bucket="sequences", Key="a1b2/manifest.xml", Body=manifest)
    return url("a1b2/manifest.xml")


def test_bsdec2_reads_text_and_sends_no_content_type(server: Server, small_disk: Path) -> None:
    wire = Wire(server, "2014-09-01", headers={})
    assert "us-west-2" in wire.call("DescribeRegions")
    image = {"Image__Format": "RAW", "Image__Bytes": str(small_disk.stat().st_size)}
    image["Image__ImportManifestUrl"] = upload_parts(server, small_disk)
    answer = wire.call("ImportVolume", AvailabilityZone="us-east-1a", Volume__Size="1", **image)
    assert 'xmlns="http://ec2.amazonaws.com/doc/2014-09-01/"' in answer
    task_id = first("conversionTaskId", answer)
    for _ in looks():
        answer = wire.call("DescribeConversionTasks", ConversionTaskId__1=task_id)
        assert "<volume>" in answer
        assert len(answer) < SMALLEST_BUFFER - 1024
        if "<state>active</state>" not in answer:
            break
        assert "<statusMessage>" in answer  # without one it gives up
    volume_id = first("id", first("volume", answer))
    snapshot_id = first("snapshotId", wire.call("CreateSnapshot", VolumeId=volume_id))
    for _ in looks():
        if (status := first("status", wire.call("DescribeSnapshots", SnapshotId__1=snapshot_id))) == "completed":
            break
        assert status == "pending"
    assert "<return>true</return>" in wire.call("DeleteVolume", VolumeId=volume_id)
    root = {"BlockDeviceMapping__1__DeviceName": "/dev/sda1", "BlockDeviceMapping__1__Ebs__SnapshotId": snapshot_id}
    root["BlockDeviceMapping__1__Ebs__VolumeType"] = "gp2"
    for number in range(2, 4):  # which an AMI of EBS volumes has no use for
        root[f"BlockDeviceMapping__{number}__DeviceName"] = f"/dev/sd{'abcd'[number]}"
        root[f"BlockDeviceMapping__{number}__VirtualName"] = f"ephemeral{number - 2}"
    asked = {"Architecture": "x86_64", "RootDeviceName": "/dev/sda1", "VirtualizationType": "hvm", **root}
    image_id = first("imageId", wire.call("RegisterImage", Name="FreeBSD 10.1", Description="by bsdec2", **asked))
    assert first("imageState", wire.call("DescribeImages", ImageId__1=image_id)) == "available"
    west = server.client("ec2", region_name="us-west-2")
    copied = copy_without_a_name(server, image_id)
    (image_there,) = west.describe_images(ImageIds=[copied])["Images"]
    assert image_there["Name"] == "FreeBSD 10.1"
    assert same_guest(server.locate(snapshot_id), small_disk)
    public = {"LaunchPermission__Add__1__Group": "all"}
    assert "<return>true</return>" in wire.call("ModifyImageAttribute", ImageId=image_id, **public)
    mine = wire.call("ModifyImageAttribute", ImageId=image_id, LaunchPermission__Add__1__UserId=FRIEND)
    assert "<return>true</return>" in mine
    opened = {"CreateVolumePermission__Add__1__UserId": FRIEND}
    assert "<return>true</return>" in wire.call("ModifySnapshotAttribute", SnapshotId=snapshot_id, **opened)


def copy_without_a_name(server: Server, image_id: str) -> str:
    """CopyImage of an older API, in the other region: the copy is called as its source."""
    west = Server(server.data_dir)
    west.ready = {**server.ready, "region": "us-west-2"}
    return first(
        "imageId", Wire(west, "2014-09-01").call("CopyImage", SourceRegion="us-east-1", SourceImageId=image_id)
    )


# --- euca2ools


def test_euca2ools_are_answered_in_their_version(server: Server) -> None:
    wire = Wire(server, "2015-10-01")
    calls: Mapping[str, dict[str, Any]] = {
        "DescribeConversionTasks": {},
        "DescribeImages": {"Owner__1": "self"},
        "DescribeRegions": {},
        "DescribeVolumes": {},
        "DescribeInstances": {},
    }
    for action, parameters in calls.items():
        answer = wire.call(action, **parameters)
        root = f'<{action}Response xmlns="http://ec2.amazonaws.com/doc/2015-10-01/"><requestId>'
        assert root in answer.replace("\n", "")
