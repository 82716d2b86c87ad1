"""The availability zones of a region. There is one: an installation stands in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Zone:
    """``us-east-1a`` with the id ``use1-az1``."""

    name: str
    id: str
    region: str


def zones_of(region: str) -> tuple[Zone, ...]:
    """The zones of ``region``, in order; the first is where things go that name none."""
    return (Zone(f"{region}a", f"{_short(region)}-az1", region),)


def _short(region: str) -> str:
    """``us-east-1`` → ``use1``, ``ap-southeast-2`` → ``apse2``; a name of another form stays as it is."""
    parts = re.fullmatch(r"([a-z]{2})-(north|south)?(east|west|central)?-?([0-9])", region)
    if parts is None:
        return region
    return parts[1] + "".join(word[0] for word in parts.groups()[1:3] if word) + parts[4]
