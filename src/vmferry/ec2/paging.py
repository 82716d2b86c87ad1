"""Pages: ``MaxResults`` and ``NextToken``.

A token says which action it belongs to, with which parameters, and after which item the next page begins, so it stays
good when the server starts again, and when items come or go in between. It holds no secret and no right: whoever makes
one up sees, of what is his own anyway, another page.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vmferry.aws.fingerprint import fingerprint
from vmferry.ec2.errors import Ec2Error
from vmferry.errors import quote

T = TypeVar("T")

_MAX_TOKEN = 1024
_LARGEST_BATCH = 1000
_MOST_LOOKED_AT = 2000
"""Items that are looked at for a page, lest a filter that lets few of many through takes its time: as EC2's, a page may
have fewer items than asked for, or none, and others come behind it."""
_OF_THE_PAGE = ("MaxResults", "NextToken")
"""What may differ between the requests of one walk."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of the items. ``next_token`` is ``None`` on the last page."""

    items: list[T]
    next_token: str | None


@dataclass(frozen=True)  # no slots: Python 3.11 cannot make ``Paging[Image](…)`` of a frozen class that has them
class Paging(Generic[T]):
    """How one action's answer is cut into pages: ``Paging[Image]("DescribeImages", lambda image: image.id)``."""

    action: str
    position: Callable[[T], str]
    """What items are ordered by: unique among them and never changing."""
    lowest: int = 5
    highest: int = 1000
    """Bounds of ``MaxResults``; some actions have others."""
    alone: str | None = None
    """The member that must not come together with ``MaxResults``: ``ImageIds``."""

    def page(self, items: Iterable[T], request: Mapping[str, Any]) -> Page[T]:
        """The page of ``items`` that ``request`` asks for; all of them where it sets no ``MaxResults``.

        Raises ``Ec2Error``: ``InvalidParameterValue``, ``InvalidParameterCombination``, ``InvalidNextToken``.
        """
        ordered = sorted(items, key=self.position)

        def fetch(after: str | None, most: int) -> list[T]:
            return [item for item in ordered if after is None or self.position(item) > after][:most]

        return self.read(fetch, lambda _: True, request)

    def read(
        self, fetch: Callable[[str | None, int], list[T]], keeps: Callable[[T], bool], request: Mapping[str, Any]
    ) -> Page[T]:
        """As ``page``, of the items that ``keeps`` says yes to. ``fetch(after, most)`` gets the first ``most`` behind
        the position ``after``, in order: no more of them than the page needs, and not many more than
        ``_MOST_LOOKED_AT`` for a page that has a limit.
        """
        limit, after = self._limit(request), self._after(request)
        chosen: list[T] = []
        most, looked_at = _LARGEST_BATCH if limit is None else limit + 1, 0
        while True:
            batch = fetch(after, most)
            looked_at += len(batch)
            chosen += filter(keeps, batch)
            if limit is not None and len(chosen) > limit:
                return Page(chosen[:limit], self._token(self.position(chosen[limit - 1]), request))
            if len(batch) < most:
                return Page(chosen, None)
            after, most = self.position(batch[-1]), min(2 * most, _LARGEST_BATCH)
            if limit is not None and looked_at >= _MOST_LOOKED_AT:
                return Page(chosen, self._token(after, request))

    def _limit(self, request: Mapping[str, Any]) -> int | None:
        if (limit := request.get("MaxResults")) is None:
            return None
        if self.alone is not None and request.get(self.alone):
            raise Ec2Error(
                "InvalidParameterCombination",
                f"The parameter {self.alone} cannot be used with the parameter MaxResults in the same request",
            )
        if not self.lowest <= limit <= self.highest:
            raise Ec2Error(
                "InvalidParameterValue",
                f"Value ({limit}) for parameter maxResults is invalid. "
                f"Expected a number from {self.lowest} to {self.highest}.",
            )
        return int(limit)

    def _after(self, request: Mapping[str, Any]) -> str | None:
        """Where the page begins. Raises ``Ec2Error``."""
        if not (token := request.get("NextToken")):
            return None
        try:
            text = base64.urlsafe_b64decode(token[:_MAX_TOKEN] + "=" * (-len(token) % 4))
            action, asked, position = json.loads(text)
        except (binascii.Error, ValueError, TypeError, RecursionError) as error:
            raise _invalid_token(token) from error
        if (action, asked) != (self.action, _asked(request)) or not isinstance(position, str):
            raise _invalid_token(token)
        return position

    def _token(self, position: str, request: Mapping[str, Any]) -> str:
        text = json.dumps([self.action, _asked(request), position], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _asked(request: Mapping[str, Any]) -> str:
    """What the pages are of."""
    return fingerprint({name: value for name, value in request.items() if name not in _OF_THE_PAGE})[:16]


def _invalid_token(token: str) -> Ec2Error:
    return Ec2Error("InvalidNextToken", f"The token '{quote(token)}' is invalid")
