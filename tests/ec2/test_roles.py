"""IAM beside EC2, with boto3's own clients: the role of VM Import/Export as set-up scripts and Terraform make it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.ec2.material import put_object
from tests.ec2.running_gateway import ACCOUNT, OTHER_KEY, Endpoint
from vmferry.aws.service_role import Purpose, role_policy, trust_policy
from vmferry.ec2.services import Services

TRUST = json.dumps(trust_policy())
GRANT = json.dumps(role_policy(["imports"], Purpose.IMPORT))
READ_ONLY = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
SENTENCE = "The service role {} provided does not exist or does not have sufficient permissions | "


@pytest.fixture
def iam(endpoint: Endpoint) -> Any:
    return endpoint.client("iam")


@pytest.fixture
def role(iam: Any) -> Iterator[str]:
    """A role without policies, removed at the end with what it then has."""
    iam.create_role(RoleName="importer", AssumeRolePolicyDocument=TRUST, Tags=[{"Key": "Owner", "Value": "ops"}])
    yield "importer"
    for name in iam.list_role_policies(RoleName="importer")["PolicyNames"]:
        iam.delete_role_policy(RoleName="importer", PolicyName=name)
    for policy in iam.list_attached_role_policies(RoleName="importer")["AttachedPolicies"]:
        iam.detach_role_policy(RoleName="importer", PolicyArn=policy["PolicyArn"])
    iam.delete_role(RoleName="importer")


def refused(call: Callable[..., Any], **parameters: Any) -> tuple[str, str, int]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["Error"]["Message"], answer["ResponseMetadata"]["HTTPStatusCode"]


def test_a_fresh_account_has_the_role_that_imports_need(iam: Any) -> None:
    role = iam.get_role(RoleName="vmimport")["Role"]
    assert role["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/vmimport"
    assert role["RoleId"].startswith("AROA")
    assert role["AssumeRolePolicyDocument"] == trust_policy()
    assert iam.list_role_policies(RoleName="vmimport")["PolicyNames"] == ["vmimport"]
    policy = iam.get_role_policy(RoleName="vmimport", PolicyName="vmimport")
    assert "s3:PutObject" in policy["PolicyDocument"]["Statement"][0]["Action"]


def test_a_role_is_made_changed_and_deleted(iam: Any) -> None:
    made = iam.create_role(
        RoleName="r.1", AssumeRolePolicyDocument=TRUST, Path="/service/", Description="d", MaxSessionDuration=7200
    )["Role"]
    assert made["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/service/r.1"
    assert (made["Description"], made["MaxSessionDuration"], made["Path"]) == ("d", 7200, "/service/")
    iam.update_role(RoleName="r.1", Description="new")
    wider = json.dumps({**trust_policy(), "Id": "x"})
    iam.update_assume_role_policy(RoleName="r.1", PolicyDocument=wider)
    role = iam.get_role(RoleName="r.1")["Role"]
    assert (role["Description"], role["MaxSessionDuration"]) == ("new", 7200)
    assert role["AssumeRolePolicyDocument"]["Id"] == "x"
    assert [one["RoleName"] for one in iam.list_roles(PathPrefix="/service/")["Roles"]] == ["r.1"]
    assert iam.list_instance_profiles_for_role(RoleName="r.1")["InstanceProfiles"] == []
    iam.delete_role(RoleName="r.1")
    assert refused(iam.get_role, RoleName="r.1") == (
        "NoSuchEntity",
        "The role with name r.1 cannot be found.",
        404,
    )


def test_a_name_is_taken_whatever_its_case(iam: Any, role: str) -> None:
    expected = ("EntityAlreadyExists", "Role with name IMPORTER already exists.", 409)
    assert refused(iam.create_role, RoleName="IMPORTER", AssumeRolePolicyDocument=TRUST) == expected


def test_inline_policies_are_put_read_replaced_and_removed(iam: Any, role: str) -> None:
    iam.put_role_policy(RoleName=role, PolicyName="a", PolicyDocument=GRANT)
    wider = json.dumps(role_policy(["*"], Purpose.EXPORT))
    iam.put_role_policy(RoleName=role, PolicyName="a", PolicyDocument=wider)
    assert iam.get_role_policy(RoleName=role, PolicyName="a")["PolicyDocument"] == json.loads(wider)
    code, message, status = refused(iam.delete_role, RoleName=role)
    assert (code, status) == ("DeleteConflict", 409)
    assert message == "Cannot delete entity, must delete policies first."
    iam.delete_role_policy(RoleName=role, PolicyName="a")
    gone = ("NoSuchEntity", "The role policy with name a cannot be found.", 404)
    assert refused(iam.get_role_policy, RoleName=role, PolicyName="a") == gone
    assert refused(iam.delete_role_policy, RoleName=role, PolicyName="a") == gone


def test_managed_policies_are_attached_and_hold_what_they_are_attached_to(iam: Any, role: str) -> None:
    arn = iam.create_policy(PolicyName="reader", PolicyDocument=GRANT)["Policy"]["Arn"]
    assert arn == f"arn:aws:iam::{ACCOUNT}:policy/reader"
    for attached in (arn, READ_ONLY, arn):
        iam.attach_role_policy(RoleName=role, PolicyArn=attached)
    listed = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    assert [one["PolicyName"] for one in listed] == ["reader", "AmazonS3ReadOnlyAccess"]
    policy = iam.get_policy(PolicyArn=arn)["Policy"]
    assert (policy["AttachmentCount"], policy["DefaultVersionId"]) == (1, "v1")
    version = iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]
    assert version["Document"] == json.loads(GRANT)
    assert [one["VersionId"] for one in iam.list_policy_versions(PolicyArn=arn)["Versions"]] == ["v1"]
    assert refused(iam.delete_policy, PolicyArn=arn)[0] == "DeleteConflict"
    assert refused(iam.delete_role, RoleName=role)[1] == "Cannot delete entity, must detach all policies first."
    iam.detach_role_policy(RoleName=role, PolicyArn=arn)
    assert refused(iam.detach_role_policy, RoleName=role, PolicyArn=arn)[::2] == ("NoSuchEntity", 404)
    iam.delete_policy(PolicyArn=arn)
    unknown = f"Policy {arn} does not exist or is not attachable."
    assert refused(iam.attach_role_policy, RoleName=role, PolicyArn=arn) == ("NoSuchEntity", unknown, 404)


def test_tags_of_a_role(iam: Any, role: str) -> None:
    iam.tag_role(RoleName=role, Tags=[{"Key": "owner", "Value": "dev"}, {"Key": "b", "Value": ""}])
    tags = [{"Key": "b", "Value": ""}, {"Key": "owner", "Value": "dev"}]
    assert iam.list_role_tags(RoleName=role)["Tags"] == tags
    assert iam.get_role(RoleName=role)["Role"]["Tags"] == tags
    iam.untag_role(RoleName=role, TagKeys=["OWNER"])
    assert iam.list_role_tags(RoleName=role)["Tags"] == tags[:1]
    many = [{"Key": f"k{number}", "Value": "v"} for number in range(50)]
    assert refused(iam.tag_role, RoleName=role, Tags=many)[0] == "LimitExceeded"


def test_lists_come_in_pages(iam: Any, role: str) -> None:
    for name in "abc":
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=GRANT)
    first = iam.list_role_policies(RoleName=role, MaxItems=2)
    assert (first["PolicyNames"], first["IsTruncated"]) == (["a", "b"], True)
    pages = iam.get_paginator("list_role_policies").paginate(RoleName=role, PaginationConfig={"PageSize": 1})
    assert [name for page in pages for name in page["PolicyNames"]] == ["a", "b", "c"]
    assert refused(iam.list_role_policies, RoleName=role, Marker="b")[0] == "ValidationError"


@pytest.mark.parametrize(
    ("operation", "parameters", "code"),
    [
        ("create_role", {"RoleName": "a b", "AssumeRolePolicyDocument": TRUST}, "ValidationError"),
        ("create_role", {"RoleName": "x" * 65, "AssumeRolePolicyDocument": TRUST}, "ValidationError"),
        ("create_role", {"RoleName": "x", "AssumeRolePolicyDocument": TRUST, "Path": "x"}, "ValidationError"),
        (
            "create_role",
            {"RoleName": "x", "AssumeRolePolicyDocument": TRUST, "MaxSessionDuration": 43201},
            "ValidationError",
        ),
        ("create_role", {"RoleName": "x", "AssumeRolePolicyDocument": "policy.json"}, "MalformedPolicyDocument"),
        ("create_role", {"RoleName": "x", "AssumeRolePolicyDocument": GRANT}, "MalformedPolicyDocument"),
        (
            "create_role",
            {"RoleName": "x", "AssumeRolePolicyDocument": TRUST, "PermissionsBoundary": READ_ONLY},
            "InvalidInput",
        ),
        (
            "create_role",
            {"RoleName": "x", "AssumeRolePolicyDocument": json.dumps({**trust_policy(), "Id": "x" * 3000})},
            "LimitExceeded",
        ),
        ("put_role_policy", {"RoleName": "no", "PolicyName": "p", "PolicyDocument": GRANT}, "NoSuchEntity"),
        ("put_role_policy", {"RoleName": "vmimport", "PolicyName": "p", "PolicyDocument": TRUST}, None),
        ("update_assume_role_policy", {"RoleName": "no", "PolicyDocument": TRUST}, "NoSuchEntity"),
        ("attach_role_policy", {"RoleName": "no", "PolicyArn": READ_ONLY}, "NoSuchEntity"),
        ("tag_role", {"RoleName": "no", "Tags": [{"Key": "a", "Value": "b"}]}, "NoSuchEntity"),
        ("get_policy_version", {"PolicyArn": READ_ONLY, "VersionId": "v2"}, "NoSuchEntity"),
        ("list_users", {}, "InvalidAction"),
    ],
)
def test_what_is_wrong_is_refused_with_iams_code(
    iam: Any, operation: str, parameters: dict[str, Any], code: str | None
) -> None:
    assert refused(getattr(iam, operation), **parameters)[0] == (code or "MalformedPolicyDocument")


def test_a_condition_that_cannot_be_judged_is_refused_and_never_ignored(iam: Any, role: str) -> None:
    policy = role_policy(["imports"], Purpose.IMPORT)
    policy["Statement"][0]["Condition"] = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
    code, message, status = refused(
        iam.put_role_policy, RoleName=role, PolicyName="p", PolicyDocument=json.dumps(policy)
    )
    assert (code, status) == ("MalformedPolicyDocument", 400)
    assert "vmferry cannot judge the condition IpAddress on aws:SourceIp" in message


def test_a_role_belongs_to_its_account_in_every_region(endpoint: Endpoint, role: str) -> None:
    assert endpoint.client("iam", region_name="us-west-2").get_role(RoleName=role)["Role"]["RoleName"] == role
    assert endpoint.client("iam", region_name="eu-central-1").get_role(RoleName=role)["Role"]["RoleName"] == role
    others = endpoint.client("iam", aws_access_key_id=OTHER_KEY)
    assert refused(others.get_role, RoleName=role)[0] == "NoSuchEntity"


def test_who_is_not_known_is_told_so_with_iams_codes(endpoint: Endpoint) -> None:
    unknown = endpoint.client("iam", aws_access_key_id="AKIAUNKNOWN")
    assert refused(unknown.list_roles)[::2] == ("InvalidClientTokenId", 403)
    wrong = endpoint.client("iam", aws_secret_access_key="x" * 40)
    assert refused(wrong.list_roles)[::2] == ("SignatureDoesNotMatch", 403)


# --- what imports and exports make of it


def test_imports_are_refused_with_aws_sentence_until_the_role_is_whole(
    endpoint: Endpoint, services: Services, iam: Any
) -> None:
    put_object(services, "imports", "web.ova")
    ec2 = endpoint.client()
    asked = {"DiskContainers": [{"UserBucket": {"S3Bucket": "imports", "S3Key": "web.ova"}}], "RoleName": "late"}

    def told() -> str:
        code, message, status = refused(ec2.import_image, **asked)
        assert (code, status) == ("InvalidParameter", 400)
        assert message.startswith(SENTENCE.format("late"))
        return message

    assert "there is no role late" in told()
    ec2_trust = json.dumps(trust_policy()).replace("vmie.", "ec2.")
    iam.create_role(RoleName="late", AssumeRolePolicyDocument=ec2_trust)
    assert "its trust policy does not let vmie.amazonaws.com assume it" in told()
    iam.update_assume_role_policy(RoleName="late", PolicyDocument=TRUST)
    assert "none of its policies allows s3:GetBucketLocation on arn:aws:s3:::imports" in told()
    on_bucket = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::imports"},
        }
    )
    iam.put_role_policy(RoleName="late", PolicyName="p", PolicyDocument=on_bucket)
    assert "but objects are arn:aws:s3:::imports/*" in told()
    iam.attach_role_policy(RoleName="late", PolicyArn=READ_ONLY)
    assert ec2.import_image(**asked)["ImportTaskId"].startswith("import-ami-")
    disk = {"UserBucket": {"S3Bucket": "imports", "S3Key": "web.ova"}}
    assert refused(ec2.import_snapshot, DiskContainer=disk, RoleName="none")[0] == "InvalidParameter"
    assert ec2.import_snapshot(DiskContainer=disk, RoleName="late")["ImportTaskId"].startswith("import-snap-")


def test_a_dry_run_finds_a_missing_role(endpoint: Endpoint) -> None:
    disk = {"UserBucket": {"S3Bucket": "imports", "S3Key": "web.ova"}}
    code, message, _ = refused(endpoint.client().import_image, DiskContainers=[disk], RoleName="none", DryRun=True)
    assert (code, message.startswith(SENTENCE.format("none"))) == ("InvalidParameter", True)


def test_the_default_role_once_deleted_stays_so(endpoint: Endpoint, services: Services) -> None:
    from vmferry.catalog.accounts import AccessKey

    put_object(services, "imports", "web.ova")
    keys = {"aws_access_key_id": OTHER_KEY}
    iam, ec2 = endpoint.client("iam", **keys), endpoint.client(**keys)
    iam.delete_role_policy(RoleName="vmimport", PolicyName="vmimport")
    iam.delete_role(RoleName="vmimport")
    known = services.catalog.accounts.find(OTHER_KEY)
    assert known is not None
    services.catalog.accounts.add(AccessKey(OTHER_KEY, known.secret_access_key, known.account_id))  # as a restart does
    disk = {"UserBucket": {"S3Bucket": "imports", "S3Key": "web.ova"}}
    code, message, _ = refused(ec2.import_image, DiskContainers=[disk])
    assert code == "InvalidParameter"
    assert message.startswith(SENTENCE.format("vmimport") + "there is no role vmimport")
    iam.create_role(RoleName="vmimport", AssumeRolePolicyDocument=TRUST)
    iam.put_role_policy(RoleName="vmimport", PolicyName="vmimport", PolicyDocument=GRANT)
    assert ec2.import_image(DiskContainers=[disk])["Status"] == "active"
