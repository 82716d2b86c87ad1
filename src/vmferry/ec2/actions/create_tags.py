"""CreateTags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.aws.tags import check_tags
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error


def create_tags(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Set tags on every resource named, or on none."""
    tags = check_tags(request.get("Tags", ()))
    for name, value in (("ResourceId", request.get("Resources")), ("Tag", tags)):
        if not value:
            raise Ec2Error("MissingParameter", f"The request must contain the parameter {name}")
    context.services.catalog.tags.put(context.place, request["Resources"], tags)
    return {}


ACTION = Action("CreateTags", create_tags)
