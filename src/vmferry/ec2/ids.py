"""Ids of resources: made, and checked for their shape before anybody looks for them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vmferry.aws.ids import new_id
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.resources import kind_named
from vmferry.errors import quote

__all__ = ["check_id", "check_ids", "new_id"]

_TAIL = re.compile("[0-9a-z]{8,17}", re.ASCII)
"""Old ids have 8 characters, and those of tasks letters beyond f."""


def check_id(value: str, *prefixes: str) -> str:
    """``value`` itself, when it is one of ``prefixes`` with 8 to 17 of ``[0-9a-z]``.

    Raises ``Ec2Error`` with the ``….Malformed`` code of the first prefix.
    """
    head, hyphen, tail = value.rpartition("-")
    if head + hyphen in prefixes and _TAIL.fullmatch(tail):
        return value
    expected = " or ".join(f'"{prefix}..."' for prefix in prefixes)
    raise Ec2Error(kind_named(prefixes[0]).malformed, f'Invalid id: "{quote(value)}" (expecting {expected})')


def check_ids(values: Iterable[str], *prefixes: str) -> list[str]:
    """``check_id`` for each, each id once, in order; the first bad one is named."""
    return list(dict.fromkeys(check_id(value, *prefixes) for value in values))
