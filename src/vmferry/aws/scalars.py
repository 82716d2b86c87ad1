"""Single values as text, the same in every protocol: parameters of a query, parts of a path, headers."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from vmferry.aws.model import Kind

BITS = {Kind.INTEGER: 31, Kind.LONG: 63}
"""Of the value of each kind of integer, besides its sign."""

UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""What XML cannot carry (and a database may not): no text of a request may hold it."""
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", re.ASCII)


def _boolean(text: str) -> bool:
    """AWS's clients write ``true``; people write ``True``."""
    if (lower := text.lower()) not in {"true", "false"}:
        raise ValueError(text)
    return lower == "true"


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _float(text: str) -> float:
    if not _NUMBER.fullmatch(text) or not math.isfinite(value := float(text)):
        raise ValueError(text)
    return value


def _timestamp(text: str) -> datetime:
    """ISO 8601 with a date at least; without an offset it is UTC."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _blob(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error as error:
        raise ValueError(text) from error


SCALARS: Mapping[Kind, tuple[Callable[[str], Any], str]] = {
    Kind.BOOLEAN: (_boolean, "true or false"),
    Kind.INTEGER: (_integer, "an integer"),
    Kind.LONG: (_integer, "an integer"),
    Kind.FLOAT: (_float, "a number"),
    Kind.DOUBLE: (_float, "a number"),
    Kind.TIMESTAMP: (_timestamp, "a time such as 2026-11-23T10:00:00Z"),
    Kind.BLOB: (_blob, "base64"),
}
"""How the text of each kind is read (``ValueError``, ``OverflowError`` for what is none), and what was expected."""
