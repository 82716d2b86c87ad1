"""Lists of IAM, a page at a time: ``Marker``, ``MaxItems``, ``IsTruncated``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from vmferry.aws.errors import ApiError
from vmferry.errors import quote

T = TypeVar("T")

_DEFAULT_ITEMS = 100


def page_of(
    items: Sequence[T], key: Callable[[T], str], request: Mapping[str, Any]
) -> tuple[Sequence[T], dict[str, Any]]:
    """The page that ``request`` asks for, and what the answer says of further ones.

    ``items`` are sorted by ``key``, which tells them apart; the marker is the key that the last page ended with.
    """
    marker = request.get("Marker")
    if marker is not None and not marker.startswith("after:"):
        raise ApiError("ValidationError", f"Invalid Marker: {quote(marker)}")
    rest = [item for item in items if marker is None or key(item) > marker.removeprefix("after:")]
    page = rest[: request.get("MaxItems", _DEFAULT_ITEMS)]
    if len(page) == len(rest):
        return page, {"IsTruncated": False}
    return page, {"IsTruncated": True, "Marker": f"after:{key(page[-1])}"}
