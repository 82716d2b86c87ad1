"""PutRolePolicy, GetRolePolicy, ListRolePolicies, DeleteRolePolicy: policies that are part of a role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.roles import no_such_inline_policy
from vmferry.iam import Handler, IamContext
from vmferry.iam.documents import check_permissions, encoded
from vmferry.iam.pages import page_of


def put_role_policy(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    name, document = request["RoleName"], request["PolicyDocument"]
    context.catalog.roles.get(context.account_id, name)
    check_permissions(document)
    context.catalog.roles.put_policy(context.account_id, name, request["PolicyName"], document)
    return {}


def get_role_policy(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    role = context.catalog.roles.get(context.account_id, request["RoleName"])
    document = role.policies.get(request["PolicyName"])
    if document is None:
        raise no_such_inline_policy(request["PolicyName"])
    return {"RoleName": role.name, "PolicyName": request["PolicyName"], "PolicyDocument": encoded(document)}


def list_role_policies(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    role = context.catalog.roles.get(context.account_id, request["RoleName"])
    page, more = page_of(sorted(role.policies), str, request)
    return {"PolicyNames": list(page), **more}


def delete_role_policy(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    context.catalog.roles.remove_policy(context.account_id, request["RoleName"], request["PolicyName"])
    return {}


OPERATIONS: dict[str, Handler] = {
    "PutRolePolicy": put_role_policy,
    "GetRolePolicy": get_role_policy,
    "ListRolePolicies": list_role_policies,
    "DeleteRolePolicy": delete_role_policy,
}
