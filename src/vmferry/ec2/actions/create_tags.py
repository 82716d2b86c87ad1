"""CreateTags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.tag_specifications import check_tags


def create_tags(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Set tags on every resource named, or on none."""
    tags = check_tags(request.get("Tags", ()))
    for name, value in (("ResourceId", request.get("Resources")), ("Tag", tags)):
        if not value:
            raise Ec2Error("MissingParameter", f"The request must contain the parameter {name}")
    context.services.catalog.tags.put(context.place, request["Resources"], tags)
    return {}


ACTION = Action("CreateTags", create_tags)
