"""Pages of a table by keyset: the next rows after the last one seen, out of an index that holds them in their order.

What a page costs depends on the page, not on the table, nor on how far into it the page begins.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Select, String, literal, select, tuple_, type_coerce
from sqlalchemy.orm import Session

from vmferry.catalog._schema import EVERYBODY, ImageRow, PermissionRow, SnapshotRow, TagRow
from vmferry.catalog.places import Place


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows a page is to hold, as far as the database can tell: of each field and each tag one of the values."""

    fields: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By the name that the fact has for it (``Image.name``), of those that are text."""
    tags: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By their keys."""


ALL = Wanted()


def position_of(created_at: datetime, resource_id: str) -> str:
    """Where in the order of their making something stands: sorts as text."""
    return f"{created_at.astimezone(UTC).isoformat(timespec='microseconds')} {resource_id}"


def page_query(
    table: type[Any], order: Sequence[str], place: Place, wanted: Wanted, after: str | None, most: int
) -> Select[Any]:
    """The first ``most`` rows of ``place`` in ``order`` (columns, together unique and indexed behind the place).

    ``after`` is a position: the values of ``order``, with a space between them. One that somebody made up begins the
    page somewhere, and no more.
    """
    query = select(table).where(table.region == place.region, table.account_id == place.account_id)
    columns = [getattr(table, name) for name in order]
    return _cut(_narrow(query, table, place, wanted), columns, after, most)


def newest_query(table: type[Any], place: Place, most: int) -> Select[Any]:
    """The ``most`` rows of ``place`` that were made last, the newest first, for what EC2 lists without pages."""
    query = select(table).where(table.region == place.region, table.account_id == place.account_id)
    return query.order_by(table.created_at.desc(), table.id.desc()).limit(most)


R = TypeVar("R", ImageRow, SnapshotRow)
_PREFIXES: Mapping[type[Any], str] = {ImageRow: "ami-", SnapshotRow: "snap-"}
"""Of ids: permissions on both stand in one table."""


def visible_page(
    session: Session, table: type[R], place: Place, wanted: Wanted, after: str | None, most: int
) -> list[R]:
    """As ``page_query``, by id, of the rows of ``place`` and of those in its region that are shared with its account
    or with everybody.

    The three are read apart, each out of an index that has them in order.
    """
    queries = [page_query(table, ["id"], place, wanted, after, most)]
    for holder in (place.account_id, EVERYBODY):
        shared = (
            select(table)
            .join(PermissionRow, PermissionRow.resource_id == table.id)
            .where(
                PermissionRow.account_id == holder,
                PermissionRow.resource_id.between(_PREFIXES[table], _PREFIXES[table] + "z" * 18),
                table.region == place.region,
                table.account_id != place.account_id,
            )
        )
        queries.append(_cut(_narrow(shared, table, place, wanted), [PermissionRow.resource_id], after, most))
    rows: dict[str, R] = {row.id: row for query in queries for row in session.scalars(query)}
    return [rows[row_id] for row_id in sorted(rows)[:most]]


def _narrow(query: Select[Any], table: type[Any], place: Place, wanted: Wanted) -> Select[Any]:
    """``query`` without what is not wanted; tags are those of ``place``."""
    for name, values in wanted.fields.items():
        query = query.where(getattr(table, name).in_(sorted(values)))
    for key, values in wanted.tags.items():
        tagged = select(TagRow.resource_id).where(
            TagRow.region == place.region,
            TagRow.account_id == place.account_id,
            TagRow.key == key,
            TagRow.value.in_(sorted(values)),
        )
        query = query.where(table.id.in_(tagged))
    return query


def _cut(query: Select[Any], columns: Sequence[Any], after: str | None, most: int) -> Select[Any]:
    """The first ``most`` of ``query`` by ``columns``, after the position ``after``."""
    if after is not None:
        parts = (after.split(" ", len(columns) - 1) + [""] * len(columns))[: len(columns)]
        as_text = [type_coerce(column, String) for column in columns]
        query = query.where(tuple_(*as_text) > tuple_(*(literal(part, String) for part in parts)))
    return query.order_by(*columns).limit(most)
