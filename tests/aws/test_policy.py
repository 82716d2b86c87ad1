"""Policies, read in IAM's order of checks and judged as IAM's documentation says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vmferry.aws.policy import PolicyError, Question, Verdict, judge, parse_policy

OBJECT = "arn:aws:s3:::imports/web.ova"


def document(*statements: dict[str, Any], version: str = "2012-10-17") -> str:
    return json.dumps({"Version": version, "Statement": list(statements)})


def allow(**members: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*", **members}


def verdict(*statements: dict[str, Any], action: str = "s3:GetObject", resource: str = OBJECT) -> Verdict:
    question = Question(action, resource, context={"aws:sourceaccount": "111122223333"})
    return judge([parse_policy(document(*statements))], question)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, Verdict.ALLOWED),
        ({"Action": ["s3:Get*", "s3:List*"]}, Verdict.ALLOWED),
        ({"Action": "S3:getobject"}, Verdict.ALLOWED),
        ({"Action": "*"}, Verdict.ALLOWED),
        ({"Action": "s3:GetObject?"}, Verdict.NOT_ALLOWED),
        ({"Action": "s3:PutObject"}, Verdict.NOT_ALLOWED),
        ({"Resource": "arn:aws:s3:::imports/*"}, Verdict.ALLOWED),
        ({"Resource": ["arn:aws:s3:::others/*", "arn:aws:s3:::imp*/*.ova"]}, Verdict.ALLOWED),
        ({"Resource": "arn:aws:s3:::imports"}, Verdict.NOT_ALLOWED),
        ({"Resource": "arn:aws:s3:::Imports/*"}, Verdict.NOT_ALLOWED),
        ({"Resource": "arn:aws:s3:::imports/web[.]ova"}, Verdict.NOT_ALLOWED),
    ],
)
def test_actions_are_compared_without_case_and_resources_with_it(members: dict[str, Any], expected: Verdict) -> None:
    assert verdict(allow(**members)) is expected


def test_a_denial_counts_more_than_any_permission() -> None:
    deny = {"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::imports/*.ova"}
    assert verdict(allow(), deny) is Verdict.DENIED
    assert verdict(deny, allow()) is Verdict.DENIED
    assert verdict(allow(), deny, resource="arn:aws:s3:::imports/web.vmdk") is Verdict.ALLOWED


def test_not_action_and_not_resource_cover_all_the_rest() -> None:
    rest = {"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:aws:s3:::secret/*"}
    assert verdict(rest) is Verdict.ALLOWED
    assert verdict(rest, action="iam:PassRole") is Verdict.NOT_ALLOWED
    assert verdict(rest, resource="arn:aws:s3:::secret/web.ova") is Verdict.NOT_ALLOWED


@pytest.mark.parametrize(
    ("operator", "key", "value", "expected"),
    [
        ("StringEquals", "aws:SourceAccount", "111122223333", Verdict.ALLOWED),
        ("stringequals", "AWS:sourceaccount", ["1", "111122223333"], Verdict.ALLOWED),
        ("StringEquals", "aws:SourceAccount", "1*", Verdict.NOT_ALLOWED),
        ("StringLike", "aws:SourceAccount", "1*", Verdict.ALLOWED),
        ("StringNotEquals", "aws:SourceAccount", "111122223333", Verdict.NOT_ALLOWED),
        ("StringNotEquals", "sts:ExternalId", "vmimport", Verdict.ALLOWED),
        ("StringEquals", "sts:ExternalId", "vmimport", Verdict.NOT_ALLOWED),
        ("IpAddress", "aws:SourceIp", "10.0.0.0/8", Verdict.UNCERTAIN),
        ("Bool", "aws:SecureTransport", True, Verdict.UNCERTAIN),
        ("StringEquals", "aws:SourceAccount", "${aws:PrincipalAccount}", Verdict.UNCERTAIN),
    ],
)
def test_conditions_are_judged_or_the_verdict_is_uncertain(
    operator: str, key: str, value: object, expected: Verdict
) -> None:
    assert verdict(allow(Condition={operator: {key: value}})) is expected
    assert (parse_policy(document(allow(Condition={operator: {key: value}}))).unjudged() is not None) == (
        expected is Verdict.UNCERTAIN
    )


def test_a_denial_on_an_unknown_condition_leaves_nothing_certain() -> None:
    deny = {**allow(), "Effect": "Deny", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    assert verdict(allow(), deny) is Verdict.UNCERTAIN
    assert verdict(deny, allow()) is Verdict.UNCERTAIN


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file-that-was-forgotten.json", "Syntax errors in policy."),
        ("[" * 2_000, "Syntax errors in policy."),
        ("[]", "Syntax errors in policy."),
        (json.dumps({"Version": "2012-10-17", "Statements": []}), "Syntax errors in policy."),
        (document(), "Syntax errors in policy."),
        (document({"Effect": "Maybe", "Action": "s3:*", "Resource": "*"}), "Syntax errors in policy."),
        (document(allow(Actions="s3:*")), "Syntax errors in policy."),
        (document(allow(Action=[1])), "Syntax errors in policy."),
        (document(allow(NotAction="s3:*")), "Syntax errors in policy."),
        (document(allow(), version="2012-10-18"), "Policy document must be version 2012-10-17 or greater."),
        (document(allow(Resource="imports/*")), "The policy failed legacy parsing"),
        (document(allow(Sid="a"), allow(Sid="a")), "Statement IDs (SID) in a single policy must be unique."),
        (document({"Effect": "Allow", "Resource": "*"}), "Policy statement must contain actions."),
        (document({"Effect": "Allow", "Action": "s3:*"}), "Policy statement must contain resources."),
        (
            document(allow(Action="GetObject")),
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
        ),
        (document(allow(Action="s 3:GetObject")), "Vendor s 3 is not valid"),
    ],
)
def test_what_is_no_policy_is_refused_with_iams_sentence(text: str, sentence: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        (allow(Action="sts:AssumeRole", Principal="*"), "Has prohibited field Resource."),
        (
            {"Effect": "Allow", "Action": "s3:GetObject", "Principal": "*"},
            (
                "Trust Policy statement actions can only be sts:AssumeRole, sts:AssumeRoleWithSAML,  and "
                "sts:AssumeRoleWithWebIdentity"
            ),
        ),
    ],
)
def test_a_trust_policy_has_rules_of_its_own(statement: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(document(statement), trust=True)
    assert str(caught.value) == sentence
