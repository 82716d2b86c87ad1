"""The commands that talk to a running server, as a person or a script runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.server.harness import BIN, Server, running_server
from tests.server.material import MIB, holds, make_disk, make_vmdk

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_env_makes_plain_aws_commands_work(server: Server) -> None:
    script = (
        f'eval "$({BIN}/vmferry env --data-dir {server.data_dir})"; {BIN}/aws ec2 describe-regions; {BIN}/aws s3 ls'
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(["bash", "-euc", script], env=clean, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "us-west-2" in done.stdout


def test_import_uploads_imports_and_answers_the_ami(server: Server, small_disk: Path, small_ova: Path) -> None:
    done = server.vmferry("import", str(small_ova), "--description", "by one command")
    assert done.returncode == 0, done.stderr
    image_id = done.stdout.strip()
    assert image_id.startswith("ami-")
    assert "converting" in done.stderr or "updating" in done.stderr or "completed" in done.stderr
    listed = json.loads(server.vmferry("images", "--json").stdout)["Images"]
    (image,) = [i for i in listed if i["ImageId"] == image_id]
    snapshot_id = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    assert holds(server, snapshot_id, small_disk)
    assert image_id in server.vmferry("images").stdout
    assert image_id in server.vmferry("tasks").stdout


def test_import_makes_a_snapshot_of_one_disk(server: Server, small_disk: Path) -> None:
    done = server.vmferry("import", str(small_disk), "--snapshot", "--format", "raw")
    assert done.returncode == 0, done.stderr
    snapshot_id = done.stdout.strip()
    assert snapshot_id.startswith("snap-")
    assert holds(server, snapshot_id, small_disk)
    assert snapshot_id in server.vmferry("tasks").stdout
    refused = server.vmferry("import", str(small_disk), "--snapshot", "--boot-mode", "uefi")
    assert refused.returncode == 2
    assert "a snapshot has none" in refused.stderr


def test_export_answers_where_the_object_is(server: Server, small_disk: Path, small_ova: Path, tmp_path: Path) -> None:
    image_id = server.vmferry("import", str(small_ova)).stdout.strip()
    server.client("s3").create_bucket(Bucket="by-command")
    done = server.vmferry("export", image_id, "s3://by-command/web/", "--format", "vhdx")
    assert done.returncode == 0, done.stderr
    location = done.stdout.strip()
    assert location.startswith("s3://by-command/web/export-ami-")
    assert location.endswith(".vhdx")
    compared = server.vmferry("verify", str(small_disk), location)
    assert compared.returncode == 0, compared.stderr
    assert "s3://by-command/web/" in server.vmferry("tasks").stdout
    refused = server.vmferry("export", image_id, "s3://")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    refused = server.vmferry("export", "ami-0123456789abcdef0", "s3://by-command/x")
    assert refused.returncode == 1
    assert "does not exist" in refused.stderr


def test_what_was_imported_is_shown_shared_copied_and_deleted(server: Server, small_ova: Path) -> None:
    image_id = said(server, "import", str(small_ova), "--tag", "owner=ops").strip()
    shown = said(server, "images", "show", image_id)
    assert f"AMI: {image_id}" in shown
    assert "tag owner: ops" in shown
    assert said(server, "images", "share", image_id, "123456789012", "--dry-run").startswith("It would succeed")
    assert "123456789012" not in said(server, "images", "show", image_id)
    said(server, "images", "share", image_id, "123456789012")
    assert "shared with: 123456789012" in said(server, "images", "show", image_id)
    copy = said(server, "images", "copy", image_id, "--from-region", "us-east-1", "--region", "us-west-2").strip()
    assert copy in said(server, "images", "--region", "us-west-2")
    assert copy not in said(server, "images", "list")
    snapshot_id = json.loads(said(server, "images", "show", image_id, "--json"))["BlockDeviceMappings"][0]["Ebs"][
        "SnapshotId"
    ]
    shown = said(server, "snapshots", "show", snapshot_id)
    assert f"snapshot: {snapshot_id}" in shown
    assert "tag owner: ops" in shown
    refused = server.vmferry("snapshots", "delete", snapshot_id)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "vmferry images delete" in refused.stderr
    said(server, "images", "delete", image_id, "--snapshots")
    assert snapshot_id not in said(server, "snapshots")
    gone = server.vmferry("images", "show", image_id)
    assert gone.returncode == 1
    assert "--region looks into another region" in gone.stderr


def test_a_volume_and_an_instance_by_commands(server: Server, small_ova: Path) -> None:
    image_id = server.vmferry("import", str(small_ova)).stdout.strip()
    instance_id = said(server, "instances", "run", image_id, "--tag", "Name=web").strip()
    assert "tag Name: web" in said(server, "instances", "show", instance_id)
    volume_id = json.loads(said(server, "volumes", "create", "--size", "2", "--json"))["VolumeId"]
    said(server, "volumes", "attach", volume_id, instance_id)
    assert f"{instance_id}:/dev/sdf" in said(server, "volumes", "show", volume_id)
    refused = server.vmferry("volumes", "delete", volume_id)
    assert (refused.returncode, "vmferry volumes detach" in refused.stderr) == (1, True)
    said(server, "volumes", "detach", volume_id)
    snapshot_id = said(server, "volumes", "snapshot", volume_id).strip()
    assert json.loads(said(server, "snapshots", "show", snapshot_id, "--json"))["VolumeSize"] == 2
    said(server, "volumes", "delete", volume_id)
    again = said(server, "instances", "image", instance_id, "an AMI of an instance").strip()
    assert again in said(server, "images")
    said(server, "instances", "terminate", instance_id)
    listed = json.loads(said(server, "instances", "--json"))["Instances"]
    assert {one["InstanceId"]: one["State"]["Name"] for one in listed}[instance_id] == "terminated"


def test_disks_go_in_together_and_come_out_in_one_file(server: Server, small_disk: Path, tmp_path: Path) -> None:
    data = make_disk(tmp_path / "data.img", 32, 12, seed=5, boots=False)
    s3, place = server.client("s3"), {"Bucket": "two-disks", "Key": "data.img"}
    assert "Make it (`aws s3 mb s3://two-disks`)" in server.vmferry("import", str(data), "--bucket", "two-disks").stderr
    s3.create_bucket(Bucket="two-disks")
    upload = s3.create_multipart_upload(**place)["UploadId"]  # as one that was cut off left it
    s3.upload_part(**place, UploadId=upload, PartNumber=1, Body=data.read_bytes()[: 8 * MIB])
    done = server.vmferry("import", str(small_disk), str(data), "--bucket", "two-disks", "--json")
    assert done.returncode == 0, done.stderr
    assert "note: 1 of 4 parts are there already" in done.stderr
    image_id = json.loads(done.stdout)["ImageId"]
    whole = tmp_path / "web.ova"
    refused = server.vmferry("export", image_id, str(tmp_path / "web.vmdk"))
    assert (refused.returncode, "Export it with DiskImageFormat OVA" in refused.stderr) == (1, True)
    assert said(server, "export", image_id, str(whole)) == f"{whole}\n"
    said(server, "verify", str(whole), str(data), "--disk", "2")
    refused = server.vmferry("export", image_id, str(whole))
    assert (refused.returncode, "is there already" in refused.stderr) == (1, True)


def test_an_instance_goes_out_as_an_ova(server: Server, small_disk: Path, tmp_path: Path) -> None:
    kind = ["-t", "m1.small", "-f", "VMDK", "-a", "x86_64", "-p", "Linux", "-b", "instances-out"]
    imported = server.run([str(BIN / "ec2-import-instance"), str(make_vmdk(small_disk)), *kind])
    assert imported.returncode == 0, imported.stderr
    task_id = imported.stdout.splitlines()[1].split("\t")[3]
    task = json.loads(said(server, "tasks", "show", task_id, "--wait", "--json"))
    instance_id = task["ImportInstance"]["InstanceId"]
    assert f"result: {instance_id}" in said(server, "tasks", "show", task_id)
    file = tmp_path / "web.ova"
    assert said(server, "export", instance_id, str(file), "--bucket", "instances-out") == f"{file}\n"
    said(server, "verify", str(file), str(small_disk))


def test_a_task_is_shown_followed_and_cancelled(server: Server, small_ova: Path) -> None:
    with server.held_up():
        started = server.vmferry("import", str(small_ova), "--no-wait", "--json")
        task_id = json.loads(started.stdout)["ImportTaskId"]
        assert task_id in said(server, "tasks", "--active")
        shown = said(server, "tasks", "show", task_id)
        assert f"task: {task_id}\nkind: import of an image\n" in shown
        assert "status: active" in shown
        assert "being cancelled" in said(server, "tasks", "cancel", task_id, "--reason", "not this one")
    waited = server.vmferry("tasks", "show", task_id, "--wait")
    assert (waited.returncode, waited.stdout) == (1, "")
    last = waited.stderr.splitlines()[-1]
    assert f"{task_id} ended as deleted" in last
    assert "not this one" in last
    assert task_id not in said(server, "tasks", "list", "--active")
    refused = server.vmferry("tasks", "cancel", task_id)
    assert refused.returncode == 1
    assert server.vmferry("tasks", "show", "ami-0123").returncode == 1


def test_interrupting_the_wait_leaves_the_task_and_says_how_to_cancel_it(server: Server, small_ova: Path) -> None:
    data_dir = str(server.data_dir)
    with server.held_up():
        started = said(server, "import", str(small_ova), "--no-wait", "--json")
        task_id = json.loads(started)["ImportTaskId"]
        command = [str(BIN / "vmferry"), "tasks", "show", task_id, "--wait", "--data-dir", data_dir]
        waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        assert task_id in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        _, stderr = waiting.communicate(timeout=60)
        assert waiting.returncode == 130
        told = f"To cancel it: vmferry tasks cancel {task_id} --data-dir {data_dir}"
        assert told in stderr.splitlines()
        assert server.task(task_id)["Status"] == "active"
        words = told.partition("vmferry ")[2].split()
        assert "being cancelled" in said(server, *words)


def said(server: Server, *arguments: str) -> str:
    """What a command that does its work prints."""
    done = server.vmferry(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_receipt_of_an_import_is_checked_against_its_source(
    server: Server, small_disk: Path, small_ova: Path, tmp_path: Path
) -> None:
    done = server.vmferry("import", str(small_ova), "--json")
    task_id = json.loads(done.stdout)["ImportTaskId"]
    receipt = tmp_path / "receipt.json"
    receipt.write_text(server.vmferry("receipt", task_id, "--data-dir", str(server.data_dir)).stdout)
    facts = json.loads(receipt.read_text())
    assert facts["sources"][0]["key"] == small_ova.name
    assert facts["sources"][0]["size"] == small_ova.stat().st_size
    assert facts["disks"][0]["manifest_digest"].startswith("sha256:")
    for held in (small_disk, small_ova, server.locate(facts["disks"][0]["snapshot"])):
        done = server.vmferry("verify", str(receipt), str(held))
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{held} is disk 1 of {task_id}, byte for byte" in done.stdout
    done = server.vmferry("receipt", "import-ami-0", "--data-dir", str(server.data_dir))
    assert done.returncode == 1
    assert "does not exist" in done.stderr


def test_import_finds_the_server_by_its_data_directory(server: Server, small_ova: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    command = [str(BIN / "vmferry"), "import", str(small_ova), "--data-dir", str(server.data_dir), "--json"]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Status"] == "completed"
    assert all(json.loads(line) for line in done.stderr.splitlines() if line.startswith("{"))


def test_an_import_that_fails_exits_with_one_and_the_tasks_sentence(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "letter.ova"
    path.write_bytes(b"no machine at all" * 100)
    done = server.vmferry("import", str(path), "--format", "OVA")
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("vmferry: import-ami-")
    assert "is not an OVA" in last
    assert done.stderr.count("is not an OVA") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["import", "/no/such/file.ova"], 1, "does not exist"),
        (["import"], 2, "SRC"),
        (["import", "s3://no-such-bucket-here/k.ova"], 1, "InvalidParameter: Invalid S3 source location"),
        (["snapshots", "locate", "snap-00000000000000000"], 1, "There is no snapshot"),
        (["env", "--data-dir", "/no/such/directory"], 1, "No server runs on"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(server: Server, arguments: list[str], code: int, said: str) -> None:
    if arguments[0] == "snapshots":
        arguments = [*arguments, "--data-dir", str(server.data_dir)]
    done = server.vmferry(*arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert len(done.stderr.strip().splitlines()) == 1


def test_env_says_when_no_server_runs_any_more(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        command = [str(BIN / "vmferry"), "env", "--data-dir", str(server.data_dir)]
        assert subprocess.run(command, capture_output=True).returncode == 0
        server.kill_everything()  # it cannot tidy up
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1
        assert "No server runs on" in done.stderr


def test_a_data_directory_may_have_a_long_path(tmp_path: Path) -> None:
    with running_server(tmp_path / ("a-long-name-" * 10) / "data") as server:
        assert server.client("s3").list_buckets()["Buckets"] is not None


def test_health_says_how_the_children_do(server: Server) -> None:
    with urllib.request.urlopen(f"{server.ready['endpoint']}/healthz") as answer:
        facts = json.loads(answer.read())
    assert facts["healthy"] is True
    assert {"seaweedfs", "temporal", "worker-1"} <= facts["services"].keys()
