"""Policies with an ARN of their own: CreatePolicy, GetPolicy, GetPolicyVersion, ListPolicyVersions, DeletePolicy; and
their ties to roles: AttachRolePolicy, DetachRolePolicy, ListAttachedRolePolicies.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vmferry.aws.errors import ApiError
from vmferry.catalog.policies import ManagedPolicy, policy_arn
from vmferry.catalog.roles import new_iam_id
from vmferry.errors import quote
from vmferry.iam import Handler, IamContext
from vmferry.iam.documents import check_managed, encoded
from vmferry.iam.pages import page_of
from vmferry.iam.tags import read_tags, tag_list

_VERSION = "v1"


def create_policy(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    check_managed(request["PolicyDocument"])
    name, path = request["PolicyName"], request.get("Path") or "/"
    policy = ManagedPolicy(
        arn=policy_arn(context.account_id, path, name),
        account_id=context.account_id,
        name=name,
        id=new_iam_id("ANPA"),
        path=path,
        description=request.get("Description"),
        document=request["PolicyDocument"],
        created_at=datetime.now(UTC),
        tags=read_tags(request.get("Tags")),
    )
    context.catalog.policies.add(policy)
    return {"Policy": _view(policy)}


def get_policy(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    return {"Policy": _view(context.catalog.policies.get(context.account_id, request["PolicyArn"]))}


def get_policy_version(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    policy = context.catalog.policies.get(context.account_id, request["PolicyArn"])
    if request["VersionId"] != _VERSION:
        message = f"Policy {policy.arn} version {quote(request['VersionId'])} does not exist or is not attachable."
        raise ApiError("NoSuchEntity", message, 404)
    return {"PolicyVersion": {**_version(policy), "Document": encoded(policy.document)}}


def list_policy_versions(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    policy = context.catalog.policies.get(context.account_id, request["PolicyArn"])
    return {"Versions": [_version(policy)], "IsTruncated": False}


def delete_policy(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    context.catalog.policies.remove(context.account_id, request["PolicyArn"])
    return {}


def attach_role_policy(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    context.catalog.roles.attach(context.account_id, request["RoleName"], request["PolicyArn"])
    return {}


def detach_role_policy(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    context.catalog.roles.detach(context.account_id, request["RoleName"], request["PolicyArn"])
    return {}


def list_attached_role_policies(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    role = context.catalog.roles.get(context.account_id, request["RoleName"])
    policies = [context.catalog.policies.get(context.account_id, arn) for arn in sorted(role.attached)]
    prefix = request.get("PathPrefix") or "/"
    page, more = page_of([one for one in policies if one.path.startswith(prefix)], lambda one: one.arn, request)
    return {"AttachedPolicies": [{"PolicyName": one.name, "PolicyArn": one.arn} for one in page], **more}


OPERATIONS: dict[str, Handler] = {
    "CreatePolicy": create_policy,
    "GetPolicy": get_policy,
    "GetPolicyVersion": get_policy_version,
    "ListPolicyVersions": list_policy_versions,
    "DeletePolicy": delete_policy,
    "AttachRolePolicy": attach_role_policy,
    "DetachRolePolicy": detach_role_policy,
    "ListAttachedRolePolicies": list_attached_role_policies,
}


def _view(policy: ManagedPolicy) -> dict[str, Any]:
    return {
        "PolicyName": policy.name,
        "PolicyId": policy.id,
        "Arn": policy.arn,
        "Path": policy.path,
        "DefaultVersionId": _VERSION,
        "AttachmentCount": policy.attachments,
        "PermissionsBoundaryUsageCount": 0,
        "IsAttachable": True,
        "Description": policy.description,
        "CreateDate": policy.created_at,
        "UpdateDate": policy.created_at,
        "Tags": tag_list(policy.tags) or None,
    }


def _version(policy: ManagedPolicy) -> dict[str, Any]:
    return {"VersionId": _VERSION, "IsDefaultVersion": True, "CreateDate": policy.created_at}
