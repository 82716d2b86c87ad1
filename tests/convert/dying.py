"""A process that dies before any of its operations on files, or the machine with it, and what is left behind then."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

_PAGE = 4096
_OPERATIONS = ("pwrite", "ftruncate", "fsync", "fdatasync", "replace", "unlink")


class Killed(BaseException):
    """The process is no more: whatever it tries to do from now on raises this again."""


class Platter:
    """What was made durable of each file, and whose name."""

    def __init__(self) -> None:
        self._durable: dict[Path, bytes] = {}
        self._named: set[Path] = set()

    def keep(self, fd: int) -> None:
        """The file of ``fd`` is durable as it is, or the names in the directory."""
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.is_file():
            self._durable[path] = path.read_bytes()
        else:
            self._named.update(path.iterdir())

    def cut_power(self, folder: Path, chance: random.Random) -> None:
        """Let of each file of ``folder`` what was made durable stay, and of the rest what chance likes."""
        for path in sorted(folder.iterdir()):
            if path not in self._named and chance.random() < 0.25:
                path.unlink()
                self._durable.pop(path, None)
                continue
            now = path.read_bytes()
            before = self._durable.get(path)
            if before is None:
                if chance.random() < 0.5:
                    os.truncate(path, 0)
                continue
            length = chance.choice([len(before), len(now)])
            pages = [chance.choice([before, now])[at : at + _PAGE] for at in range(0, length, _PAGE)]
            content = b"".join(page.ljust(_PAGE, b"\0") for page in pages)[:length]
            with path.open("r+b") as file:  # it stays the same inode
                file.write(content)
                file.truncate()
            self._durable[path] = content


class Mortal:
    """Counts operations, of any thread, and dies before number ``dies_at``; of a write half is done by then."""

    def __init__(self, platter: Platter, dies_at: int | None = None) -> None:
        self._platter = platter
        self._dies_at = dies_at
        self._lock = threading.Lock()
        self.count = 0

    def step(self, torn: Callable[[], object] = lambda: None) -> None:
        """One operation more; ``torn`` does a part of it."""
        with self._lock:
            self.count += 1
            if self.count == self._dies_at:
                torn()
            if self._dies_at is not None and self.count >= self._dies_at:
                raise Killed

    @contextmanager
    def living(self) -> Iterator[None]:
        """While this lasts, the operations of this process are counted."""
        real = {name: getattr(os, name) for name in _OPERATIONS}

        def wrap(name: str) -> Callable[..., Any]:
            def call(*arguments: Any, **keywords: Any) -> Any:
                self.step(lambda: _tear(real, name, arguments))
                if name in ("fsync", "fdatasync"):
                    return self._platter.keep(arguments[0])
                return real[name](*arguments, **keywords)

            return call

        with ExitStack() as patches:
            for name in _OPERATIONS:
                patches.enter_context(patch.object(os, name, wrap(name)))
            yield


def _tear(real: dict[str, Callable[..., Any]], name: str, arguments: tuple[Any, ...]) -> None:
    if name == "pwrite":
        fd, data, offset = arguments
        real["pwrite"](fd, memoryview(data)[: len(data) // 2], offset)
