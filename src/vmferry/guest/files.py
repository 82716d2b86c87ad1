"""The files of a guest as the search for facts wants them: what is damaged or odd is a sentence, never an error."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from itertools import islice
from typing import TypeVar

from vmferry.errors import GuestError, quote
from vmferry.guest.tree import Tree
from vmferry.limits import (
    MAX_GUEST_FILE,
    MAX_GUEST_LINES,
    MAX_GUEST_NAMES_SEEN,
    MAX_GUEST_PROBLEMS,
    MAX_GUEST_TEXT,
)
from vmferry.units import format_size

T = TypeVar("T")

_MAX_LINE = 8192
"""Characters of a line that are looked at: a kernel takes a command line of 4096 at the most."""
_MAX_MATCHES = 256
"""Paths that one pattern gives: no folder of settings has as many files."""
_WILD = re.compile(r"[*?\[]")
_SETTING = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*(.*)")


class Files:
    """A ``Tree`` whose answers are empty where it fails, and the sentences that say why. For one thread."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._problems: dict[str, None] = {}
        self._text_left = MAX_GUEST_TEXT
        self._names_left = MAX_GUEST_NAMES_SEEN

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read, each once, at most ``MAX_GUEST_PROBLEMS``."""
        return tuple(self._problems)

    def report(self, problem: str) -> None:
        """Keep a sentence that says which file is odd, and how; whatever is the guest's own in it is quoted."""
        if len(self._problems) < MAX_GUEST_PROBLEMS:
            self._problems[problem] = None

    def find(self, path: str) -> str | None:
        """See ``Tree.find``."""
        return self._ask(lambda: self.tree.find(path), otherwise=None)

    def link(self, path: str) -> str | None:
        """See ``Tree.link``."""
        return self._ask(lambda: self.tree.link(path), otherwise=None)

    def exists(self, path: str) -> bool:
        """Whether anything is at ``path``, links followed."""
        return self.find(path) is not None

    def is_file(self, path: str) -> bool:
        """See ``Tree.is_file``."""
        return self._ask(lambda: self.tree.is_file(path), otherwise=False)

    def is_folder(self, path: str) -> bool:
        """See ``Tree.is_folder``."""
        return self._ask(lambda: self.tree.is_folder(path), otherwise=False)

    def size(self, path: str) -> int | None:
        """See ``Tree.size``."""
        return self._ask(lambda: self.tree.size(path), otherwise=None)

    def names(self, path: str) -> list[str]:
        """See ``Tree.names``; none any more once ``MAX_GUEST_NAMES_SEEN`` were seen."""
        none: list[str] = []
        found = self._ask(lambda: self.tree.names(path), otherwise=none)
        self._names_left -= len(found)
        if self._names_left < 0:
            self.report(f"The system has more than {MAX_GUEST_NAMES_SEEN:,} files where few are looked for.")
            return none
        return found

    def glob(self, *patterns: str) -> list[str]:
        """The paths that ``patterns`` match, each pattern's in turn, sorted, at most 256 each. See ``Tree.glob``."""
        return [path for pattern in patterns for path in self._glob(pattern)]

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        """See ``Tree.read_at``; nothing where it fails."""
        return self._ask(lambda: self.tree.read_at(path, offset, length), otherwise=b"")

    def lines(self, path: str) -> list[str]:
        """The lines of a text file, stripped, at most ``MAX_GUEST_LINES``; none where there is no such file.

        What is longer than a setting may be is cut. Control characters are left in.
        """
        return [line.strip() for line in self.lines_as_they_are(path)]

    def lines_as_they_are(self, path: str) -> list[str]:
        """``lines`` with the blanks around them."""
        size = self.size(path) or 0
        if size > self._text_left:
            self.report(f"{quote(path)} was not read: the settings read before have {format_size(MAX_GUEST_TEXT)}.")
            return [""]
        text = self._ask(lambda: self.tree.read_text(path, MAX_GUEST_FILE), otherwise=None)
        self._text_left -= size if text is not None else 0
        lines = (text or "").split("\n", MAX_GUEST_LINES)
        if len(lines) > MAX_GUEST_LINES:
            self.report(f"{quote(path)} has more than {MAX_GUEST_LINES} lines: the rest was not looked at.")
            lines.pop()
        return [line[:_MAX_LINE] for line in lines]

    def settings(self, path: str) -> dict[str, str]:
        """The settings of a file that a shell could read: ``NAME="value"``, the last of each name."""
        return read_settings(self.lines(path))

    def _glob(self, pattern: str) -> list[str]:
        """As ``Tree.glob``, which has no bound on the folders that it goes through."""
        found = [""]
        for part in pattern.strip("/").split("/"):
            if _WILD.search(part):
                names = ((folder, name) for folder in found for name in self.names(folder or "/"))
                shown = (f"{folder}/{name}" for folder, name in names if name[:1] != "." and fnmatchcase(name, part))
                found = list(islice(shown, _MAX_MATCHES))
            else:
                found = [f"{folder}/{part}" for folder in found]
        return [path for path in found if self.exists(path)]

    def _ask(self, question: Callable[[], T], *, otherwise: T) -> T:
        try:
            return question()
        except GuestError as error:
            self.report(str(error))
            return otherwise


def read_settings(lines: list[str]) -> dict[str, str]:
    """``NAME=value`` lines, with or without quotes; whatever else there is, is left out."""
    found = {}
    for line in lines:
        match = _SETTING.fullmatch(line.strip())
        if match:
            found[match[1]] = unquote(match[2])
    return found


def unquote(value: str) -> str:
    """``value`` without the quotes around it, or without a comment behind it."""
    if value[:1] in ("'", '"'):
        end = value.find(value[0], 1)
        return value[1:end] if end > 0 else value[1:]
    return value.split(" #", 1)[0].strip()
