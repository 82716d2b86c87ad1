"""The commands of ``vmferry`` that are clients of EC2 and IAM, against a running gateway."""

from __future__ import annotations

import json
import logging
import shlex
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import boto3
import pytest
import structlog

from tests.cli.material import call_vmferry
from tests.ec2.material import make_image, make_snapshot, put_object
from tests.ec2.running_gateway import KEY, SECRET, Endpoint, run_gateway
from vmferry.aws.service_role import Purpose, role_policy, trust_policy
from vmferry.cli._client import ApiError, Clients
from vmferry.cli._following import _looks
from vmferry.cli._role_check import RoleError, check_role
from vmferry.cli._task_kinds import find_kind
from vmferry.ec2.actions import ACTIONS
from vmferry.ec2.services import Services
from vmferry.errors import ConfigError

OVA = "s3://imports/web.ova"


@pytest.fixture(autouse=True)
def environment(endpoint: Endpoint, services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `vmferry env` exports of EC2 alone: IAM and STS are asked there as well. The gateway here keeps quiet."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    put_object(services, "imports", "web.ova")
    variables = {
        "AWS_ENDPOINT_URL_EC2": endpoint.url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield
    structlog.reset_defaults()


@pytest.fixture
def iam(endpoint: Endpoint) -> Any:
    return endpoint.client("iam")


@pytest.fixture
def role(iam: Any) -> Iterator[str]:
    """The name of a role that is not there yet, and is gone at the end."""
    yield "ferry"
    for name in iam.list_role_policies(RoleName="ferry")["PolicyNames"]:
        iam.delete_role_policy(RoleName="ferry", PolicyName=name)
    for policy in iam.list_attached_role_policies(RoleName="ferry")["AttachedPolicies"]:
        iam.detach_role_policy(RoleName="ferry", PolicyArn=policy["PolicyArn"])
    iam.delete_role(RoleName="ferry")


def call(*words: str, code: int = 0) -> tuple[str, str]:
    """What a command says on stdout and stderr."""
    done = call_vmferry(*words)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def type_in(iam: Any, command: str) -> None:
    """Do what ``aws iam …`` does, with boto3."""
    words = shlex.split(command)
    assert words[:2] == ["aws", "iam"]
    named = {option[2:].title().replace("-", ""): value for option, value in zip(words[3::2], words[4::2], strict=True)}
    getattr(iam, words[2].replace("-", "_"))(**named)


def test_what_is_printed_for_a_missing_role_makes_one_that_imports(iam: Any, role: str) -> None:
    stdout, stderr = call("import", OVA, "--role", role, "--no-wait", code=1)
    assert (
        stderr == f"vmferry: The role {role} cannot do this: there is no role {role}. What mends it stands on stdout.\n"
    )
    assert json.dumps(trust_policy(), indent=2) in stdout
    assert json.dumps(role_policy(["imports"], Purpose.IMPORT), indent=2) in stdout
    for command in [line for line in stdout.splitlines() if line.startswith("aws iam ")]:
        type_in(iam, command)
    stdout, stderr = call("import", OVA, "--role", role, "--no-wait")
    assert stdout.startswith("import-ami-")
    assert f"vmferry tasks show {stdout.strip()} --wait" in stderr


def test_just_what_is_missing_is_told_as_json_and_nothing_there_is_replaced(iam: Any, role: str) -> None:
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust_policy()).replace("vmie", "ec2"))
    other = json.dumps(role_policy(["other"], Purpose.IMPORT))
    iam.put_role_policy(RoleName=role, PolicyName="vmimport", PolicyDocument=other)
    stdout, stderr = call("import", OVA, "s3://other/data.raw", "--role", role, "--dry-run", "--json", code=1)
    assert stderr.count("\n") == 1
    told = json.loads(stdout)["ServiceRole"]
    assert (told["RoleName"], told["TrustPolicy"]) == (role, trust_policy())
    granted = {statement["Resource"]: statement["Action"] for statement in told["PermissionsPolicy"]["Statement"]}
    assert granted == {
        "arn:aws:s3:::imports": ["s3:GetBucketLocation", "s3:ListBucket"],
        "arn:aws:s3:::imports/*": ["s3:GetObject"],
    }
    for command in told["Commands"]:
        type_in(iam, command)
    assert sorted(iam.list_role_policies(RoleName=role)["PolicyNames"]) == ["vmimport", "vmimport-2"]
    stdout, _ = call("import", OVA, "s3://other/data.raw", "--role", role, "--dry-run", "--json")
    assert json.loads(stdout) == {"DryRun": True, "Action": "ImportImage"}


