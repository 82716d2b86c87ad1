"""Tags as requests of every service carry them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vmferry.aws.errors import ApiError
from vmferry.errors import quote

MAX_TAGS = 50
MAX_KEY_LENGTH = 128
MAX_VALUE_LENGTH = 256


def check_tags(tags: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """``[{"Key": "Name", "Value": "web"}]`` → ``{"Name": "web"}``, every rule of tags obeyed.

    Raises ``ApiError``: ``InvalidParameterValue``, or ``TagLimitExceeded`` over 50 tags.
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
        raise ApiError(
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


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterValue", message)
