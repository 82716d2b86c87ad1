"""What both List operations have in common: where a page begins, how long it is, and what is said around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vmferry.ebs.services import Services
from vmferry.ebs.tokens import BLOCK_TOKEN_LIFE
from vmferry.snapshot_blocks import EBS_BLOCK_SIZE
from vmferry.units import to_gib

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a listing, as it was asked for."""

    services: Services
    name: str
    """What is listed: page tokens of other listings are not good here."""
    start: int
    """The first block to look at."""
    most: int
    now: datetime

    @property
    def ends_at(self) -> datetime:
        """Until when the block tokens of this page are good."""
        return self.now.replace(microsecond=0) + BLOCK_TOKEN_LIFE

    def token(self, snapshot_id: str, index: int) -> str:
        """The token of a block."""
        return self.services.token_key.block_token(snapshot_id, index, self.ends_at)

    def answer(self, size: int, following: int | None) -> dict[str, Any]:
        """What is said around the blocks of a volume of ``size`` bytes; another page begins at ``following``."""
        key = self.services.token_key
        return {
            "ExpiryTime": self.ends_at,
            "VolumeSize": to_gib(size),
            "BlockSize": EBS_BLOCK_SIZE,
            "NextToken": None if following is None else key.page_token(self.name, following, self.now),
        }


def begin_listing(services: Services, name: str, request: Mapping[str, Any]) -> Listing:
    """The page that ``request`` asks for; a token goes before ``StartingBlockIndex``. Raises ``EbsError``."""
    now = services.clock()
    start = int(request.get("StartingBlockIndex", 0))
    if (token := request.get("NextToken")) is not None:
        start = services.token_key.read_page_token(token, name, now)
    return Listing(services, name, start, int(request.get("MaxResults", _MOST)), now)