def test_the_version_of_an_attached_policy_that_counts_is_read(endpoint: Endpoint, iam: Any, role: str) -> None:
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust_policy()))
    document = json.dumps(role_policy(["imports"], Purpose.IMPORT))
    arn = iam.create_policy(PolicyName="imports", PolicyDocument=document)["Policy"]["Arn"]
    iam.attach_role_policy(RoleName=role, PolicyArn=arn)
    clients = Clients(endpoint.client, is_aws=False)
    check_role(clients, role, Purpose.IMPORT, [("imports", "web.ova")], as_json=False)
    with pytest.raises(RoleError, match="allows s3:GetBucketLocation on arn:aws:s3:::elsewhere"):
        check_role(clients, role, Purpose.IMPORT, [("elsewhere", "web.ova")], as_json=True)
    with pytest.raises(RoleError, match="s3:GetBucketAcl"):
        check_role(clients, role, Purpose.EXPORT, [("imports", "x")], as_json=True)


def test_a_role_that_may_not_be_looked_at_is_left_to_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_IAM", "http://127.0.0.1:1")
    stdout, stderr = call("import", OVA, "--no-wait")
    assert stdout.startswith("import-ami-")
    assert stderr.startswith("vmferry: note: The role vmimport could not be looked at: Could not connect")
    stdout, stderr = call("import", OVA, "--no-wait", "--no-check")
    assert "could not be looked at" not in stderr


def test_a_client_token_names_one_task_and_tags_go_with_it() -> None:
    words = ("import", OVA, "--no-wait", "--client-token", "t-1", "--tag", "owner=ops", "--json")
    first, again = json.loads(call(*words)[0]), json.loads(call(*words)[0])
    assert first["ImportTaskId"] == again["ImportTaskId"]
    assert first["Tags"] == [{"Key": "owner", "Value": "ops"}]
    shown, _ = call("tasks", "show", first["ImportTaskId"])
    assert "tag owner: ops" in shown
    assert "stage: pending" in shown


def test_dry_runs_change_nothing(endpoint: Endpoint, services: Services) -> None:
    ec2 = endpoint.client()
    image_id = make_image(ec2, make_snapshot(services))
    (image,) = ec2.describe_images(ImageIds=[image_id])["Images"]
    snapshot_id = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    for words in (
        ("images", "delete", image_id, "--snapshots"),
        ("images", "share", image_id, "123456789012"),
        ("images", "copy", image_id, "--from-region", "us-east-1", "--region", "us-west-2"),
        ("snapshots", "copy", snapshot_id, "--from-region", "us-east-1", "--region", "us-west-2"),
        ("snapshots", "share", snapshot_id, "123456789012"),
        ("volumes", "create", "--snapshot", snapshot_id),
        ("instances", "run", image_id),
    ):
        stdout, _ = call(*words, "--dry-run")
        assert stdout == "It would succeed; nothing was changed.\n"
    assert ec2.describe_images(ImageIds=[image_id])["Images"] == [image]
    assert ec2.describe_image_attribute(ImageId=image_id, Attribute="launchPermission")["LaunchPermissions"] == []
    assert endpoint.client(region_name="us-west-2").describe_images(Owners=["self"])["Images"] == []


