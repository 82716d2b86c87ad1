"""Accounts that may use an AMI or a snapshot besides its owner; among them, perhaps, all there are."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, and_, delete, or_, select
from sqlalchemy.orm import Session

from vmferry.catalog._database import Database
from vmferry.catalog._schema import EVERYBODY, ImageRow, PermissionRow, SnapshotRow
from vmferry.catalog.places import Place
from vmferry.errors import NotFoundError

__all__ = ["EVERYBODY", "Permissions", "drop_permissions", "visible"]


class Permissions:
    """Who AMIs and snapshots of every region and account are shared with."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, ids: Collection[str]) -> dict[str, list[str]]:
        """The accounts that each of ``ids`` is shared with, sorted; ``EVERYBODY`` stands for all."""
        found: dict[str, list[str]] = {one: [] for one in ids}
        if not found:
            return found
        query = select(PermissionRow).where(PermissionRow.resource_id.in_(list(ids)))
        with self._database.read() as session:
            for row in session.scalars(query.order_by(PermissionRow.account_id)):
                found[row.resource_id].append(row.account_id)
        return found

    def change(self, place: Place, resource_id: str, add: Collection[str], remove: Collection[str]) -> None:
        """Share an AMI or a snapshot of ``place`` with ``add``, and no longer with ``remove``; what is so already
        stays. Raises ``NotFoundError`` for what ``place`` has not."""
        with self._database.write() as session:
            _check_owned(session, place, resource_id)
            session.execute(
                delete(PermissionRow).where(
                    PermissionRow.resource_id == resource_id, PermissionRow.account_id.in_(list(remove))
                )
            )
            for account_id in add:
                session.merge(PermissionRow(resource_id=resource_id, account_id=account_id))

    def reset(self, place: Place, resource_id: str) -> None:
        """Only the owner may use it. Raises ``NotFoundError`` for what ``place`` has not."""
        with self._database.write() as session:
            _check_owned(session, place, resource_id)
            drop_permissions(session, resource_id)


def drop_permissions(session: Session, resource_id: str) -> None:
    """Forget whom ``resource_id`` is shared with, inside a transaction."""
    session.execute(delete(PermissionRow).where(PermissionRow.resource_id == resource_id))


def visible(table: type[ImageRow | SnapshotRow], place: Place, *, shared: bool) -> ColumnElement[bool]:
    """What of ``table`` is ``place``'s own or, where ``shared``, in its region and shared with its account, or with
    everybody."""
    owned = table.account_id == place.account_id
    if shared:
        granted = select(PermissionRow.resource_id).where(PermissionRow.account_id.in_([place.account_id, EVERYBODY]))
        owned = or_(owned, table.id.in_(granted))
    return and_(table.region == place.region, owned)


def _check_owned(session: Session, place: Place, resource_id: str) -> None:
    """The caller has looked before; this is for what was removed meanwhile."""
    row = session.get(ImageRow, resource_id) or session.get(SnapshotRow, resource_id)
    if row is None or (row.region, row.account_id) != (place.region, place.account_id):
        raise NotFoundError(f"{resource_id} does not exist", resource_id=resource_id)
