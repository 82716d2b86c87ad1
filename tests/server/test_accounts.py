"""A second account, made while the server runs and while it does not: its keys, its buckets, what is shared with it."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.server.harness import Server, running_server
from tests.server.material import holds
from tests.server.test_classic import call

pytestmark = [pytest.mark.server, pytest.mark.slow]


def accounts(server: Server, *arguments: str) -> Any:
    """What ``vmferry accounts`` says, as JSON."""
    done = server.vmferry("accounts", *arguments, "--data-dir", str(server.data_dir), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(server: Server, *arguments: str) -> str:
    done = server.vmferry("accounts", *arguments, "--data-dir", str(server.data_dir))
    assert done.returncode == 1
    return done.stderr


def client(server: Server, service: str, made: dict[str, str]) -> Any:
    keys = {"aws_access_key_id": made["AccessKeyId"], "aws_secret_access_key": made["SecretAccessKey"]}
    return server.client(service, **keys)


def code_of(call: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return str(caught.value.response["Error"]["Code"])


def test_a_second_account_has_its_own_and_what_is_shared_with_it(server: Server, small_disk: Path) -> None:
    key = server.upload(small_disk, "imports")
    made = accounts(server, "create", "team-b")
    s3, ec2 = client(server, "s3", made), client(server, "ec2", made)
    assert client(server, "sts", made).get_caller_identity()["Account"] == made["AccountId"]

    s3.create_bucket(Bucket="team-b-disks")  # at once: the command has waited until it is known
    assert code_of(s3.create_bucket, Bucket="team-c-disks") == "AccessDenied"
    assert code_of(s3.get_object, Bucket="imports", Key=key) == "AccessDenied"
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["team-b-disks"]
    s3.upload_file(str(small_disk), "team-b-disks", "disk.raw")
    theirs = [{"Format": "RAW", "UserBucket": {"S3Bucket": "imports", "S3Key": key}}]
    assert code_of(ec2.import_image, DiskContainers=theirs) == "InvalidParameter"
    own = {"Format": "RAW", "UserBucket": {"S3Bucket": "team-b-disks", "S3Key": "disk.raw"}}
    task_id = ec2.import_image(DiskContainers=[own])["ImportTaskId"]
    image_id = wait(ec2, task_id)
    assert code_of(server.client("ec2").describe_images, ImageIds=[image_id]) == "InvalidAMIID.NotFound"

    ec2.modify_image_attribute(ImageId=image_id, LaunchPermission={"Add": [{"UserId": server.ready["account_id"]}]})
    copied = server.client("ec2").copy_image(Name="theirs", SourceImageId=image_id, SourceRegion="us-east-1")
    (copy,) = server.client("ec2").describe_images(ImageIds=[copied["ImageId"]])["Images"]
    assert copy["OwnerId"] == server.ready["account_id"]
    source = ec2.describe_images(ImageIds=[image_id])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    assert server.locate(source).samefile(server.locate(copy["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]))
    assert holds_its_guest(server, ec2, source, small_disk)


def test_what_an_export_needs_of_its_bucket_is_tried_at_once(server: Server, small_disk: Path) -> None:
    """A bucket that is another account's is refused by the call, as EC2 does for one without its grants."""
    first = server.client("s3")
    server.upload(small_disk, "imports")
    made = accounts(server, "create", "exporter")
    client(server, "s3", made).create_bucket(Bucket="exporter")
    ec2 = client(server, "ec2", made)
    keys = ["-O", made["AccessKeyId"], "-W", made["SecretAccessKey"]]
    kind = ["-f", "RAW", "-t", "m1.small", "-a", "x86_64", "-p", "Linux", "-b", "exporter"]
    call(server, "import-instance", small_disk, *kind, *keys)
    ec2.get_waiter("conversion_task_completed").wait(WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    (reservation,) = ec2.describe_instances()["Reservations"]
    instance_id = reservation["Instances"][0]["InstanceId"]
    image_id = ec2.create_image(InstanceId=instance_id, Name="exporter")["ImageId"]
    before = [one["Key"] for one in first.list_objects_v2(Bucket="imports")["Contents"]]

    def export_instance(bucket: str) -> Any:
        to = {"S3Bucket": bucket, "S3Prefix": "out/"}
        return ec2.create_instance_export_task(InstanceId=instance_id, TargetEnvironment="vmware", ExportToS3Task=to)

    with pytest.raises(ClientError) as refused:
        export_instance("imports")
    error = refused.value.response["Error"]
    assert error["Code"] == "AuthFailure"
    assert error["Message"].startswith("READ_ACL and WRITE permissions are required on the destination bucket. | ")
    assert "Grant s3:PutObject on arn:aws:s3:::imports/out/export-i-" in error["Message"]
    with pytest.raises(ClientError) as refused:
        ec2.export_image(ImageId=image_id, DiskImageFormat="VHD", S3ExportLocation={"S3Bucket": "imports"})
    error = refused.value.response["Error"]
    assert error["Code"] == "InvalidParameter"
    assert error["Message"].startswith("The service role vmimport provided does not exist or does not have sufficient")
    assert ec2.describe_export_tasks()["ExportTasks"] == []
    assert ec2.describe_export_image_tasks()["ExportImageTasks"] == []
    assert export_instance("exporter")["ExportTask"]["State"] == "active"
    assert [one["Key"] for one in first.list_objects_v2(Bucket="imports")["Contents"]] == before
    assert "Uploads" not in first.list_multipart_uploads(Bucket="imports", Prefix="out/")


def holds_its_guest(server: Server, ec2: Any, snapshot_id: str, raw: Path) -> bool:
    """As ``holds``, asked by the snapshot's owner."""

    class Owner(Server):
        def client(self, service: str, **options: Any) -> Any:
            return ec2

    owner = Owner(server.data_dir)
    owner.ready = server.ready
    return holds(owner, snapshot_id, raw)


def wait(ec2: Any, task_id: str) -> str:
    """The AMI that an import ends in."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        (task,) = ec2.describe_import_image_tasks(ImportTaskIds=[task_id])["ImportImageTasks"]
        if task["Status"] in ("completed", "deleted"):
            assert task["Status"] == "completed", task
            return str(task["ImageId"])
        time.sleep(0.1)
    raise AssertionError(f"{task_id} did not end: {task}")


def test_the_environment_of_an_account_is_printed(server: Server) -> None:
    made = accounts(server, "create", "printed")
    for name in ("printed", made["AccountId"]):
        done = server.vmferry("env", "--account", name, "--data-dir", str(server.data_dir))
        assert f"export AWS_SECRET_ACCESS_KEY={shlex.quote(made['SecretAccessKey'])}" in done.stdout
        assert f"export AWS_ENDPOINT_URL_EC2={server.ready['endpoint']}" in done.stdout
    missing = server.vmferry("env", "--account", "nobody", "--data-dir", str(server.data_dir))
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "vmferry accounts list" in missing.stderr


def test_keys_are_changed_while_the_server_runs(server: Server) -> None:
    made = accounts(server, "create", "rotated")
    fresh = accounts(server, "keys", "create", "rotated")
    assert fresh["AccountId"] == made["AccountId"]
    assert accounts(server, "keys", "list", "rotated")["AccessKeyIds"] == [made["AccessKeyId"], fresh["AccessKeyId"]]
    client(server, "s3", made).create_bucket(Bucket="rotated")
    assert server.vmferry(
        "accounts", "keys", "delete", made["AccessKeyId"], "--data-dir", str(server.data_dir)
    ).returncode == 0  # fmt: skip
    assert code_of(client(server, "ec2", made).describe_images) == "AuthFailure"
    limit = time.monotonic() + 10
    while (code := code_of_list(client(server, "s3", made))) is None and time.monotonic() < limit:
        time.sleep(0.1)
    assert code == "InvalidAccessKeyId"
    assert code_of_list(client(server, "s3", fresh)) is None
    assert "stays" in refused(server, "keys", "delete", server.ready["access_key_id"])


def code_of_list(s3: Any) -> str | None:
    try:
        s3.list_buckets()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return None


def test_accounts_are_made_while_the_server_is_stopped(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        first = server.ready["account_id"]
    made = accounts(server, "create", "early")
    listed = accounts(server, "list")["Accounts"]
    assert [(one["AccountId"], one["Name"], one["Keys"]) for one in listed] == [
        (first, "default", 1),
        (made["AccountId"], "early", 1),
    ]
    with running_server(tmp_path) as server:
        client(server, "s3", made).create_bucket(Bucket="early")
        assert {one["Name"] for one in server.client("s3").list_buckets()["Buckets"]} >= {"early"}
