"""What was done to a guest: the record of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from vmferry.guest.linux.network_settings import KEEP

CHANGED = "changed"
"""What is said of all that is below a path, where it is not known which files it is."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What somebody chooses of how a guest is prepared."""

    addresses: str = KEEP
    """One of ``network_settings.CHOICES``."""
    firstboot: bytes = b""
    """A script that the guest runs when it starts for the first time."""


AS_IT_IS = Wishes()
"""Nothing was chosen."""


@dataclass(frozen=True, slots=True)
class Change:
    """One file that was changed or added. Texts of the guest's own are quoted."""

    path: str
    """In the guest."""
    what: str
    """``replaced`` or ``added``; or ``CHANGED``."""
    before: int | None
    """Bytes of the old file."""
    after: int
    """Bytes of the new one; of ``CHANGED``, of the disk that are others now."""
    why: str
    kept_as: str | None = None
    """The old file's name now, beside the new one."""


@dataclass(slots=True)
class Preparation:
    """What was done to a guest."""

    system: str = ""
    """What it calls itself."""
    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was not done, and why; a sentence each."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
