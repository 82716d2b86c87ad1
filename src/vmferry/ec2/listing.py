"""What stands in the catalog, as a Describe action lists it: by ids or all, filtered, page by page, with its tags."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from vmferry.catalog import Catalog
from vmferry.catalog.pages import Wanted
from vmferry.catalog.places import Place
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.filters import Filters
from vmferry.ec2.paging import Page, Paging

Tags = Mapping[str, Mapping[str, str]]
"""By the id of what they are on."""


class Fact(Protocol):
    """What a table of the catalog holds."""

    @property
    def id(self) -> str: ...

    @property
    def place(self) -> Place: ...


F = TypeVar("F", bound=Fact)
V = TypeVar("V")


@dataclass(frozen=True)  # no slots: Python 3.11 cannot make ``Listing[Image, …](…)`` of a frozen class that has them
class Listing(Generic[F, V]):
    """How one action lists facts of a table as the answer has them."""

    describe: Callable[[Catalog, Place, list[str]], list[F]]
    """Those with these ids. Raises ``NotFoundError``."""
    fetch: Callable[[Catalog, Place, Wanted, str | None, int], list[F]]
    """So many of those that are wanted, after a position."""
    views: Callable[[RequestContext, list[F], Tags], list[V]]
    """Facts with their tags as the answer has them, one for each."""
    filters: Filters[V]
    paging: Paging[F]

    def page(
        self,
        context: RequestContext,
        request: Mapping[str, Any],
        ids: list[str],
        allowed: Callable[[list[F]], Collection[str]] | None = None,
    ) -> Page[V]:
        """Those with ``ids``, each of which must exist, or all; of them what the filters of ``request`` let through,
        and ``allowed``, which says the ids of those; and of that its page.

        Raises ``Ec2Error`` for what is asked wrongly, ``NotFoundError``.
        """
        catalog, asked, kept = context.services.catalog, request.get("Filters", ()), dict[str, V]()
        passes, wanted = self.filters.test(asked), self.filters.wanted(asked)

        def look_at(facts: list[F]) -> list[F]:
            own = catalog.tags.of([fact.id for fact in facts if fact.place == context.place])
            views = self.views(context, facts, {fact.id: own.get(fact.id, {}) for fact in facts})
            mine = {fact.id for fact in facts} if allowed is None else allowed(facts)
            kept.update(
                (one.id, view) for one, view in zip(facts, views, strict=True) if one.id in mine and passes(view)
            )
            return facts

        if ids:
            facts = look_at(self.describe(catalog, context.place, ids))
            page = self.paging.page([fact for fact in facts if fact.id in kept], request)
        else:
            page = self.paging.read(
                lambda after, most: look_at(self.fetch(catalog, context.place, wanted, after, most)),
                lambda fact: fact.id in kept,
                request,
            )
        return Page([kept[fact.id] for fact in page.items], page.next_token)
