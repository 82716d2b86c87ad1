"""Accounts and their access keys."""

from __future__ import annotations

import base64
import secrets
import string
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select

from vmferry.catalog._database import Database
from vmferry.catalog._schema import AccessKeyRow
from vmferry.catalog.roles import add_default_role

_KEY_ALPHABET = string.ascii_uppercase + "234567"


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A pair of keys of an account, as AWS shapes them: ``AKIA`` + 16, and 40 characters of secret."""

    access_key_id: str
    secret_access_key: str
    account_id: str


def new_access_key(account_id: str | None = None) -> AccessKey:
    """Random keys, for ``account_id`` or for a new account with a random number of twelve digits."""
    return AccessKey(
        access_key_id="AKIA" + "".join(secrets.choice(_KEY_ALPHABET) for _ in range(16)),
        secret_access_key=base64.b64encode(secrets.token_bytes(30)).decode(),
        account_id=account_id or f"{secrets.randbelow(9 * 10**11) + 10**11}",
    )


class Accounts:
    """Who may sign requests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, key: AccessKey) -> None:
        """Record ``key``; the same key again changes nothing. A new account gets the role ``vmimport``."""
        with self._database.write() as session:
            known = session.scalars(select(AccessKeyRow).where(AccessKeyRow.account_id == key.account_id)).first()
            if known is None:
                add_default_role(session, key.account_id)
            if session.get(AccessKeyRow, key.access_key_id) is None:
                session.add(
                    AccessKeyRow(
                        access_key_id=key.access_key_id,
                        secret_access_key=key.secret_access_key,
                        account_id=key.account_id,
                        created_at=datetime.now(UTC),
                    )
                )

    def find(self, access_key_id: str) -> AccessKey | None:
        """The key with this id, or ``None``."""
        with self._database.read() as session:
            row = session.get(AccessKeyRow, access_key_id)
            return None if row is None else _fact(row)

    def of_account(self, account_id: str) -> AccessKey | None:
        """The oldest key of ``account_id``: what the service reads that account's buckets with."""
        with self._database.read() as session:
            query = select(AccessKeyRow).where(AccessKeyRow.account_id == account_id).order_by(AccessKeyRow.created_at)
            row = session.scalars(query).first()
            return None if row is None else _fact(row)

    def all(self) -> list[AccessKey]:
        """Every key, oldest first."""
        with self._database.read() as session:
            return [_fact(row) for row in session.scalars(select(AccessKeyRow).order_by(AccessKeyRow.created_at))]


def _fact(row: AccessKeyRow) -> AccessKey:
    return AccessKey(row.access_key_id, row.secret_access_key, row.account_id)
