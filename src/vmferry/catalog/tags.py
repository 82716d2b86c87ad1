"""Tags on anything that has an id."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from vmferry.catalog._database import Database
from vmferry.catalog._schema import (
    ExportTaskRow,
    ImageRow,
    ImportTaskRow,
    InstanceRow,
    SnapshotRow,
    TagRow,
    VolumeRow,
)
from vmferry.catalog.pages import Wanted, page_query
from vmferry.catalog.places import Place
from vmferry.errors import ConflictError, NotFoundError, quote

MAX_TAGS = 50
"""Tags on one resource, as EC2 limits them."""

_Taggable = ImageRow | SnapshotRow | VolumeRow | InstanceRow | ImportTaskRow | ExportTaskRow

_TAGGABLE: Mapping[str, tuple[type[_Taggable], str]] = {
    "ami-": (ImageRow, "image"),
    "snap-": (SnapshotRow, "snapshot"),
    "vol-": (VolumeRow, "volume"),
    "i-": (InstanceRow, "instance"),
    "import-ami-": (ImportTaskRow, "import-image-task"),
    "import-snap-": (ImportTaskRow, "import-snapshot-task"),
    "export-ami-": (ExportTaskRow, "export-image-task"),
    "export-i-": (ExportTaskRow, "export-instance-task"),
}
"""Id prefix → table, and EC2's name for the type of resource."""


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag on one resource."""

    resource_id: str
    resource_type: str
    key: str
    value: str

    @property
    def position(self) -> str:
        """Where it stands among all, by resource and key."""
        return f"{self.resource_id} {self.key}"


class Tags:
    """The tags of every resource in the catalog."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, place: Place, resource_ids: Iterable[str], tags: Mapping[str, str]) -> None:
        """Set ``tags`` on every resource, all of them or none.

        Raises ``NotFoundError`` for an id that is not here, ``ConflictError`` where a resource would have over 50 tags.
        """
        with self._database.write() as session:
            for resource_id in resource_ids:
                resource_type = _type_of(session, place, resource_id)
                put_tags(session, place, resource_id, resource_type, tags)

    def remove(self, place: Place, resource_ids: Iterable[str], tags: Mapping[str, str | None] | None) -> None:
        """Remove tags by key, and by value where one is given; ``None`` removes all. What is not there is passed over.

        Raises ``NotFoundError`` for an id that is not here.
        """
        with self._database.write() as session:
            for resource_id in resource_ids:
                _type_of(session, place, resource_id)
                query = delete(TagRow).where(TagRow.resource_id == resource_id)
                if tags is None:
                    session.execute(query)
                for key, value in (tags or {}).items():
                    matching = query.where(TagRow.key == key)
                    session.execute(matching if value is None else matching.where(TagRow.value == value))

    def page(self, place: Place, wanted: Wanted, after: str | None, most: int) -> list[Tag]:
        """The next ``most`` tags in ``place`` by resource and key, after the position ``after``."""
        query = page_query(TagRow, ["resource_id", "key"], place, wanted, after, most)
        with self._database.read() as session:
            return [Tag(row.resource_id, row.resource_type, row.key, row.value) for row in session.scalars(query)]

    def of(self, resource_ids: Collection[str]) -> dict[str, dict[str, str]]:
        """The tags of each of ``resource_ids``, in key order; an id without tags has an empty mapping."""
        found: dict[str, dict[str, str]] = {resource_id: {} for resource_id in resource_ids}
        if not found:
            return found
        with self._database.read() as session:
            for chunk in _chunks(sorted(found), 1000):
                query = select(TagRow).where(TagRow.resource_id.in_(chunk)).order_by(TagRow.key)
                for row in session.scalars(query):
                    found[row.resource_id][row.key] = row.value
        return found


def put_tags(session: Session, place: Place, resource_id: str, resource_type: str, tags: Mapping[str, str]) -> None:
    """Set ``tags`` on a resource inside a transaction. Raises ``ConflictError`` over 50 tags."""
    held = {row.key: row for row in session.scalars(select(TagRow).where(TagRow.resource_id == resource_id))}
    if len(held.keys() | tags.keys()) > MAX_TAGS:
        raise ConflictError(
            f"{quote(resource_id)} would have {len(held.keys() | tags.keys())} tags; {MAX_TAGS} are allowed.",
            code="TagLimitExceeded",
        )
    for key, value in tags.items():
        if key in held:
            held[key].value = value
            continue
        session.add(
            TagRow(
                resource_id=resource_id,
                key=key,
                value=value,
                resource_type=resource_type,
                region=place.region,
                account_id=place.account_id,
            )
        )


def drop_tags(session: Session, resource_id: str) -> None:
    """Remove every tag of a resource that ceases to be, inside a transaction."""
    session.execute(delete(TagRow).where(TagRow.resource_id == resource_id))


def _type_of(session: Session, place: Place, resource_id: str) -> str:
    for prefix, (table, resource_type) in _TAGGABLE.items():
        if resource_id.startswith(prefix):
            row = cast("_Taggable | None", session.get(table, resource_id))
            if row is not None and (row.region, row.account_id) == (place.region, place.account_id):
                return resource_type
            raise NotFoundError(f"{quote(resource_id)} does not exist.", resource_id=resource_id)
    raise NotFoundError(f"{quote(resource_id)} is not the id of anything that can be tagged.", resource_id=resource_id)


def _chunks(items: list[str], size: int) -> Iterable[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