def test_an_ami_and_its_snapshot_are_shared_with_accounts_and_everybody(endpoint: Endpoint, services: Services) -> None:
    snapshot_id = make_snapshot(services)
    image_id = make_image(endpoint.client(), snapshot_id)
    assert call("images", "share", image_id, "123456789012", "all")[0].endswith("shared with 123456789012, all.\n")
    assert "shared with: 123456789012, all\n" in call("images", "show", image_id)[0]
    call("images", "share", image_id, "all", "--remove")
    assert "shared with: 123456789012\n" in call("images", "show", image_id)[0]
    call("snapshots", "share", snapshot_id, "all")
    named = {"SnapshotId": snapshot_id, "Attribute": "createVolumePermission"}
    told = endpoint.client().describe_snapshot_attribute(**named)
    assert told["CreateVolumePermissions"] == [{"Group": "all"}]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("images", "show", "ami-0123456789abcdef0"), 1, "`vmferry images` lists yours; --region looks into"),
        (("snapshots", "show", "snap-0123456789abcdef0"), 1, "`vmferry snapshots` lists yours"),
        (("instances", "stop", "i-0123456789abcdef0"), 1, "`vmferry instances` lists yours"),
        (("volumes", "show", "vol-0123456789abcdef0"), 1, "`vmferry volumes` lists yours"),
        (("tasks", "cancel", "export-i-0123456789abcdef0"), 1, "export-i-0123456789abcdef0"),
        (("tasks", "cancel", "export-i-0123456789abcdef0", "--reason", "x"), 2, "an export keeps no reason"),
        (("tasks", "show", "vol-1"), 1, "is not the id of a task"),
        (("images", "--region", "eu-west-9"), 1, "Regions here: us-east-1, us-west-2"),
        (("volumes", "create"), 2, "--snapshot"),
        (("import", "a.ova", "b.ova", "--snapshot"), 2, "a snapshot is made of one disk"),
        (("import", OVA, "--snapshot", "--license-type", "BYOL"), 2, "--license-type is an AMI's"),
        (("import", OVA, "--tag", "owner"), 2, "a tag is KEY=VALUE, not owner"),
        (("import", OVA, OVA), 1, "2 sources would be the same object, s3://imports/web.ova"),
        (("import", "s3://imports"), 2, "an object is s3://bucket/key"),
        (("import", OVA, "--format", "qcow2"), 2, "--format is OVA, VMDK, VHD, VHDX or RAW, not qcow2"),
        (("import", OVA, "--license-type", "AWS", "--platform", "Linux"), 1, "BYOL only"),
        (("import", OVA, "--kms-key", "k"), 1, "not encrypted yet"),
        (("export", "snap-1", "s3://imports/"), 2, "name an AMI (ami-…) or an instance (i-…), not snap-1"),
        (("export", "ami-1", "there.raw", "--no-wait"), 2, "a file is there at the end only"),
        (("export", "i-1", "s3://imports/", "--format", "vhdx"), 1, "OVA, VMDK or VHD, not as VHDX"),
        (("export", "i-1", "s3://imports/", "--role", "r"), 2, "has no role"),
        (("export", "i-1", "s3://imports/", "--dry-run"), 2, "EC2 has no dry run of an instance's export"),
        (("export", "ami-1", "s3://imports/", "--bucket", "b"), 2, "DST names the bucket already"),
        (("images", "remove"), 2, "No such command 'remove'"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(words: tuple[str, ...], code: int, said: str) -> None:
    stdout, stderr = call(*words, code=code)
    assert stdout == ""
    assert said in stderr
    assert (stderr.count("\n"), stderr.startswith("vmferry: ")) == (1, True)


def test_keys_that_are_wrong_are_told_with_what_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it has the other keys
    _, stderr = call("images", code=1)
    assert "check the secret access key" in stderr
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", "http://127.0.0.1:1")
    _, stderr = call("images", code=1)
    assert 'Could not connect to the endpoint URL: "http://127.0.0.1:1/". Is it running' in stderr


def test_a_data_directory_without_a_server_does_not_mean_aws(tmp_path: Any) -> None:
    _, stderr = call("images", "--data-dir", str(tmp_path), code=1)
    assert f"No server runs on {tmp_path}" in stderr


def test_a_wait_outlives_a_restart_of_the_server(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as running:
        endpoint = running.enter_context(run_gateway(ACTIONS, services))
        task_id = json.loads(call("import", OVA, "--no-wait", "--json")[0])["ImportTaskId"]
        looks = _looks(Clients(endpoint.client, is_aws=False), find_kind(task_id), task_id)
        assert next(looks)["ImportTaskId"] == task_id
        running.pop_all().close()
        again = ExitStack()
        timer = threading.Timer(1, lambda: again.enter_context(run_gateway(ACTIONS, services, port=endpoint.port)))
        timer.start()
        assert next(looks)["ImportTaskId"] == task_id
        timer.join()
        again.close()
    assert "Trying again for 5 min" in capsys.readouterr().err


def test_a_kind_of_task_that_is_refused_hides_no_other(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = json.loads(call("import", OVA, "--no-wait", "--json")[0])["ImportTaskId"]
    fewer = {name: action for name, action in ACTIONS.items() if name != "describe_conversion_tasks"}
    with run_gateway(fewer, services) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", endpoint.url)
        stdout, stderr = call("tasks")
        assert task_id in stdout
        assert stderr.startswith("vmferry: note: Every import of an instance or volume is left out: InvalidAction: ")
        assert stderr.count("\n") == 1
        assert "ConversionTasks" not in json.loads(call("tasks", "--json")[0])
    with run_gateway({}, services) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", endpoint.url)
        _, stderr = call("tasks", code=1)
        assert (stderr.count("\n"), "InvalidAction" in stderr) == (1, True)


def test_a_task_that_is_gone_ends_the_wait(endpoint: Endpoint) -> None:
    clients = Clients(endpoint.client, is_aws=False)
    with pytest.raises(ApiError, match="does not exist"):
        next(_looks(clients, find_kind("import-ami-"), "import-ami-0123456789abcdef0"))


def test_aws_does_nothing_for_the_root_user(endpoint: Endpoint) -> None:
    clients = Clients(endpoint.client, is_aws=True)
    with pytest.raises(ConfigError, match="nothing for the root user"):  # whom keys of vmferry's accounts stand for
        check_role(clients, None, Purpose.IMPORT, [("imports", "k")], as_json=True)
