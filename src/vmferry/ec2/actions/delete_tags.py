"""DeleteTags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error


def delete_tags(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Remove tags by key, by key and value, or, where none is named, all of them."""
    if not request.get("Resources"):
        raise Ec2Error("MissingParameter", "The request must contain the parameter ResourceId")
    tags = {tag["Key"]: tag.get("Value") for tag in request.get("Tags") or () if tag.get("Key")}
    context.services.catalog.tags.remove(context.place, request["Resources"], tags or None)
    return {}


ACTION = Action("DeleteTags", delete_tags)
