"""The Query protocol and EC2's dialect of it, read by the model: a form → a dict in the model's member names, checked.

Keys are paths: ``DiskContainer.1.UserBucket.S3Bucket``. Lists are always flat (in the plain protocol ``X.member.1``)
and ordered by their numbers; gaps, ``X.0`` and a plain ``X`` are tolerated. What the model does not know is refused,
never dropped. An empty value of anything but a free string counts as absent. Enums are not checked here: the action
says what it takes.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl

from vmferry.aws.errors import ApiError
from vmferry.aws.model import Kind, Member, Shape
from vmferry.aws.scalars import BITS, SCALARS, UNPRINTABLE
from vmferry.aws.signature import HttpRequest
from vmferry.errors import quote

MAX_PARAMETERS = 10_000
MAX_KEY_LENGTH = 512
MAX_DEPTH = 16
MAX_LIST = 1_000

_FORM = "application/x-www-form-urlencoded"

_ENVELOPE = frozenset({"Action", "Version", "AWSAccessKeyId", "Signature", "SignatureMethod", "SignatureVersion"})
"""Parameters of the protocol, which no action sees; ``X-Amz-…`` besides."""
_WORDS = frozenset({"Architecture", "BootMode", "Hypervisor", "LicenseType", "Platform", "RoleName", "UsageOperation"})
"""Enums that the model has as plain strings. Packer sends ``Platform=`` and means none."""


def read_form(http: HttpRequest) -> dict[str, str]:
    """The parameters, from the query and from the body, whichever form the client chose. Raises ``ApiError``."""
    if http.method not in ("GET", "POST"):
        raise ApiError(
            "UnsupportedProtocol", f"The method {quote(http.method)} is not supported; use POST or GET.", 405
        )
    kind = (http.header("content-type") or _FORM).partition(";")[0].strip().lower()
    if http.body and kind != _FORM:
        raise ApiError("MalformedQueryString", f"The content type {quote(kind)} is not supported; send {_FORM}.", 415)
    return parse_form(http.query.encode("latin-1"), http.body)


def parse_form(*sources: bytes) -> dict[str, str]:
    """The parameters of a body and a query string, percent-decoded, UTF-8; a key may occur once in all.

    Raises ``ApiError``: ``MalformedQueryString``, ``InvalidCharacter``.
    """
    form: dict[str, str] = {}
    for source in sources:
        for key, value in _pairs(source):
            if len(key) > MAX_KEY_LENGTH:
                raise ApiError("MalformedQueryString", f"A parameter's name is longer than {MAX_KEY_LENGTH} characters")
            if key in form:
                raise ApiError("MalformedQueryString", f"The parameter {quote(key)} occurs more than once")
            if UNPRINTABLE.search(value):
                raise ApiError("InvalidCharacter", f"The value of {quote(key)} has a character that XML cannot carry")
            form[key] = value
    return form


def _pairs(source: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(source.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except UnicodeDecodeError as error:
        raise ApiError("MalformedQueryString", "The query string is not UTF-8") from error
    except ValueError as error:
        raise ApiError("MalformedQueryString", f"The query string has over {MAX_PARAMETERS:,} parameters") from error


def parse_request(shape: Shape, form: Mapping[str, str], optional: Collection[str] = ()) -> dict[str, Any]:
    """What ``form`` asks, as ``shape`` (an operation's input) names it: str, bool, int, float, aware datetimes, bytes.
    Of its members those that are ``optional`` may be missing, whatever the model says.

    Raises ``ApiError``: ``UnknownParameter``, ``MissingParameter``, ``InvalidParameterValue``,
    ``MalformedQueryString``; the parameter is named as it stood in the request.
    """
    root = _Node()
    for key, value in form.items():
        if key not in _ENVELOPE and not key.lower().startswith("x-amz-"):
            root.insert(key, value)
    if optional:
        shape = replace(shape, required=tuple(name for name in shape.required if name not in optional))
    return _structure(shape, root, "")


@dataclass(slots=True)
class _Node:
    """A place in the tree of keys: the value given to it, and what lies below it."""

    value: str | None = None
    children: dict[str, _Node] = field(default_factory=dict)

    def insert(self, key: str, value: str) -> None:
        parts = key.split(".")
        if len(parts) > MAX_DEPTH:
            raise ApiError("MalformedQueryString", f"The parameter {quote(key)} is deeper than {MAX_DEPTH} levels")
        node = self
        for part in parts:
            node = node.children.setdefault(part, _Node())
        node.value = value


def _structure(shape: Shape, node: _Node, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, child in node.children.items():
        member = shape.requested.get(key)
        if member is None:
            raise _unknown(path + key, key, shape.requested)
        value = _value(member.shape, child, path + key)
        if value is not None and not (value == "" and key in _WORDS):
            found[member.name] = value
    for name in shape.required:
        if name not in found:
            wire = shape.members[name].request_name
            raise ApiError("MissingParameter", f"The request must contain the parameter {quote(path + wire)}")
    return found


def _value(shape: Shape, node: _Node, path: str) -> Any:
    """The value at ``node``, or ``None`` where it counts as absent."""
    if shape.kind is Kind.LIST:
        return _list(shape, node, path)
    if shape.kind is Kind.STRUCTURE:
        if node.value:
            raise ApiError("InvalidParameterValue", f"The parameter {quote(path)} is a structure and takes no value")
        return _structure(shape, node, path + ".") if node.children else None
    if node.children:
        raise _unknown(f"{path}.{next(iter(node.children))}", "", {})
    return _scalar(shape, node.value or "", path)


def _list(shape: Shape, node: _Node, path: str) -> list[Any] | None:
    assert shape.element is not None  # every list of the model has one
    node = node.children.get("member", node) if shape.element_name == "member" else node
    if len(node.children) > MAX_LIST:
        raise _invalid(f"{len(node.children):,} entries", path, shape, f"At most {MAX_LIST:,} are allowed.")
    values: list[Any] = []
    for place, child in _elements(node, path):
        value = _value(shape.element, child, place)
        if value is not None:
            values.append(value)
    if not values:
        return None
    if shape.maximum is not None and len(values) > shape.maximum:
        raise _invalid(f"{len(values):,} entries", path, shape, f"At most {shape.maximum:,.0f} are allowed.")
    return values


def _elements(node: _Node, path: str) -> Iterator[tuple[str, _Node]]:
    """A list's nodes and their paths in the order of their numbers; a value given to the bare name comes first."""
    if node.value:
        yield path, _Node(node.value)
    for number in node.children:
        if not (number.isascii() and number.isdigit() and len(number) <= 9):
            raise _unknown(f"{path}.{number}", number, {})
    for number in sorted(node.children, key=int):
        yield f"{path}.{number}", node.children[number]


def _scalar(shape: Shape, text: str, path: str) -> Any:
    if shape.kind is Kind.STRING:
        return None if text == "" and shape.enum else text
    if text == "":
        return None
    read, expected = SCALARS[shape.kind]
    try:
        value = read(text)
    except (ValueError, OverflowError) as error:
        raise _invalid(text, path, shape, f"Expected {expected}.") from error
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        _check_range(value, text, path, shape)
    return value


def _check_range(value: float, text: str, path: str, shape: Shape) -> None:
    if (bits := BITS.get(shape.kind)) and not -(1 << bits) <= value < 1 << bits:
        raise _invalid(text, path, shape, f"Expected an integer of {bits + 1} bits.")
    low, high = shape.minimum, shape.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = [f"at least {low:.0f}"] if low is not None else []
        bounds += [f"at most {high:.0f}"] if high is not None else []
        raise _invalid(text, path, shape, f"Expected {' and '.join(bounds)}.")


def _invalid(value: str, path: str, shape: Shape, why: str) -> ApiError:
    shown = "…" if shape.sensitive else quote(value)
    return ApiError("InvalidParameterValue", f"Value ({shown}) for parameter {quote(path)} is invalid. {why}")


def _unknown(path: str, key: str, known: Mapping[str, Member] | Iterable[str]) -> ApiError:
    message = f"The parameter {quote(path)} is not recognized"
    if close := difflib.get_close_matches(key[:64], list(known), n=3, cutoff=0.6):
        message += f" | did you mean {' or '.join(close)}?"
    return ApiError("UnknownParameter", message)
