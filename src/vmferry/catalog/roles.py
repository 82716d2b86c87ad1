"""IAM's roles, with their inline policies and what is attached to them. They belong to an account, in every region."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from vmferry.aws.service_role import DEFAULT_ROLE, Purpose, role_policy, trust_policy
from vmferry.catalog._database import Database
from vmferry.catalog._schema import AttachedPolicyRow, RolePolicyRow, RoleRow
from vmferry.catalog.policies import require_policy
from vmferry.errors import ConflictError, NotFoundError, quote

MAX_ROLES = 1_000
MAX_INLINE_SIZE = 10_240
"""Characters of all inline policies of a role, white space aside."""
MAX_ATTACHED = 10
_HOUR = 3600
_ID_ALPHABET = string.ascii_uppercase + string.digits


@dataclass(frozen=True, slots=True)
class Role:
    """A role."""

    account_id: str
    name: str
    id: str
    path: str
    description: str | None
    trust: str
    """The trust policy, as it was given."""
    max_session_seconds: int
    created_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, str] = field(default_factory=dict)
    """The inline policies: name → document, as it was given."""
    attached: Sequence[str] = ()
    """The ARNs of attached policies."""

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account_id}:role{self.path}{self.name}"


def new_iam_id(prefix: str) -> str:
    """A random id as IAM shapes them: ``AROA`` or ``ANPA``, and 17 characters."""
    return prefix + "".join(secrets.choice(_ID_ALPHABET) for _ in range(17))


class Roles:
    """The roles of every account. Names are unique whatever their case, and found as they were written."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, role: Role) -> None:
        """Record a role without policies. Raises ``ConflictError`` where its name is in use, or there are too many."""
        with self._database.write() as session:
            mine = select(func.count()).select_from(RoleRow).where(RoleRow.account_id == role.account_id)
            if session.scalar(mine.where(func.lower(RoleRow.name) == role.name.lower())):
                raise ConflictError(f"Role with name {role.name} already exists.", code="EntityAlreadyExists")
            if (session.scalar(mine) or 0) >= MAX_ROLES:
                raise ConflictError(f"Cannot exceed quota for RolesPerAccount: {MAX_ROLES}", code="LimitExceeded")
            session.add(_row(role))

    def get(self, account_id: str, name: str) -> Role:
        """The role. Raises ``NotFoundError``."""
        with self._database.read() as session:
            return _fact(_find(session, account_id, name))

    def all(self, account_id: str) -> list[Role]:
        """The roles of an account, by name."""
        with self._database.read() as session:
            query = select(RoleRow).where(RoleRow.account_id == account_id).order_by(RoleRow.name)
            return [_fact(row) for row in session.scalars(query)]

    def change(
        self,
        account_id: str,
        name: str,
        *,
        trust: str | None = None,
        description: str | None = None,
        max_session_seconds: int | None = None,
    ) -> None:
        """Set what is given. Raises ``NotFoundError``."""
        with self._database.write() as session:
            row = _find(session, account_id, name)
            row.trust = row.trust if trust is None else trust
            row.description = row.description if description is None else description
            row.max_session_seconds = max_session_seconds or row.max_session_seconds

    def change_tags(self, account_id: str, name: str, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
        """Set the tags to what ``change`` makes of them. Raises ``NotFoundError``, and what ``change`` raises."""
        with self._database.write() as session:
            row = _find(session, account_id, name)
            row.tags = change(dict(row.tags))

    def put_policy(self, account_id: str, name: str, policy_name: str, document: str) -> None:
        """Set an inline policy. Raises ``NotFoundError``; ``ConflictError`` where all become too long together."""
        with self._database.write() as session:
            row = _find(session, account_id, name)
            kept = {policy.name: policy for policy in row.policies}
            others = sum(_length(policy.document) for policy in row.policies if policy.name != policy_name)
            if others + _length(document) > MAX_INLINE_SIZE:
                raise ConflictError(
                    f"Maximum policy size of {MAX_INLINE_SIZE} bytes exceeded for role {name}", code="LimitExceeded"
                )
            if policy_name in kept:
                kept[policy_name].document = document
            else:
                row.policies.append(RolePolicyRow(name=policy_name, document=document))

    def remove_policy(self, account_id: str, name: str, policy_name: str) -> None:
        """Raises ``NotFoundError``."""
        with self._database.write() as session:
            row = _find(session, account_id, name)
            kept = [policy for policy in row.policies if policy.name != policy_name]
            if len(kept) == len(row.policies):
                raise no_such_inline_policy(policy_name)
            row.policies = kept

    def attach(self, account_id: str, name: str, arn: str) -> None:
        """Attach a policy; again changes nothing. Raises ``NotFoundError`` for the role and for the policy."""
        with self._database.write() as session:
            row = _find(session, account_id, name)
            require_policy(session, account_id, arn)
            if arn in {attached.arn for attached in row.attachments}:
                return
            if len(row.attachments) >= MAX_ATTACHED:
                raise ConflictError(f"Cannot exceed quota for PoliciesPerRole: {MAX_ATTACHED}", code="LimitExceeded")
            row.attachments.append(AttachedPolicyRow(arn=arn))

    def detach(self, account_id: str, name: str, arn: str) -> None:
        """Raises ``NotFoundError``."""
        with self._database.write() as session:
            row = _find(session, account_id, name)
            kept = [attached for attached in row.attachments if attached.arn != arn]
            if len(kept) == len(row.attachments):
                raise NotFoundError(f"Policy {quote(arn)} was not found.", code="NoSuchEntity")
            row.attachments = kept

    def remove(self, account_id: str, name: str) -> None:
        """Forget a role. Raises ``NotFoundError``; ``ConflictError`` while it has policies."""
        with self._database.write() as session:
            row = _find(session, account_id, name)
            if row.policies:
                raise ConflictError("Cannot delete entity, must delete policies first.", code="DeleteConflict")
            if row.attachments:
                raise ConflictError("Cannot delete entity, must detach all policies first.", code="DeleteConflict")
            session.delete(row)


def add_default_role(session: Session, account_id: str) -> None:
    """Give a new account ``vmimport``, so that imports work from the start, inside a transaction."""
    role = Role(
        account_id, DEFAULT_ROLE, new_iam_id("AROA"), "/", None, json.dumps(trust_policy()), _HOUR, datetime.now(UTC)
    )
    row = _row(role)
    document = json.dumps(role_policy(["*"], Purpose.IMPORT, Purpose.EXPORT))
    row.policies.append(RolePolicyRow(name=DEFAULT_ROLE, document=document))
    session.add(row)


def no_such_inline_policy(name: str) -> NotFoundError:
    """IAM's answer for a role that has no inline policy ``name``."""
    return NotFoundError(f"The role policy with name {quote(name)} cannot be found.", code="NoSuchEntity")


def _length(document: str) -> int:
    return len("".join(document.split()))


def _find(session: Session, account_id: str, name: str) -> RoleRow:
    row = session.get(RoleRow, (account_id, name))
    if row is None:
        raise NotFoundError(f"The role with name {quote(name)} cannot be found.", code="NoSuchEntity")
    return row


def _row(role: Role) -> RoleRow:
    return RoleRow(
        account_id=role.account_id,
        name=role.name,
        id=role.id,
        path=role.path,
        description=role.description,
        trust=role.trust,
        max_session_seconds=role.max_session_seconds,
        created_at=role.created_at,
        tags=dict(role.tags),
    )


def _fact(row: RoleRow) -> Role:
    return Role(
        account_id=row.account_id,
        name=row.name,
        id=row.id,
        path=row.path,
        description=row.description,
        trust=row.trust,
        max_session_seconds=row.max_session_seconds,
        created_at=row.created_at,
        tags=dict(row.tags),
        policies={policy.name: policy.document for policy in row.policies},
        attached=tuple(attached.arn for attached in row.attachments),
    )
