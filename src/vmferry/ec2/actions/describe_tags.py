"""DescribeTags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.tags import Tag
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.filters import Filters
from vmferry.ec2.paging import Paging

_FILTERS = Filters[Tag](
    {
        "key": lambda tag: tag.key,
        "resource-id": lambda tag: tag.resource_id,
        "resource-type": lambda tag: tag.resource_type,
        "value": lambda tag: tag.value,
    },
    tags=lambda tag: {tag.key: tag.value},
)
_PAGING = Paging[Tag]("DescribeTags", lambda tag: f"{tag.resource_id} {tag.key}")


def describe_tags(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Every tag of the account in the region."""
    chosen = _FILTERS.select(context.services.catalog.tags.all(context.place), request.get("Filters", ()))
    page = _PAGING.page(chosen, request)
    return {
        "Tags": [
            {"Key": t.key, "ResourceId": t.resource_id, "ResourceType": t.resource_type, "Value": t.value}
            for t in page.items
        ],
        "NextToken": page.next_token,
    }


ACTION = Action("DescribeTags", describe_tags)
