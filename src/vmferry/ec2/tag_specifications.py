"""Tags as requests carry them, and ``TagSpecifications``: tags for what the action is about to make."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from vmferry.ec2.errors import Ec2Error
from vmferry.errors import quote

MAX_TAGS = 50
MAX_KEY_LENGTH = 128
MAX_VALUE_LENGTH = 256


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


def check_tags(tags: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """``[{"Key": "Name", "Value": "web"}]`` → ``{"Name": "web"}``, every rule of tags obeyed.

    Raises ``Ec2Error``: ``InvalidParameterValue``, or ``TagLimitExceeded`` over 50 tags.
    """
    found: dict[str, str] = {}
    for tag in tags:
        key, value = tag.get("Key"), tag.get("Value")
        if not key:
            raise _invalid("Tag key cannot be null or empty.")
        if value is None:
            raise _invalid("Tag value cannot be null. Use empty string instead.")
        _check_tag(str(key), str(value))
        if key in found:
            raise _invalid(f"Duplicate tag key '{quote(key)}' specified.")
        found[str(key)] = str(value)
    if len(found) > MAX_TAGS:
        raise Ec2Error(
            "TagLimitExceeded",
            f"The maximum number of Tags for a resource has been reached. | {len(found)} tags, at most {MAX_TAGS}.",
        )
    return found


def _check_tag(key: str, value: str) -> None:
    if len(key) > MAX_KEY_LENGTH:
        raise _invalid(f"Tag key exceeds the maximum length of {MAX_KEY_LENGTH} characters")
    if len(value) > MAX_VALUE_LENGTH:
        raise _invalid(f"Tag value exceeds the maximum length of {MAX_VALUE_LENGTH} characters")
    if key.lower().startswith("aws:"):
        raise _invalid(f"Tag keys starting with 'aws:' are reserved for internal use: '{quote(key)}'")


def _invalid(message: str) -> Ec2Error:
    return Ec2Error("InvalidParameterValue", message)
