"""Facts as they may leave the search for them: no text that a terminal or a log would obey, and no endless list."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from vmferry.errors import escape
from vmferry.guest.linux.facts import LinuxFacts
from vmferry.guest.windows.facts import WindowsFacts
from vmferry.limits import MAX_GUEST_FACTS

T = TypeVar("T", LinuxFacts, WindowsFacts)

_MAX_TEXT = 4096
"""Characters of one fact: a kernel takes no longer command line."""
_OVERHEAD = 8
"""Characters that an empty text costs."""


def clean(facts: T) -> T:
    """``facts`` without control characters, lone surrogates and texts beyond all measure, as deep as they go; lists
    end where ``MAX_GUEST_FACTS`` do, and that of the problems by itself."""
    cleaned: T = _Cleaner().clean(facts)
    problems: tuple[str, ...] = _Cleaner().clean(facts.problems)
    return replace(cleaned, problems=problems)


class _Cleaner:
    """Counts the characters that are left."""

    def __init__(self) -> None:
        self._left = MAX_GUEST_FACTS

    def clean(self, value: Any) -> Any:
        if isinstance(value, str):
            text = escape(value[:_MAX_TEXT])[: max(self._left, 0)]
            self._left -= len(text) + _OVERHEAD
            return text
        if isinstance(value, tuple):
            return tuple(self.clean(item) for item in value if self._left > 0)
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{item.name: self.clean(getattr(value, item.name)) for item in fields(value)})
        return value
