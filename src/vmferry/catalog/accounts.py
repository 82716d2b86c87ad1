"""Accounts and their access keys."""

from __future__ import annotations

import base64
import re
import secrets
import string
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from vmferry.catalog._database import Database
from vmferry.catalog._schema import AccessKeyRow, AccountRow
from vmferry.catalog.roles import add_default_role
from vmferry.errors import ConflictError, NotFoundError, quote

_KEY_ALPHABET = string.ascii_uppercase + "234567"
_NAME = re.compile("[a-z][a-z0-9-]{1,38}[a-z0-9]", re.ASCII)
_RESERVED = "vmferry"
"""Of the server's own buckets."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account: a namespace of everything there is, in each region."""

    id: str
    """Twelve digits."""
    name: str | None
    """What the operator calls it, and what its buckets in the embedded object store begin with."""
    created_at: datetime


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

    def add(self, key: AccessKey, name: str | None = None) -> None:
        """Record ``key``; the same key again changes nothing. An account that is not there is made, with the role
        ``vmimport``; one that has no name is called ``name``, unless another one is."""
        with self._database.write() as session:
            account = session.get(AccountRow, key.account_id)
            if account is None:
                account = AccountRow(id=key.account_id, created_at=datetime.now(UTC))
                session.add(account)
                add_default_role(session, key.account_id)
            taken = session.scalars(select(AccountRow.id).where(AccountRow.name == name)).first()
            if account.name is None and taken is None:
                account.name = name
            if session.get(AccessKeyRow, key.access_key_id) is None:
                _add_key(session, key)

    def create(self, name: str) -> AccessKey:
        """Make an account called ``name``; its first key.

        Raises ``ConflictError`` for a name that is none, is in use, or has its buckets among another account's: each
        has those called like itself, or like itself with a hyphen and more.
        """
        if not _NAME.fullmatch(name):
            raise ConflictError(
                f"{quote(name)} cannot be an account's name: use 3 to 40 of a-z, 0-9 and '-', a letter first, no "
                "hyphen last, as its buckets are called after it."
            )
        with self._database.write() as session:  # which is the only one: nobody takes the name meanwhile
            for other in (*session.scalars(select(AccountRow.name).where(AccountRow.name.is_not(None))), _RESERVED):
                if f"{name}-".startswith(f"{other}-") or f"{other}-".startswith(f"{name}-"):
                    raise ConflictError(
                        f"The name {quote(name)} is in use, or would share buckets with {quote(other or '')}: "
                        "choose another one."
                    )
            key = new_access_key()
            while session.get(AccountRow, key.account_id) is not None:
                key = new_access_key()
            session.add(AccountRow(id=key.account_id, name=name, created_at=datetime.now(UTC)))
            add_default_role(session, key.account_id)
            _add_key(session, key)
        return key

    def create_key(self, account_id: str) -> AccessKey:
        """One more key of an account that exists."""
        key = new_access_key(account_id)
        with self._database.write() as session:
            _add_key(session, key)
        return key

    def get(self, wanted: str) -> Account:
        """The account with this name or id. Raises ``NotFoundError``."""
        query = select(AccountRow).where(or_(AccountRow.id == wanted, AccountRow.name == wanted))
        with self._database.read() as session:
            row = session.scalars(query).first()
            if row is None:
                raise NotFoundError(
                    f"There is no account {quote(wanted)}: `vmferry accounts list` says which there are."
                )
            return Account(row.id, row.name, row.created_at)

    def all(self) -> list[Account]:
        """Every account, oldest first."""
        with self._database.read() as session:
            rows = session.scalars(select(AccountRow).order_by(AccountRow.created_at, AccountRow.id))
            return [Account(row.id, row.name, row.created_at) for row in rows]

    def remove_key(self, access_key_id: str) -> None:
        """Let nobody sign with the key from now on. Raises ``NotFoundError``."""
        with self._database.write() as session:
            row = session.get(AccessKeyRow, access_key_id)
            if row is None:
                raise NotFoundError(f"There is no access key {quote(access_key_id)}.")
            session.delete(row)

    def find(self, access_key_id: str) -> AccessKey | None:
        """The key with this id, or ``None``."""
        with self._database.read() as session:
            row = session.get(AccessKeyRow, access_key_id)
            return None if row is None else _fact(row)

    def of_account(self, account_id: str) -> AccessKey | None:
        """The oldest key of ``account_id``: what the service reads that account's buckets with."""
        return next(iter(self.keys(account_id)), None)

    def keys(self, account_id: str | None = None) -> list[AccessKey]:
        """Every key, or those of an account, oldest first."""
        query = select(AccessKeyRow).order_by(AccessKeyRow.created_at, AccessKeyRow.access_key_id)
        if account_id is not None:
            query = query.where(AccessKeyRow.account_id == account_id)
        with self._database.read() as session:
            return [_fact(row) for row in session.scalars(query)]


def _add_key(session: Session, key: AccessKey) -> None:
    session.add(
        AccessKeyRow(
            access_key_id=key.access_key_id,
            secret_access_key=key.secret_access_key,
            account_id=key.account_id,
            created_at=datetime.now(UTC),
        )
    )


def _fact(row: AccessKeyRow) -> AccessKey:
    return AccessKey(row.access_key_id, row.secret_access_key, row.account_id)
