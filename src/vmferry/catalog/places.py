"""Where in the catalog something belongs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A region and an account in it: the namespace of every id, name and tag."""

    region: str
    account_id: str
