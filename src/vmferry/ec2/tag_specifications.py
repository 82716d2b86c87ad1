"""``TagSpecifications``: tags for what the action is about to make."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from vmferry.aws.tags import check_tags
from vmferry.ec2.errors import Ec2Error
from vmferry.errors import quote


def check_tag_specifications(
    specifications: Iterable[Mapping[str, Any]], allowed: Collection[str]
) -> dict[str, dict[str, str]]:
    """The tags for each resource type: ``{"import-image-task": {"Name": "web"}}``. A type may be named once.

    Raises ``Ec2Error``: ``InvalidParameterValue`` for a type that is not in ``allowed``, and as ``check_tags`` does.
    """
    found: dict[str, dict[str, str]] = {}
    for specification in specifications:
        kind = specification.get("ResourceType")
        if kind is None:
            raise Ec2Error("MissingParameter", "The request must contain the parameter TagSpecification.ResourceType")
        if kind not in allowed:
            raise _invalid(
                f"'{quote(kind)}' is not a valid taggable resource type for this operation."
                f" | Allowed here: {', '.join(sorted(allowed))}."
            )
        if kind in found:
            raise _invalid(f"The resource type '{quote(kind)}' has more than one tag specification")
        tags = specification.get("Tags", ())
        if not tags:
            raise _invalid("Tag specification must have at least one tag")
        found[kind] = check_tags(tags)
    return found


def tags_for(specifications: Iterable[Mapping[str, Any]] | None, resource_type: str) -> dict[str, str]:
    """The tags for the one type of resource that an action makes, which is then the only one that may be named."""
    return check_tag_specifications(specifications or (), {resource_type}).get(resource_type, {})


def _invalid(message: str) -> Ec2Error:
    return Ec2Error("InvalidParameterValue", message)
