"""DescribeTags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.pages import Wanted
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
    fields={"key": "key", "resource-id": "resource_id", "resource-type": "resource_type", "value": "value"},
)
_PAGING = Paging[Tag]("DescribeTags", lambda tag: tag.position)


def describe_tags(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Every tag of the account in the region."""
    asked, tags = request.get("Filters", ()), context.services.catalog.tags
    keeps, wanted = _FILTERS.test(asked), Wanted(_FILTERS.wanted(asked).fields)
    page = _PAGING.read(lambda after, most: tags.page(context.place, wanted, after, most), keeps, request)
    return {
        "Tags": [
            {"Key": t.key, "ResourceId": t.resource_id, "ResourceType": t.resource_type, "Value": t.value}
            for t in page.items
        ],
        "NextToken": page.next_token,
    }


ACTION = Action("DescribeTags", describe_tags)
