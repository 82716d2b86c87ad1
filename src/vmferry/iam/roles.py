"""CreateRole, GetRole, ListRoles, UpdateRole, UpdateRoleDescription, UpdateAssumeRolePolicy, DeleteRole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vmferry.aws.errors import ApiError
from vmferry.catalog.roles import Role, new_iam_id
from vmferry.iam import Handler, IamContext
from vmferry.iam.documents import check_trust, encoded
from vmferry.iam.pages import page_of
from vmferry.iam.tags import read_tags, tag_list

_HOUR = 3600


def create_role(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    if request.get("PermissionsBoundary"):
        raise ApiError("InvalidInput", "vmferry judges by no permissions boundary: leave PermissionsBoundary out.")
    check_trust(request["AssumeRolePolicyDocument"])
    role = Role(
        account_id=context.account_id,
        name=request["RoleName"],
        id=new_iam_id("AROA"),
        path=request.get("Path") or "/",
        description=request.get("Description"),
        trust=request["AssumeRolePolicyDocument"],
        max_session_seconds=request.get("MaxSessionDuration") or _HOUR,
        created_at=datetime.now(UTC),
        tags=read_tags(request.get("Tags")),
    )
    context.catalog.roles.add(role)
    return {"Role": _view(role)}


def get_role(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    return {"Role": _view(context.catalog.roles.get(context.account_id, request["RoleName"]))}


def list_roles(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    roles = context.catalog.roles.all(context.account_id)
    prefix = request.get("PathPrefix") or "/"
    page, more = page_of([role for role in roles if role.path.startswith(prefix)], lambda role: role.name, request)
    shown = [{name: value for name, value in _view(role).items() if name != "Tags"} for role in page]
    return {"Roles": shown, **more}


def update_role(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    context.catalog.roles.change(
        context.account_id,
        request["RoleName"],
        description=request.get("Description"),
        max_session_seconds=request.get("MaxSessionDuration"),
    )
    return {}


def update_role_description(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    context.catalog.roles.change(context.account_id, request["RoleName"], description=request["Description"])
    return get_role(context, request)


def update_assume_role_policy(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    context.catalog.roles.get(context.account_id, request["RoleName"])
    check_trust(request["PolicyDocument"])
    context.catalog.roles.change(context.account_id, request["RoleName"], trust=request["PolicyDocument"])
    return {}


def delete_role(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    context.catalog.roles.remove(context.account_id, request["RoleName"])
    return {}


def list_instance_profiles_for_role(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """None: vmferry has no instance profiles. Terraform asks before it deletes a role."""
    context.catalog.roles.get(context.account_id, request["RoleName"])
    return {"InstanceProfiles": [], "IsTruncated": False}


OPERATIONS: dict[str, Handler] = {
    "CreateRole": create_role,
    "GetRole": get_role,
    "ListRoles": list_roles,
    "UpdateRole": update_role,
    "UpdateRoleDescription": update_role_description,
    "UpdateAssumeRolePolicy": update_assume_role_policy,
    "DeleteRole": delete_role,
    "ListInstanceProfilesForRole": list_instance_profiles_for_role,
}


def _view(role: Role) -> dict[str, Any]:
    return {
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": role.id,
        "Arn": role.arn,
        "CreateDate": role.created_at,
        "AssumeRolePolicyDocument": encoded(role.trust),
        "Description": role.description,
        "MaxSessionDuration": role.max_session_seconds,
        "Tags": tag_list(role.tags) or None,
    }
