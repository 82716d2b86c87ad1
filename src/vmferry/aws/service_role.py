"""The role that VM Import/Export takes on (``vmimport``), and which link of it is broken where one is.

The links are looked at in the order in which they hang together: the role exists, it trusts ``vmie.amazonaws.com`` with
the external id ``vmimport``, its policies allow what the task needs. The first that is broken is told, and what to
paste mends them all. Used by the server for its own roles, and by ``vmferry import`` for those of AWS. Source: VM
Import/Export User Guide, *Required permissions*.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from vmferry.aws.policy import Policy, PolicyError, Question, Verdict, judge, parse_policy
from vmferry.errors import quote

DEFAULT_ROLE = "vmimport"
SERVICE = "vmie.amazonaws.com"
EXTERNAL_ID = "vmimport"
_OBJECTS = "/*"
_MACHINES = ("ec2:ModifySnapshotAttribute", "ec2:CopySnapshot", "ec2:RegisterImage", "ec2:Describe*")
"""What AWS does by the role besides; vmferry needs no role for it."""


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
    partition: str = "aws"
    at_aws: bool = False
    """Whether AWS itself does the work, which needs more of the role."""

    @property
    def bucket_arn(self) -> str:
        return f"arn:{self.partition}:s3:::{self.bucket}"


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """Why the role is of no use, and how to mend it."""

    reason: str
    """A clause: ``its trust policy does not …``."""
    commands: str
    """Lines for a shell that mend it; empty where only taking out a statement does."""
    trust: Mapping[str, Any] | None = None
    """The trust policy that it must have; ``None`` where its own will do."""
    permissions: Mapping[str, Any] | None = None
    """A policy with just what its policies lack; ``None`` where they lack nothing."""


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


def role_policy(buckets: Sequence[str], *purposes: Purpose, partition: str = "aws") -> dict[str, Any]:
    """The permission policy of the User Guide for ``buckets``; ``*`` stands for all of them."""
    resources = [f"arn:{partition}:s3:::{bucket}{suffix}" for bucket in buckets for suffix in ("", _OBJECTS)]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": sorted({action for purpose in purposes for action in purpose.actions}),
                "Resource": ["*"] if "*" in buckets else resources,
            },
            {"Effect": "Allow", "Action": list(_MACHINES), "Resource": "*"},
        ],
    }


def find_broken_link(name: str, role: Role | None, need: Need, *others: Need) -> BrokenLink | None:
    """The first link that is broken; ``None`` where all hold, or where that cannot be told from the documents.

    All needs are of one purpose and one account.
    """
    needs = (need, *others)
    if role is None:
        buckets = list(dict.fromkeys(each.bucket for each in needs))
        grant = role_policy(buckets, need.purpose, partition=need.partition)
        commands = [_command("create-role", name, "--assume-role-policy-document", trust_policy())]
        commands.append(_grant(name, role, grant))
        return BrokenLink(f"there is no role {name}", "\n".join(commands), trust_policy(), grant)
    reasons, commands, trust = [], [], None
    if not _trusts(role, need):
        reasons.append(f"its trust policy does not let {SERVICE} assume it with the external id {EXTERNAL_ID}")
        trust = trust_policy()
        commands.append(_command("update-assume-role-policy", name, "--policy-document", trust))
    missing = [each for one in needs for each in _missing_permissions(role, one)]
    reasons += [each.reason for each in missing]
    lacking = _policy_of(missing)
    if lacking is not None:
        commands.append(_grant(name, role, lacking))
    return BrokenLink(reasons[0], "\n".join(commands), trust, lacking) if reasons else None


def _command(operation: str, name: str, option: str, document: Mapping[str, Any]) -> str:
    return f"aws iam {operation} --role-name {shlex.quote(name)} {option} {shlex.quote(json.dumps(document))}"


def _grant(name: str, role: Role | None, policy: Mapping[str, Any]) -> str:
    """The command that adds ``policy``, under a name that is free: an inline policy of that name would be replaced."""
    taken = () if role is None else role.policies
    names = (DEFAULT_ROLE, *(f"{DEFAULT_ROLE}-{number}" for number in range(2, len(taken) + 3)))
    free = next(one for one in names if one not in taken)
    return _command("put-role-policy", name, f"--policy-name {free} --policy-document", policy)


def _trusts(role: Role, need: Need) -> bool:
    context = {
        "sts:externalid": EXTERNAL_ID,
        "aws:sourceaccount": need.account_id,
        "aws:sourcearn": f"arn:aws:vmie:{need.region}:{need.account_id}:task",
    }
    question = Question("sts:AssumeRole", service=SERVICE, context=context)
    policies = _read({"trust": role.trust}, trust=True)
    return judge(policies, question) in (Verdict.ALLOWED, Verdict.UNCERTAIN)


@dataclass(frozen=True, slots=True)
class _Missing:
    """An action that the role may not do, and the resources on which it should."""

    reason: str
    action: str
    resource: str | None
    """``None`` where it is denied: no statement can allow it."""


def _missing_permissions(role: Role, need: Need) -> Iterator[_Missing]:
    """What of the role's policies is wrong for this need."""
    policies = _read(role.policies)
    on_bucket, on_object = need.purpose.value
    questions = [(action, need.bucket_arn, need.bucket_arn) for action in on_bucket]
    questions += [(action, f"{need.bucket_arn}/{need.key}", f"{need.bucket_arn}{_OBJECTS}") for action in on_object]
    for action, resource, granted in questions:
        match judge(policies, Question(action, resource, context={"aws:sourceaccount": need.account_id})):
            case Verdict.DENIED:
                shown = quote(resource)
                reason = (
                    f"a statement of its policies denies {action} on {shown}, which no other can allow: take it out"
                )
                yield _Missing(reason, action, None)
            case Verdict.NOT_ALLOWED:
                yield _Missing(_not_allowed(policies, action, resource, need.bucket_arn), action, granted)
    for action in _MACHINES if need.at_aws else ():
        if judge(policies, Question(action)) is Verdict.NOT_ALLOWED:
            yield _Missing(f"none of its policies allows {action}", action, "*")


def _policy_of(missing: Sequence[_Missing]) -> dict[str, Any] | None:
    """A policy that allows just what is missing; ``None`` where no statement would help."""
    actions: dict[str, list[str]] = {}
    for each in missing:
        if each.resource is not None and each.action not in actions.setdefault(each.resource, []):
            actions[each.resource].append(each.action)
    statements = [{"Effect": "Allow", "Action": found, "Resource": resource} for resource, found in actions.items()]
    return {"Version": "2012-10-17", "Statement": statements} if statements else None


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
