"""What the model says of a request's values: lengths, patterns, lists. IAM's sentence for what does not fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from vmferry.aws.errors import ApiError
from vmferry.aws.model import Kind, Shape
from vmferry.errors import quote


def validate(shape: Shape, request: Mapping[str, Any]) -> None:
    """Raise ``ApiError`` (``ValidationError``) naming everything in ``request`` that its shape does not allow."""
    faults = [fault for name, value in request.items() for fault in _faults(shape.members[name].shape, value, name)]
    if faults:
        noun = "error" if len(faults) == 1 else "errors"
        raise ApiError("ValidationError", f"{len(faults)} validation {noun} detected: {'; '.join(faults)}")


def _faults(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if shape.kind is Kind.LIST and shape.element is not None:
        for number, entry in enumerate(value, 1):
            yield from _faults(shape.element, entry, f"{path}.{number}.member")
    elif shape.kind is Kind.STRUCTURE:
        for name, entry in value.items():
            yield from _faults(shape.members[name].shape, entry, f"{path}.{name}")
    elif shape.kind is Kind.STRING and (rule := _broken_rule(shape, value)) is not None:
        where = path[:1].lower() + path[1:]
        yield f"Value '{quote(value)}' at '{where}' failed to satisfy constraint: Member must {rule}"


def _broken_rule(shape: Shape, value: str) -> str | None:
    if shape.minimum is not None and len(value) < shape.minimum:
        return f"have length greater than or equal to {shape.minimum:.0f}"
    if shape.maximum is not None and len(value) > shape.maximum:
        return f"have length less than or equal to {shape.maximum:.0f}"
    if shape.enum and value not in shape.enum:
        return f"satisfy enum value set: [{', '.join(shape.enum)}]"
    if shape.pattern is not None and not _expression(shape.pattern).fullmatch(value):
        return f"satisfy regular expression pattern: {shape.pattern}"
    return None


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    """A pattern of the model, which is Java's: its letters, digits and spaces are Python's ``\\w`` and ``\\s``."""
    translated = pattern.replace(r"\p{L}", r"\w").replace(r"\p{N}", r"\w").replace(r"\p{Z}", r"\s")
    return re.compile(translated, re.ASCII if translated == pattern else re.UNICODE)
