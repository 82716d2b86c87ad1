"""ModifyImageAttribute: an AMI is shared, described anew, or told which metadata service its instances may ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_id
from vmferry.ec2.image_support import read_imds_support
from vmferry.ec2.owners import find_own_image
from vmferry.ec2.permission_changes import read_permission_changes, unknown_attribute
from vmferry.ec2.refusals import all_but

_ATTRIBUTES = {"description": "Description", "imdsSupport": "ImdsSupport"}
"""Attributes that are one value, and the members that say it."""
_LAUNCHERS = ("Group", "UserId")
_NO_ORGANIZATIONS = "there are no organizations; share with accounts, or with all"


def modify_image_attribute(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Change what the request names. Raises ``Ec2Error`` for what would have no effect."""
    image = find_own_image(context, check_id(request["ImageId"], "ami-"))
    add, remove = read_permission_changes(request, "LaunchPermission", "UserGroups")
    values, named = _values(request), request.get("Attribute") or None
    given = {*values, *(("launchPermission",) if add or remove else ())}
    if named is not None and named not in ("launchPermission", *_ATTRIBUTES):
        raise unknown_attribute(named)
    if not given:
        raise Ec2Error("InvalidParameterCombination", "No attributes specified.")
    if len(given) > 1 or named not in (None, *given):
        raise Ec2Error("InvalidParameterCombination", "Fields for multiple attribute types specified.")
    images = context.services.catalog.images
    if "description" in values:
        images.set_description(context.place, image.id, values["description"])
    elif "imdsSupport" in values:
        images.set_imds_support(context.place, image.id, read_imds_support(values["imdsSupport"]))
    else:
        context.services.catalog.permissions.change(context.place, image.id, add, remove)
    return {}


def _values(request: Mapping[str, Any]) -> dict[str, str]:
    """The new values by the names of their attributes, in both spellings."""
    found = {name: (request.get(member) or {}).get("Value") for name, member in _ATTRIBUTES.items()}
    values = {name: str(value) for name, value in found.items() if value is not None}
    if request.get("Value") is None:
        return values
    named = request.get("Attribute")
    if named not in _ATTRIBUTES or named in values:
        raise Ec2Error(
            "InvalidParameterCombination",
            f"Value goes with the Attribute {' or '.join(_ATTRIBUTES)}, and is said once.",
        )
    return {**values, named: str(request["Value"])}


ACTION = Action(
    "ModifyImageAttribute",
    modify_image_attribute,
    refuses={
        "OrganizationArns": _NO_ORGANIZATIONS,
        "OrganizationalUnitArns": _NO_ORGANIZATIONS,
        "ProductCodes": "nothing is sold",
        **all_but("ModifyImageAttribute", _LAUNCHERS, _NO_ORGANIZATIONS, "LaunchPermission.Add"),
        **all_but("ModifyImageAttribute", _LAUNCHERS, _NO_ORGANIZATIONS, "LaunchPermission.Remove"),
    },
)
