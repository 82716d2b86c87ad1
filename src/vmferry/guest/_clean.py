"""Facts as they may leave the search for them: no text in them that a terminal or a log would obey."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TypeVar, cast

from vmferry.errors import escape

T = TypeVar("T")

_MAX_TEXT = 4096
"""Characters of one fact: a kernel takes no longer command line."""


def clean(value: T) -> T:
    """``value`` without control characters, lone surrogates and texts beyond all measure, as deep as it goes."""
    return cast("T", _clean(value))


def _clean(value: object) -> object:
    if isinstance(value, str):
        return escape(value[:_MAX_TEXT])
    if isinstance(value, tuple):
        return tuple(_clean(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{item.name: _clean(getattr(value, item.name)) for item in fields(value)})
    return value
