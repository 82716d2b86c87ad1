"""IAM's managed policies: the customers' own, and the few of AWS's that grant what imports and exports need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from vmferry.catalog._database import Database
from vmferry.catalog._schema import AttachedPolicyRow, PolicyRow
from vmferry.errors import ConflictError, NotFoundError, quote

MAX_POLICIES = 1_500

_AWS_SINCE = datetime(2015, 2, 6, 18, 40, tzinfo=UTC)
_AWS_ACTIONS: Mapping[str, list[str]] = {
    "AdministratorAccess": ["*"],
    "AmazonS3FullAccess": ["s3:*", "s3-object-lambda:*"],
    "AmazonS3ReadOnlyAccess": [
        "s3:Get*",
        "s3:List*",
        "s3:Describe*",
        "s3-object-lambda:Get*",
        "s3-object-lambda:List*",
    ],
}


@dataclass(frozen=True, slots=True)
class ManagedPolicy:
    """A policy with an ARN of its own. It has one version, ``v1``."""

    arn: str
    account_id: str
    """``aws`` for AWS's own."""
    name: str
    id: str
    path: str
    description: str | None
    document: str
    created_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict)
    attachments: int = 0
    """Roles of the asking account that have it."""


def policy_arn(account_id: str, path: str, name: str) -> str:
    """The ARN of a managed policy; ``path`` begins and ends with a slash."""
    return f"arn:aws:iam::{account_id}:policy{path}{name}"


_AWS_POLICIES = {
    policy_arn("aws", "/", name): ManagedPolicy(
        arn=policy_arn("aws", "/", name),
        account_id="aws",
        name=name,
        id="ANPA" + name.upper()[:17].ljust(17, "A"),
        path="/",
        description=None,
        document=json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
        ),
        created_at=_AWS_SINCE,
    )
    for name, actions in _AWS_ACTIONS.items()
}


class Policies:
    """The managed policies that an account sees: its own, and AWS's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, policy: ManagedPolicy) -> None:
        """Record a policy. Raises ``ConflictError`` where its name is in use, or there are too many."""
        with self._database.write() as session:
            mine = select(func.count()).select_from(PolicyRow).where(PolicyRow.account_id == policy.account_id)
            if session.scalar(mine.where(func.lower(PolicyRow.name) == policy.name.lower())):
                raise ConflictError(
                    f"A policy called {policy.name} already exists. Duplicate names are not allowed.",
                    code="EntityAlreadyExists",
                )
            if (session.scalar(mine) or 0) >= MAX_POLICIES:
                raise ConflictError(f"Cannot exceed quota for PoliciesPerAccount: {MAX_POLICIES}", code="LimitExceeded")
            session.add(
                PolicyRow(
                    arn=policy.arn,
                    account_id=policy.account_id,
                    name=policy.name,
                    id=policy.id,
                    path=policy.path,
                    description=policy.description,
                    document=policy.document,
                    created_at=policy.created_at,
                    tags=dict(policy.tags),
                )
            )

    def get(self, account_id: str, arn: str) -> ManagedPolicy:
        """The policy, seen by ``account_id``. Raises ``NotFoundError``."""
        with self._database.read() as session:
            users = select(func.count()).select_from(AttachedPolicyRow)
            users = users.where(AttachedPolicyRow.account_id == account_id, AttachedPolicyRow.arn == arn)
            attachments = session.scalar(users) or 0
            return replace(require_policy(session, account_id, arn), attachments=attachments)

    def remove(self, account_id: str, arn: str) -> None:
        """Forget a policy of the account's own. Raises ``NotFoundError``; ``ConflictError`` while it is attached."""
        with self._database.write() as session:
            row = session.get(PolicyRow, arn)
            if row is None or row.account_id != account_id:
                raise _no_such_policy(arn)
            if session.scalars(select(AttachedPolicyRow).where(AttachedPolicyRow.arn == arn)).first() is not None:
                raise ConflictError("Cannot delete a policy attached to entities.", code="DeleteConflict")
            session.delete(row)


def require_policy(session: Session, account_id: str, arn: str) -> ManagedPolicy:
    """The policy, inside a transaction. Raises ``NotFoundError``."""
    if (known := _AWS_POLICIES.get(arn)) is not None:
        return known
    row = session.get(PolicyRow, arn)
    if row is None or row.account_id != account_id:
        raise _no_such_policy(arn)
    return _fact(row)


def _no_such_policy(arn: str) -> NotFoundError:
    return NotFoundError(f"Policy {quote(arn)} does not exist or is not attachable.", code="NoSuchEntity")


def _fact(row: PolicyRow) -> ManagedPolicy:
    return ManagedPolicy(
        arn=row.arn,
        account_id=row.account_id,
        name=row.name,
        id=row.id,
        path=row.path,
        description=row.description,
        document=row.document,
        created_at=row.created_at,
        tags=dict(row.tags),
    )
