"""TagRole, UntagRole, ListRoleTags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.iam import Handler, IamContext
from vmferry.iam.pages import page_of
from vmferry.iam.tags import check_count, read_tags, tag_list


def tag_role(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    given = read_tags(request["Tags"])
    replaced = {key.lower() for key in given}

    def change(tags: dict[str, str]) -> dict[str, str]:
        kept = {key: value for key, value in tags.items() if key.lower() not in replaced}
        return check_count({**kept, **given})

    context.catalog.roles.change_tags(context.account_id, request["RoleName"], change)
    return {}


def untag_role(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    removed = {key.lower() for key in request["TagKeys"]}

    def change(tags: dict[str, str]) -> dict[str, str]:
        return {key: value for key, value in tags.items() if key.lower() not in removed}

    context.catalog.roles.change_tags(context.account_id, request["RoleName"], change)
    return {}


def list_role_tags(context: IamContext, request: Mapping[str, Any]) -> dict[str, Any]:
    role = context.catalog.roles.get(context.account_id, request["RoleName"])
    page, more = page_of(tag_list(role.tags), lambda tag: str(tag["Key"]), request)
    return {"Tags": list(page), **more}


OPERATIONS: dict[str, Handler] = {"TagRole": tag_role, "UntagRole": untag_role, "ListRoleTags": list_role_tags}
