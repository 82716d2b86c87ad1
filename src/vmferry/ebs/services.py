"""What an operation may use. Made once, by the composition root; everything in it is thread-safe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from vmferry.catalog import Catalog
from vmferry.ebs.snapshots import OpenDisks
from vmferry.ebs.tokens import TokenKey
from vmferry.quotas import Quotas
from vmferry.stores.local import LocalStore


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Services:
    """The server behind the operations."""

    catalog: Catalog
    images: LocalStore
    """The disk images behind snapshots."""
    token_key: TokenKey
    wake: Callable[[], None]
    """To be called when a snapshot is to be completed: the dispatcher looks at once."""
    quotas: Quotas
    """How much may be asked."""
    clock: Callable[[], datetime] = _now
    disks: OpenDisks = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "disks", OpenDisks(self.images))
