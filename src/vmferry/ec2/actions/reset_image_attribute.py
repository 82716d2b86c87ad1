"""ResetImageAttribute: an AMI is its owner's alone again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ids import check_id
from vmferry.ec2.owners import find_own_image
from vmferry.ec2.permission_changes import unknown_attribute


def reset_image_attribute(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Share it with nobody. Raises ``Ec2Error`` for any attribute but ``launchPermission``."""
    image = find_own_image(context, check_id(request["ImageId"], "ami-"))
    if request["Attribute"] != "launchPermission":
        raise unknown_attribute(request["Attribute"])
    context.services.catalog.permissions.reset(context.place, image.id)
    return {}


ACTION = Action("ResetImageAttribute", reset_image_attribute)
