"""NOUN Hive: a registry file of Windows, read by ranges; its keys, and their values by name.

The reader is our own: libregf reads the head of every bin when it opens a hive, a few bytes in every 4 KiB of a
SOFTWARE of 200 MB, and through a disk image that is all of it; and of values shorter than four bytes it takes the wrong
ones. This one reads the cells on the way to a key, some tens of KiB, and counts them. libregf and hivex are its judges
in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from vmferry.errors import GuestError, quote
from vmferry.guest.windows._cells import Cells, KeyCell, ReadAt, SubkeyEntry, ValueCell, name_hash
from vmferry.units import format_size

T = TypeVar("T")

_SZ, _EXPAND_SZ, _DWORD, _DWORD_BE, _MULTI_SZ, _QWORD = 1, 2, 4, 5, 7, 11
_TEXTS = (_SZ, _EXPAND_SZ, _MULTI_SZ)
_MAX_NAMES = 4096
"""Subkeys of one key that are listed; what has more is asked for them by name."""
_MAX_TEXTS = 1024
"""Texts of a REG_MULTI_SZ."""


class Hive:
    """One hive, read only, for one thread. Asking it never raises: what is damaged is a sentence to ``report``, once
    or more, and is missing; so is all that lies beyond ``MAX_HIVE_READ`` bytes and ``MAX_HIVE_CELLS`` cells."""

    def __init__(self, read_at: ReadAt, size: int, name: str, report: Callable[[str], None]) -> None:
        """``size`` in bytes; ``name`` is how sentences call it: its path in the guest."""
        self._report = report
        self._cells = self.ask(lambda: Cells(read_at, size, name), None)
        self.dirty = False
        """Whether its last write was not finished: newer values may lie in its logs."""
        if self._cells is not None:
            base = self._cells.base
            self.dirty = base.begun != base.ended
            if not base.sound:
                report(f"{quote(name)} has a wrong checksum: it may be damaged or not be written out.")
            if self._cells.cut_short:
                report(f"{quote(name)} ends early: it has {format_size(size)} and claims {format_size(base.length)}.")

    @property
    def root(self) -> Key:
        """The key that every path begins at."""
        cells = self._cells
        return Key(self, cells, self.ask(lambda: cells.key(cells.base.root), None) if cells is not None else None)

    def ask(self, question: Callable[[], T], otherwise: T) -> T:
        """What ``question`` answers, or ``otherwise`` and a sentence where the hive is damaged there."""
        try:
            return question()
        except GuestError as error:
            self._report(str(error))
            return otherwise


class Key:
    """One key of a hive, or one that is missing: that one is empty, so that whoever asks need not look first.

    Names are compared without case, as Windows does. For one thread.
    """

    def __init__(self, hive: Hive, cells: Cells | None, cell: KeyCell | None) -> None:
        self._hive = hive
        self._cells = cells
        self._cell = cell
        self._entries: list[SubkeyEntry] | None = None
        self._values: dict[str, ValueCell] | None = None

    @property
    def exists(self) -> bool:
        return self._cell is not None

    @property
    def name(self) -> str:
        """As it is spelled; ``""`` where it is missing."""
        return self._cell.name if self._cell is not None else ""

    def key(self, path: str) -> Key:
        """The key at ``path`` below this one: ``Control\\Terminal Server``."""
        key = self
        for name in path.split("\\"):
            key = key._subkey(name)
        return key

    def below(self) -> Iterator[Key]:
        """The keys right below, at most 4096."""
        for entry in self._subkeys()[:_MAX_NAMES]:
            if self._cells is None or self._cells.exhausted:
                return
            key = self._read(entry)
            if key.exists:
                yield key

    def names(self) -> list[str]:
        """The names of ``below``."""
        return [key.name for key in self.below()]

    def value_names(self) -> list[str]:
        """Names of its values, upper case."""
        return list(self._all_values())

    def data(self, name: str) -> bytes | None:
        """What the value ``name`` holds, of whatever type, at most 64 KiB of it; ``None`` where there is none.
        ``""`` is the default value."""
        value = self._all_values().get(name.upper())
        cells = self._cells
        return None if value is None or cells is None else self._hive.ask(lambda: cells.data(value), None)

    def number(self, name: str) -> int | None:
        """A REG_DWORD or REG_QWORD; ``None`` for every other type."""
        kind, data = self._typed(name)
        if kind == _QWORD and len(data) >= 8:
            return int.from_bytes(data[:8], "little")
        if kind in (_DWORD, _DWORD_BE) and len(data) >= 4:
            return int.from_bytes(data[:4], "big" if kind == _DWORD_BE else "little")
        return None

    def text(self, name: str) -> str | None:
        """A REG_SZ or REG_EXPAND_SZ, nothing in it replaced; of a REG_MULTI_SZ the first."""
        kind, data = self._typed(name)
        return data.decode("utf-16-le", "replace").split("\0", 1)[0] if kind in _TEXTS else None

    def texts(self, name: str) -> tuple[str, ...]:
        """A REG_MULTI_SZ, without those that are empty, at most 1024; a REG_SZ as the only one."""
        kind, data = self._typed(name)
        if kind not in _TEXTS:
            return ()
        found = data.decode("utf-16-le", "replace").split("\0", _MAX_TEXTS)[:_MAX_TEXTS]
        return tuple(text for text in (found if kind == _MULTI_SZ else found[:1]) if text)

    def flag(self, name: str) -> bool | None:
        """Whether a number, or a text of digits, is not 0; ``None`` where it is neither."""
        number = self.number(name)
        text = (self.text(name) or "").strip()
        if number is None and text.isdecimal() and len(text) <= 10:
            number = int(text)
        return None if number is None else number != 0

    def _typed(self, name: str) -> tuple[int, bytes]:
        """Type and data of a value; type 0 where it is missing."""
        data = self.data(name)
        return (0, b"") if data is None else (self._all_values()[name.upper()].kind, data)

    def _subkey(self, name: str) -> Key:
        wanted = name.upper()
        first, whole = wanted[:4], name_hash(wanted).to_bytes(4, "little")
        for entry in self._subkeys():
            if self._cells is None or self._cells.exhausted:
                break
            if (entry.hint == whole) if entry.hashed else _may_begin(entry.hint, first):
                key = self._read(entry)
                if key.name.upper() == wanted:
                    return key
        return Key(self._hive, self._cells, None)

    def _read(self, entry: SubkeyEntry) -> Key:
        cells = self._cells
        return Key(self._hive, cells, self._hive.ask(lambda: cells.key(entry.place), None) if cells else None)

    def _subkeys(self) -> list[SubkeyEntry]:
        if self._entries is None:
            cells, cell = self._cells, self._cell
            self._entries = self._collect(lambda: cells.subkeys(cell) if cells and cell else iter(()))
        return self._entries

    def _all_values(self) -> dict[str, ValueCell]:
        if self._values is None:
            cells, cell = self._cells, self._cell
            found = self._collect(lambda: cells.values(cell) if cells and cell else iter(()))
            self._values = {value.name.upper(): value for value in found}
        return self._values

    def _collect(self, source: Callable[[], Iterator[T]]) -> list[T]:
        """All that ``source`` gives until it fails."""
        found: list[T] = []
        self._hive.ask(lambda: found.extend(source()), None)
        return found


def _may_begin(hint: bytes, first: str) -> bool:
    """Whether a name of which a list says ``hint`` may begin with ``first``, in capitals."""
    shown = hint.rstrip(b"\0")
    return not shown.isascii() or not shown or shown.decode("ascii").upper() == first
