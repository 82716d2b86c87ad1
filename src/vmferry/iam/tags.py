"""Tags as IAM takes and answers them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vmferry.aws.errors import ApiError

MAX_TAGS = 50


def read_tags(given: Iterable[Mapping[str, str]] | None) -> dict[str, str]:
    """Raises ``ApiError`` for a key that occurs twice (whatever its case), and for too many."""
    tags = list(given or ())
    if len({tag["Key"].lower() for tag in tags}) != len(tags):
        raise ApiError("InvalidInput", "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    return check_count({tag["Key"]: tag["Value"] for tag in tags})


def check_count(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > MAX_TAGS:
        raise ApiError("LimitExceeded", f"The number of tags has reached the maximum limit: {MAX_TAGS}.", 409)
    return tags


def tag_list(tags: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
