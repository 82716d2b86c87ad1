"""The role that AWS's service, or vmferry, takes on for a task: looked at before anything is sent."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from vmferry.aws.service_role import DEFAULT_ROLE, BrokenLink, Need, Purpose, Role, find_broken_link
from vmferry.cli._client import ApiError, Clients, api_errors, list_all
from vmferry.cli._output import print_json, print_note
from vmferry.errors import ConfigError, VmferryError, quote


class RoleError(VmferryError):
    """The role could not do the work; what it lacks was printed."""

    client_fault = True


def check_role(
    clients: Clients, name: str | None, purpose: Purpose, objects: Sequence[tuple[str, str]], *, as_json: bool
) -> None:
    """Print on stdout the policies that the role lacks for these buckets and keys, with the commands that add them.

    A role that the caller may not look at is noted, and left to the service to judge. Raises ``RoleError`` after what
    is lacking was printed; ``ConfigError`` for callers that AWS never imports for.
    """
    chosen = name or DEFAULT_ROLE
    try:
        account, partition = _caller(clients)
        role = read_role(clients.iam, chosen)
    except ApiError as error:
        print_note(f"The role {quote(chosen)} could not be looked at: {error}")
        return
    needs = [
        Need(purpose, account, clients.region, bucket, key, partition, at_aws=clients.is_aws) for bucket, key in objects
    ]
    broken = find_broken_link(quote(chosen), role, *needs)
    if broken is None:
        return
    _print_lack(chosen, broken, as_json=as_json)
    raise RoleError(f"The role {quote(chosen)} cannot do this: {broken.reason}. What mends it stands on stdout.")


def read_role(iam: Any, name: str) -> Role | None:
    """The role with the documents of all its policies, inline and attached; ``None`` where there is none.

    Raises ``ApiError`` where the caller may not look at it.
    """
    try:
        with api_errors():
            found = iam.get_role(RoleName=name)["Role"]
    except ApiError as error:
        if error.code == "NoSuchEntity":
            return None
        raise
    documents = {}
    for inline in list_all(iam, "list_role_policies", "PolicyNames", RoleName=name):
        with api_errors():
            documents[str(inline)] = _text(iam.get_role_policy(RoleName=name, PolicyName=inline)["PolicyDocument"])
    for attached in list_all(iam, "list_attached_role_policies", "AttachedPolicies", RoleName=name):
        documents[attached["PolicyArn"]] = _managed_policy(iam, attached["PolicyArn"])
    return Role(str(found["RoleName"]), _text(found["AssumeRolePolicyDocument"]), documents)


def _managed_policy(iam: Any, arn: str) -> str:
    """The document of the version that counts."""
    with api_errors():
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        return _text(iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"])


def _text(document: object) -> str:
    """A policy as text: boto3 has parsed most of them."""
    return document if isinstance(document, str) else json.dumps(document)


def _caller(clients: Clients) -> tuple[str, str]:
    """The account that calls, and the partition of its names. Raises ``ConfigError`` for AWS's root user."""
    with api_errors():
        identity: Mapping[str, Any] = clients.sts.get_caller_identity()
    arn = str(identity["Arn"])
    if clients.is_aws and arn.endswith(":root"):
        raise ConfigError(
            "AWS imports and exports nothing for the root user of an account: use the keys of an IAM user or role."
        )
    return str(identity["Account"]), arn.split(":")[1]


def _print_lack(name: str, broken: BrokenLink, *, as_json: bool) -> None:
    """The policies by themselves, for whoever keeps them in files, then the commands that do it all."""
    commands = broken.commands.splitlines()
    if as_json:
        facts = {"RoleName": name, "Reason": broken.reason, "TrustPolicy": broken.trust}
        print_json({"ServiceRole": {**facts, "PermissionsPolicy": broken.permissions, "Commands": commands}})
        return
    for title, policy in (("trust policy", broken.trust), ("permissions", broken.permissions)):
        if policy is not None:
            print(f"# What the role {quote(name)} lacks, {title}:\n{json.dumps(policy, indent=2)}\n")
    if commands:
        print("\n".join(("# The commands that mend it:", *commands)))
    sys.stdout.flush()
