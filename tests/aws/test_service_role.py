"""Which link of the role ``vmimport`` is broken, and what is told to mend it."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from vmferry.aws.service_role import Need, Purpose, Role, find_broken_link, role_policy, trust_policy

NEED = Need(Purpose.IMPORT, "111122223333", "us-east-1", "imports", "web.ova")


def role(trust: Any = None, *policies: Any) -> Role:
    documents = {f"p{number}": json.dumps(policy) for number, policy in enumerate(policies)}
    return Role("vmimport", json.dumps(trust or trust_policy()), documents)


def allow(actions: Any, resources: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": actions, "Resource": resources}}


def trust(**condition: Any) -> dict[str, Any]:
    policy = trust_policy()
    policy["Statement"][0]["Condition"] = condition
    return policy


def pasted(commands: str) -> list[list[str]]:
    return [shlex.split(line) for line in commands.splitlines()]


def test_the_policies_of_the_user_guide_are_enough() -> None:
    assert find_broken_link("vmimport", role(None, role_policy(["imports"], Purpose.IMPORT)), NEED) is None
    assert find_broken_link("vmimport", role(None, role_policy(["*"], Purpose.IMPORT)), NEED) is None


def test_a_role_that_is_missing_is_told_with_both_policies_ready_to_paste() -> None:
    broken = find_broken_link("vm import's", None, NEED)
    assert broken is not None
    assert broken.reason == "there is no role vm import's"
    create, put = pasted(broken.commands)
    assert create[:5] == ["aws", "iam", "create-role", "--role-name", "vm import's"]
    assert put[2] == "put-role-policy"
    mended = Role("vm import's", create[-1], {"vmimport": put[-1]})
    assert find_broken_link("vm import's", mended, NEED) is None


@pytest.mark.parametrize(
    "given",
    [
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:TagSession"}]},
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
            ],
        },
        trust(StringEquals={"sts:Externalid": "another"}),
        trust(StringEquals={"sts:ExternalId": "vmimport", "aws:SourceAccount": "999999999999"}),
        trust(StringEquals={"sts:ExternalId": "vmimport"}, ArnLike={"aws:SourceArn": "arn:aws:vmie:*:999999999999:*"}),
    ],
)
def test_a_trust_policy_that_does_not_let_the_service_in_is_told(given: dict[str, Any]) -> None:
    broken = find_broken_link("vmimport", role(given, role_policy(["*"], Purpose.IMPORT)), NEED)
    assert broken is not None
    assert broken.reason == "its trust policy does not let vmie.amazonaws.com assume it with the external id vmimport"
    (command,) = pasted(broken.commands)
    assert command[2] == "update-assume-role-policy"
    assert json.loads(command[-1]) == trust_policy()


@pytest.mark.parametrize(
    "given",
    [
        trust(StringEquals={"sts:Externalid": "vmimport"}),
        trust(StringEquals={"sts:ExternalId": ["other", "vmimport"], "aws:SourceAccount": "111122223333"}),
        trust(StringEquals={"sts:ExternalId": "vmimport"}, ArnLike={"aws:SourceArn": "arn:aws:vmie:*:111122223333:*"}),
        trust(DateLessThan={"aws:CurrentTime": "2030-01-01T00:00:00Z"}),  # not judged, so not blamed
    ],
)
def test_the_trust_policies_that_aws_documents_are_enough(given: dict[str, Any]) -> None:
    assert find_broken_link("vmimport", role(given, role_policy(["*"], Purpose.IMPORT)), NEED) is None


def test_a_permission_on_the_bucket_instead_of_its_objects_is_told_literally() -> None:
    broken = find_broken_link("vmimport", role(None, allow("s3:*", "arn:aws:s3:::imports")), NEED)
    assert broken is not None
    assert broken.reason == (
        "none of its policies allows s3:GetObject on arn:aws:s3:::imports/web.ova"
        " (it is allowed on arn:aws:s3:::imports, but objects are arn:aws:s3:::imports/*)"
    )


def test_the_first_missing_permission_is_told_and_all_that_are_missing_are_granted() -> None:
    there = allow("s3:GetObject", "arn:aws:s3:::imports/*")
    broken = find_broken_link("vmimport", role(None, there), NEED)
    assert broken is not None
    assert broken.reason == "none of its policies allows s3:GetBucketLocation on arn:aws:s3:::imports"
    (command,) = pasted(broken.commands)
    assert json.loads(command[-1]) == broken.permissions
    assert broken.permissions is not None
    assert broken.permissions["Statement"] == [
        {"Effect": "Allow", "Action": ["s3:GetBucketLocation", "s3:ListBucket"], "Resource": "arn:aws:s3:::imports"}
    ]
    assert broken.trust is None
    assert find_broken_link("vmimport", role(None, there, json.loads(command[-1])), NEED) is None


def test_what_is_granted_replaces_no_policy_that_is_there() -> None:
    there = {"vmimport": json.dumps(role_policy(["other"], Purpose.IMPORT)), "vmimport-2": "{}"}
    broken = find_broken_link("vmimport", Role("vmimport", json.dumps(trust_policy()), there), NEED)
    assert broken is not None
    (command,) = pasted(broken.commands)
    assert command[command.index("--policy-name") + 1] == "vmimport-3"


def test_several_objects_and_both_policies_are_mended_at_once() -> None:
    other = Need(Purpose.IMPORT, NEED.account_id, NEED.region, "more", "data.vmdk")
    closed = role(trust(StringEquals={"sts:Externalid": "x"}), allow("s3:*", ["arn:aws:s3:::imports*"]))
    broken = find_broken_link("vmimport", closed, NEED, other)
    assert broken is not None
    assert broken.trust == trust_policy()
    update, put = pasted(broken.commands)
    mended = role(json.loads(update[-1]), allow("s3:*", ["arn:aws:s3:::imports*"]), json.loads(put[-1]))
    assert find_broken_link("vmimport", mended, NEED, other) is None
    assert "imports" not in put[-1]


def test_aws_needs_more_of_the_role_and_each_partition_has_its_own_names() -> None:
    china = Need(Purpose.IMPORT, NEED.account_id, "cn-north-1", "imports", "web.ova", "aws-cn", at_aws=True)
    broken = find_broken_link("vmimport", role(None, allow("s3:*", "arn:aws-cn:s3:::imports*")), china)
    assert broken is not None
    assert broken.reason == "none of its policies allows ec2:ModifySnapshotAttribute"
    assert broken.permissions is not None
    (statement,) = broken.permissions["Statement"]
    assert (len(statement["Action"]), statement["Resource"]) == (4, "*")
    missing = find_broken_link("vmimport", None, china)
    assert missing is not None
    assert "arn:aws-cn:s3:::imports/*" in missing.commands
    assert find_broken_link("vmimport", role(missing.trust, missing.permissions), china) is None


def test_a_denial_is_told_as_such() -> None:
    deny = {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}}
    broken = find_broken_link("vmimport", role(None, role_policy(["*"], Purpose.IMPORT), deny), NEED)
    assert broken is not None
    assert broken.reason.startswith("a statement of its policies denies s3:GetBucketLocation")
    assert (broken.commands, broken.permissions) == ("", None)


def test_exports_need_more_than_imports() -> None:
    importing = role(None, role_policy(["imports"], Purpose.IMPORT))
    need = Need(Purpose.EXPORT, NEED.account_id, NEED.region, "imports", "export-ami-1.vmdk")
    broken = find_broken_link("vmimport", importing, need)
    assert broken is not None
    assert "s3:GetBucketAcl" in broken.reason
    assert find_broken_link("vmimport", role(None, role_policy(["imports"], Purpose.EXPORT)), need) is None
