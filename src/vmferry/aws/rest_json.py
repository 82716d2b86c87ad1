"""REST-JSON, driven by the model: a path, a query, headers and a body → a checked dict in the model's member names, and
back. What the model does not know is refused, never dropped; every bound, pattern and enum of the model holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from vmferry.aws.errors import ApiError
from vmferry.aws.model import Kind, Member, Operation, Service, Shape
from vmferry.aws.scalars import BITS, SCALARS, UNPRINTABLE
from vmferry.aws.signature import HttpRequest
from vmferry.errors import quote

JSON = "application/json"
BINARY = "application/octet-stream"
MAX_LIST = 1_000
_MAX_VALUE = 4096
"""Characters of a value in a path, a query or a header."""
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class InvalidMemberError(ApiError):
    """A member of a request is missing, or is not what the model allows."""

    def __init__(self, member: str, why: str) -> None:
        """``member`` is the name in the model of the one that stands in the request itself."""
        super().__init__("ValidationException", f"1 validation error detected: {why}")
        self.member = member


class Router:
    """Which operation of a service a method and a path mean. Immutable."""

    def __init__(self, service: Service) -> None:
        known = (service.operation(name) for name in sorted(service.operation_names))
        self._routes = [(_expression(operation.path), operation) for operation in known if operation is not None]

    def find(self, method: str, path: str) -> tuple[Operation, dict[str, str]] | None:
        """The operation and the parameters in ``path``, decoded; ``None`` where there is none."""
        for expression, operation in self._routes:
            if operation.method == method and (match := expression.fullmatch(path)):
                return operation, {name: unquote(value) for name, value in match.groupdict().items()}
        return None


def parse_request(operation: Operation, labels: Mapping[str, str], http: HttpRequest) -> dict[str, Any]:
    """What ``http`` asks of ``operation``; ``labels`` are the parameters in its path.

    Raises ``InvalidMemberError``, and ``ApiError`` for a body or a query that cannot be read at all.
    """
    shape = operation.input
    query = _query(http)
    known = {member.response_name for member in shape.members.values() if member.location == "querystring"}
    if unknown := sorted(query.keys() - known):
        raise ApiError("ValidationException", f"The parameter {quote(unknown[0])} is not recognized")
    found: dict[str, Any] = {}
    for member in shape.members.values():
        text = _text_of(member, labels, query, http)
        if text is not None:
            found[member.name] = _read(member.shape, text, member)
    found |= _body(shape, http)
    for name in shape.required:
        if name not in found:
            wire = shape.members[name].response_name
            raise InvalidMemberError(
                name, f"Value null at '{wire}' failed to satisfy constraint: Member must not be null"
            )
    return found


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """An answer in the parts of HTTP."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    media_type: str


def render_answer(operation: Operation, output: Mapping[str, Any]) -> RestAnswer:
    """``output`` as the answer to ``operation``; ``None`` and what is not there are left out.

    Raises ``ValueError`` or ``TypeError`` for an ``output`` that the model does not allow: that is a fault of ours.
    """
    assert operation.output is not None  # every operation of a REST service here has one
    shape = operation.output
    headers: dict[str, str] = {}
    rest: dict[str, Any] = {}
    for name, value in output.items():
        member = shape.members[name]
        if value is None:
            continue
        if member.location == "header":
            headers[member.response_name] = str(_plain(member.shape, value))
        else:
            rest[name] = value
    if shape.payload is not None:
        return RestAnswer(operation.status, headers, rest[shape.payload], BINARY)
    content = json.dumps(_plain(shape, rest), separators=(",", ":")).encode()
    return RestAnswer(operation.status, headers, content, JSON)


def _expression(path: str) -> re.Pattern[str]:
    parts = _PLACEHOLDER.split(path)  # literals and names in turn
    return re.compile("".join(f"(?P<{part}>[^/]+)" if i % 2 else re.escape(part) for i, part in enumerate(parts)))


def _query(http: HttpRequest) -> dict[str, str]:
    """The parameters of the query, but those of a presigned one's signature."""
    found: dict[str, str] = {}
    for key, value in parse_qsl(http.query, keep_blank_values=True):
        if key.lower().startswith("x-amz-"):
            continue
        if key in found:
            raise ApiError("ValidationException", f"The parameter {quote(key)} occurs more than once")
        found[key] = value
    return found


def _text_of(member: Member, labels: Mapping[str, str], query: Mapping[str, str], http: HttpRequest) -> str | None:
    match member.location:
        case "uri":
            return labels.get(member.response_name)
        case "querystring":
            return query.get(member.response_name)
        case "header":
            return http.header(member.response_name.lower())
    return None


def _read(shape: Shape, text: str, member: Member) -> Any:
    """A value that came as text."""
    if len(text) > _MAX_VALUE:
        raise _violation(member, shape, text, f"Member must have length less than or equal to {_MAX_VALUE}")
    value: Any = text
    if shape.kind is not Kind.STRING:
        read, expected = SCALARS[shape.kind]
        try:
            value = read(text)
        except (ValueError, OverflowError) as error:
            raise _violation(member, shape, text, f"Member must be {expected}") from error
    _check(shape, value, member)
    return value


