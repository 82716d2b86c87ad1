"""The role that VM Import/Export takes on (``vmimport``), and which link of it is broken where one is.

The links are looked at in the order in which they hang together: the role exists, it trusts ``vmie.amazonaws.com`` with
the external id ``vmimport``, its policies allow what the task needs. The first that is broken is told, with what to
paste. Used by the server for its own roles. Source: VM Import/Export User Guide, *Required permissions*.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from vmferry.aws.policy import Policy, PolicyError, Question, Verdict, judge, parse_policy
from vmferry.errors import quote

DEFAULT_ROLE = "vmimport"
SERVICE = "vmie.amazonaws.com"
EXTERNAL_ID = "vmimport"
_OBJECTS = "/*"


class Purpose(Enum):
    """What the role is needed for: actions on the bucket, and on the object."""

    IMPORT = (("s3:GetBucketLocation", "s3:ListBucket"), ("s3:GetObject",))
    EXPORT = (("s3:GetBucketLocation", "s3:GetBucketAcl", "s3:ListBucket"), ("s3:GetObject", "s3:PutObject"))

    @property
    def actions(self) -> list[str]:
        return sorted({*self.value[0], *self.value[1]})


@dataclass(frozen=True, slots=True)
class Role:
    """A role as IAM tells it: its trust policy and the documents of all its policies, inline and attached."""

    name: str
    trust: str
    policies: Mapping[str, str]
    """Name → document."""


@dataclass(frozen=True, slots=True)
class Need:
    """A task's use of the role: by whom, where, and on which object."""

    purpose: Purpose
    account_id: str
    region: str
    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """Why the role is of no use, and how to mend it."""

    reason: str
    """A clause: ``its trust policy does not …``."""
    commands: str
    """Lines for a shell that mend it."""


def trust_policy() -> dict[str, Any]:
    """The trust policy of the User Guide."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": SERVICE},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:Externalid": EXTERNAL_ID}},
            }
        ],
    }


def role_policy(buckets: Sequence[str], *purposes: Purpose) -> dict[str, Any]:
    """The permission policy of the User Guide for ``buckets``; ``*`` stands for all of them."""
    resources = [f"arn:aws:s3:::{bucket}{suffix}" for bucket in buckets for suffix in ("", _OBJECTS)]
    machines = ["ec2:ModifySnapshotAttribute", "ec2:CopySnapshot", "ec2:RegisterImage", "ec2:Describe*"]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": sorted({action for purpose in purposes for action in purpose.actions}),
                "Resource": ["*"] if "*" in buckets else resources,
            },
            {"Effect": "Allow", "Action": machines, "Resource": "*"},
        ],
    }


def find_broken_link(name: str, role: Role | None, need: Need) -> BrokenLink | None:
    """The first link that is broken; ``None`` where all hold, or where that cannot be told from the documents."""
    trust = _command("create-role", name, "--assume-role-policy-document", trust_policy())
    grant = _command(
        "put-role-policy",
        name,
        f"--policy-name {DEFAULT_ROLE} --policy-document",
        role_policy([need.bucket], need.purpose),
    )
    if role is None:
        return BrokenLink(f"there is no role {name}", f"{trust}\n{grant}")
    if not _trusts(role, need):
        mend = _command("update-assume-role-policy", name, "--policy-document", trust_policy())
        reason = f"its trust policy does not let {SERVICE} assume it with the external id {EXTERNAL_ID}"
        return BrokenLink(reason, mend)
    missing = _missing_permission(role, need)
    return None if missing is None else BrokenLink(missing, grant)


def _command(operation: str, name: str, option: str, document: Mapping[str, Any]) -> str:
    return f"aws iam {operation} --role-name {shlex.quote(name)} {option} {shlex.quote(json.dumps(document))}"


def _trusts(role: Role, need: Need) -> bool:
    context = {
        "sts:externalid": EXTERNAL_ID,
        "aws:sourceaccount": need.account_id,
        "aws:sourcearn": f"arn:aws:vmie:{need.region}:{need.account_id}:task",
    }
    question = Question("sts:AssumeRole", service=SERVICE, context=context)
    policies = _read({"trust": role.trust}, trust=True)
    return judge(policies, question) in (Verdict.ALLOWED, Verdict.UNCERTAIN)


def _missing_permission(role: Role, need: Need) -> str | None:
    """What of the role's policies is wrong for this need, as a clause; ``None`` where nothing is."""
    policies = _read(role.policies)
    bucket = f"arn:aws:s3:::{need.bucket}"
    on_bucket, on_object = need.purpose.value
    for action, resource in [
        *((action, bucket) for action in on_bucket),
        *((action, f"{bucket}/{need.key}") for action in on_object),
    ]:
        question = Question(action, resource, context={"aws:sourceaccount": need.account_id})
        match judge(policies, question):
            case Verdict.DENIED:
                return f"a statement of its policies denies {action} on {quote(resource)}"
            case Verdict.NOT_ALLOWED:
                return _not_allowed(policies, action, resource, bucket)
    return None


def _not_allowed(policies: Sequence[Policy], action: str, resource: str, bucket: str) -> str:
    reason = f"none of its policies allows {action} on {quote(resource)}"
    if resource != bucket and judge(policies, Question(action, bucket)) is Verdict.ALLOWED:
        reason += f" (it is allowed on {bucket}, but objects are {bucket}{_OBJECTS})"
    return reason


def _read(documents: Mapping[str, str], *, trust: bool = False) -> list[Policy]:
    """Those of the documents that can be read: what IAM keeps is well-formed, and what is not allows nothing."""
    policies = []
    for text in documents.values():
        try:
            policies.append(parse_policy(text, trust=trust))
        except PolicyError:
            continue
    return policies
