"""Facts as JSON and back, checked: they come out of a child process that a stranger's file may have taken over."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_json(facts: Any) -> dict[str, Any]:
    """``facts`` as what ``json.dumps`` takes."""
    return asdict(facts)


def from_json(kind: type[T], data: Any) -> T:
    """What ``to_json`` made; unknown keys are left out. ``ValueError`` for what is no such thing: the child process may
    have been taken over by what it read."""
    try:
        value: T = _value(kind, data)
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"these are no {kind.__name__}: {error}") from error
    return value


_TOO_LARGE = 1 << 128
"""The product of two numbers of 64 bits is below; it can be divided and printed."""
_hints = cache(get_type_hints)


def _value(kind: Any, data: Any) -> Any:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        if data is None and NoneType in get_args(kind):
            return None
        return _value(next(arg for arg in get_args(kind) if arg is not NoneType), data)
    if origin is tuple:
        if not isinstance(data, list | tuple):
            raise TypeError(f"a list is missing, {type(data).__name__} is there")
        return tuple(_value(get_args(kind)[0], item) for item in data)
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(data, dict):
            raise TypeError(f"an object is missing, {type(data).__name__} is there")
        hints = _hints(kind)
        return kind(
            **{item.name: _value(hints[item.name], data[item.name]) for item in fields(kind) if item.name in data}
        )
    if type(data) is int and abs(data) >= _TOO_LARGE:
        raise OverflowError("a number is larger than any that a file system counts")
    if kind is float and type(data) is int:
        return float(data)
    if type(data) is not kind:
        raise TypeError(f"{kind.__name__} is missing, {type(data).__name__} is there")
    return data
