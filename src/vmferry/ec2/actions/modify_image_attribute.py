"""ModifyImageAttribute: an AMI is shared, or described anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_id
from vmferry.ec2.owners import find_own_image
from vmferry.ec2.permission_changes import NOTHING_PUBLIC, all_but_accounts, read_permission_changes, unknown_attribute


def modify_image_attribute(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Change what the request names. Raises ``Ec2Error`` for what would have no effect."""
    image = find_own_image(context, check_id(request["ImageId"], "ami-"))
    add, remove = read_permission_changes(request, "LaunchPermission")
    description = _description(request)
    named = request.get("Attribute")
    if named not in (None, "", "description", "launchPermission"):
        raise unknown_attribute(named)
    if description is None and not add and not remove:
        raise Ec2Error("InvalidParameterCombination", "No attributes specified.")
    if named == ("launchPermission" if description is not None else "description") or (
        description is not None and (add or remove)
    ):
        raise Ec2Error("InvalidParameterCombination", "Fields for multiple attribute types specified.")
    if description is not None:
        context.services.catalog.images.set_description(context.place, image.id, description)
    else:
        context.services.catalog.permissions.change(context.place, image.id, add, remove)
    return {}


def _description(request: Mapping[str, Any]) -> str | None:
    """The new description; ``None`` where it stays."""
    given: str | None = (request.get("Description") or {}).get("Value")
    if request.get("Value") is None:
        return given
    if request.get("Attribute") != "description" or given is not None:
        raise Ec2Error("InvalidParameterCombination", "Value goes with the Attribute description, and nothing else.")
    return str(request["Value"])


ACTION = Action(
    "ModifyImageAttribute",
    modify_image_attribute,
    refuses={
        "ImdsSupport": "there is no metadata service",
        "OrganizationArns": NOTHING_PUBLIC,
        "OrganizationalUnitArns": NOTHING_PUBLIC,
        "ProductCodes": "nothing is sold",
        "UserGroups": NOTHING_PUBLIC,
        **all_but_accounts("ModifyImageAttribute", "LaunchPermission"),
    },
)
