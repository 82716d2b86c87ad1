"""Things that cost something to open, kept open for whoever wants them next."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class SupportsClose(Protocol):
    """What can be closed."""

    def close(self) -> None: ...


T = TypeVar("T", bound=SupportsClose)


class Keep(Generic[T]):
    """Open things by key, the least recently used closed first. Thread-safe; what is long in opening keeps only those
    waiting who want the same."""

    def __init__(self, most: int, rest: Callable[[T], None] = lambda _: None) -> None:
        """Up to ``most`` stay open that nobody uses; ``rest`` is told of each that nobody uses any more."""
        self._most = most
        self._rest = rest
        self._lock = threading.Lock()
        self._opened = threading.Condition(self._lock)
        self._opening: set[str] = set()
        self._open: OrderedDict[str, T] = OrderedDict()
        self._users: dict[int, int] = {}

    @contextmanager
    def borrow(self, key: str, open_new: Callable[[], T]) -> Iterator[T]:
        """What stands under ``key``, or ``open_new`` opens; it stays open at least until the block ends."""
        thing = self._take(key, open_new)
        try:
            yield thing
        finally:
            self._give_back(thing)

    def forget(self, key: str) -> None:
        """Close what stands under ``key``, once nobody uses it."""
        with self._lock:
            thing = self._open.pop(key, None)
            if thing is not None and not self._users.get(id(thing)):
                self._users.pop(id(thing), None)
                thing.close()

    def held(self) -> list[str]:
        """The keys of what is open."""
        with self._lock:
            return list(self._open)

    def _take(self, key: str, open_new: Callable[[], T]) -> T:
        with self._opened:
            self._opened.wait_for(lambda: key not in self._opening)
            thing = self._open.get(key)
            if thing is not None:
                return self._use(key, thing)
            self._opening.add(key)
        try:
            thing = open_new()
        finally:
            with self._opened:
                self._opening.remove(key)
                if thing is not None:
                    self._use(key, thing)
                self._opened.notify_all()
        return thing

    def _use(self, key: str, thing: T) -> T:
        self._open[key] = thing
        self._open.move_to_end(key)
        self._users[id(thing)] = self._users.get(id(thing), 0) + 1
        return thing

    def _give_back(self, thing: T) -> None:
        with self._lock:
            self._users[id(thing)] -= 1
            if self._users[id(thing)]:
                return
            self._rest(thing)
            if not any(kept is thing for kept in self._open.values()):  # forgotten meanwhile
                del self._users[id(thing)]
                thing.close()
            self._close_unused()

    def _close_unused(self) -> None:
        for key, thing in list(self._open.items()):
            if len(self._open) <= self._most:
                return
            if not self._users.get(id(thing)):
                del self._open[key]
                self._users.pop(id(thing), None)
                thing.close()