def _body(shape: Shape, http: HttpRequest) -> dict[str, Any]:
    if shape.payload is not None:
        return {shape.payload: http.body} if http.body else {}
    members = {member.response_name: member for member in shape.members.values() if member.location is None}
    if not members:
        if http.body not in (b"", b"{}"):
            raise ApiError("ValidationException", "The operation takes no body")
        return {}
    given = _load(http.body)
    found: dict[str, Any] = {}
    for key, value in given.items():
        if key not in members:
            raise ApiError("ValidationException", f"The parameter {quote(key)} is not recognized")
        if value is not None:
            found[members[key].name] = _typed(members[key].shape, value, members[key])
    return found


def _load(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise ApiError("ValidationException", "The body is not JSON") from error
    if not isinstance(given, dict):
        raise ApiError("ValidationException", "The body is not a JSON object")
    return given


def _typed(shape: Shape, value: Any, member: Member) -> Any:
    """A value that came as JSON."""
    if shape.kind is Kind.LIST:
        return _typed_list(shape, value, member)
    if shape.kind is Kind.STRUCTURE:
        return _typed_structure(shape, value, member)
    right = isinstance(value, _JSON_TYPES[shape.kind]) and isinstance(value, bool) == (shape.kind is Kind.BOOLEAN)
    if not right:
        raise _violation(member, shape, value, f"Member must be of type {shape.kind}")
    _check(shape, value, member)
    return value


def _typed_list(shape: Shape, value: Any, member: Member) -> list[Any]:
    assert shape.element is not None  # every list of the model has one
    if not isinstance(value, list) or len(value) > MAX_LIST:
        raise _violation(member, shape, value, f"Member must be a list of at most {MAX_LIST:,} entries")
    return [_typed(shape.element, entry, member) for entry in value]


def _typed_structure(shape: Shape, value: Any, member: Member) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _violation(member, shape, value, "Member must be a structure")
    if unknown := sorted(value.keys() - shape.members.keys()):
        raise InvalidMemberError(member.name, f"The parameter {quote(unknown[0])} is not recognized")
    return {key: _typed(shape.members[key].shape, entry, member) for key, entry in value.items() if entry is not None}


def _check(shape: Shape, value: Any, member: Member) -> None:
    """Raise ``InvalidMemberError`` unless ``value`` obeys the bounds, the pattern and the enum of ``shape``."""
    for why in _violations(shape, value):
        raise _violation(member, shape, value, why)


def _violations(shape: Shape, value: Any) -> Iterator[str]:
    size, what = (len(value), "have length") if isinstance(value, str) else (value, "have value")
    if isinstance(value, bool):
        return
    if isinstance(value, str) and UNPRINTABLE.search(value):
        yield "Member must not hold control characters"
    if (bits := BITS.get(shape.kind)) and not -(1 << bits) <= value < 1 << bits:
        yield f"Member must be an integer of {bits + 1} bits"
    if shape.minimum is not None and size < shape.minimum:
        yield f"Member must {what} greater than or equal to {shape.minimum:.0f}"
    if shape.maximum is not None and size > shape.maximum:
        yield f"Member must {what} less than or equal to {shape.maximum:.0f}"
    if shape.enum and value not in shape.enum:
        yield f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"
    if shape.pattern is not None and not re.search(shape.pattern, value):
        yield f"Member must satisfy regular expression pattern: {shape.pattern}"


def _violation(member: Member, shape: Shape, value: object, why: str) -> InvalidMemberError:
    shown = "***" if shape.sensitive else quote(value)
    return InvalidMemberError(
        member.name, f"Value '{shown}' at '{member.response_name}' failed to satisfy constraint: {why}"
    )


_JSON_TYPES: Mapping[Kind, type | tuple[type, ...]] = {
    Kind.STRING: str,
    Kind.BOOLEAN: bool,
    Kind.INTEGER: int,
    Kind.LONG: int,
    Kind.FLOAT: (int, float),
    Kind.DOUBLE: (int, float),
    Kind.TIMESTAMP: (int, float),
}

_WRITERS: Mapping[Kind, tuple[type, Callable[[Any], Any]]] = {
    Kind.STRING: (str, str),
    Kind.BOOLEAN: (bool, bool),
    Kind.INTEGER: (int, int),
    Kind.LONG: (int, int),
    Kind.TIMESTAMP: (datetime, lambda moment: round(moment.timestamp(), 3)),
}
"""What an answer holds for each kind, and how JSON has it: times are seconds since 1970."""


def _plain(shape: Shape, value: Any) -> Any:
    """``value`` as JSON knows it."""
    if shape.kind is Kind.STRUCTURE:
        if unknown := value.keys() - shape.members.keys():
            raise ValueError(f"{shape.name} has no member {min(unknown)}")
        return {
            shape.members[key].response_name: _plain(shape.members[key].shape, entry)
            for key, entry in value.items()
            if entry is not None
        }
    if shape.kind is Kind.LIST:
        assert shape.element is not None  # every list of the model has one
        entries: Sequence[Any] = value
        return [_plain(shape.element, entry) for entry in entries]
    kind, write = _WRITERS[shape.kind]
    if not isinstance(value, kind) or isinstance(value, bool) != (shape.kind is Kind.BOOLEAN):
        raise TypeError(f"{shape.name} takes no {type(value).__name__}")
    return write(value)
