"""How many snapshots are being copied now."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from vmferry.catalog.places import Place
from vmferry.ec2.errors import Ec2Error


class CopyCounter:
    """The copies under way into each account's region. Thread-safe.

    Of this process alone: a copy lasts as long as its request, and dies with it. One server has a data directory.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: Counter[Place] = Counter()

    @contextmanager
    def one_more(self, place: Place, most: int) -> Iterator[None]:
        """Count a copy into ``place`` until the block ends. Raises ``Ec2Error`` where ``most`` are under way."""
        with self._lock:
            if self._under_way[place] >= most:
                raise Ec2Error(
                    "ResourceLimitExceeded",
                    f"Too many snapshot copies in progress. The limit is {most} for this destination region.",
                )
            self._under_way[place] += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way[place] -= 1
