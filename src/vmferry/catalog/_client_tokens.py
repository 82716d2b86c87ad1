"""Client tokens: the same request, sent twice, is one."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy.orm import Session

from vmferry.catalog._schema import ClientTokenRow
from vmferry.catalog.places import Place
from vmferry.errors import ConflictError, quote


def claim_token(
    session: Session, place: Place, action: str, token: str, fingerprint: str, resource_id: str
) -> str | None:
    """The resource that ``token`` made before; ``None`` where it makes ``resource_id`` now.

    Raises ``ConflictError`` when it was used with other parameters.
    """
    earlier = find_token(session, place, action, token, fingerprint)
    if earlier is None:
        session.add(
            ClientTokenRow(
                region=place.region,
                account_id=place.account_id,
                action=action,
                token=token,
                fingerprint=fingerprint,
                resource_id=resource_id,
                created_at=datetime.now(UTC),
            )
        )
    return earlier


def find_token(session: Session, place: Place, action: str, token: str, fingerprint: str) -> str | None:
    """The resource that ``token`` made before, if any. Raises ``ConflictError`` as ``claim_token`` does."""
    row = session.get(ClientTokenRow, (place.region, place.account_id, action, token))
    if row is not None and row.fingerprint != fingerprint:
        raise ConflictError(
            f"The client token {quote(token)} was used before with other parameters (it made {row.resource_id}); "
            "use a new token for a new request.",
            code="IdempotentParameterMismatch",
        )
    return None if row is None else row.resource_id
