"""Answers of the Query protocol and EC2's dialect of it, by the model: a dict in the model's member names → XML.

``None`` and what is not there are left out; an empty list is written (``<tagSet/>``), because without it the key is
missing from what boto3 hands to its caller. The declaration, the namespace of the version that was asked, and
``requestId`` first: as the service does it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from vmferry.aws.model import Kind, Operation, Shape

CONTENT_TYPE = "text/xml;charset=UTF-8"

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SPECIAL = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_REPLACEMENT = "\ufffd"


def escape(text: str) -> str:
    """``text`` as character data. What XML 1.0 cannot carry at all (section 2.2) becomes U+FFFD."""
    return _SPECIAL.sub(lambda match: _ESCAPES.get(match.group(), _REPLACEMENT), text)


def format_timestamp(moment: datetime) -> str:
    """``2026-11-23T10:00:00.000Z``. A time without a zone is a fault of ours: ``ValueError``."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone cannot be answered")
    moment = moment.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z".rjust(24, "0")


def format_double(value: float) -> str:
    """Java's ``Double.toString``: ``0.0``, ``1.5``, ``1234567.0``, then ``6.52312064E8``."""
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("a number that is not finite cannot be answered")
    size = abs(value)
    if size == 0 or 1e-3 <= size < 1e7:
        return repr(float(value))
    sign, digits, _ = Decimal(repr(float(value))).normalize().as_tuple()
    exponent = Decimal(repr(float(value))).adjusted()
    fraction = "".join(map(str, digits[1:])) or "0"
    return f"{'-' if sign else ''}{digits[0]}.{fraction}E{exponent}"


def response_document(operation: Operation, output: Mapping[str, Any], request_id: str, version: str) -> bytes:
    """The answer to ``operation``. An operation without an output answers ``<return>true</return>``.

    Raises ``ValueError`` or ``TypeError`` for an ``output`` that the model does not allow: that is a fault of ours.
    """
    name = operation.name
    parts = [
        f'{_DECLARATION}<{name}Response xmlns="http://ec2.amazonaws.com/doc/{escape(version)}/">',
        f"<requestId>{escape(request_id)}</requestId>",
    ]
    if operation.output is None:
        parts.append("<return>true</return>")
    else:
        _members(operation.output, output, parts)
    parts.append(f"</{name}Response>")
    return "".join(parts).encode("utf-8")


def error_document(code: str, message: str, request_id: str) -> bytes:
    """The envelope of an error; here the request's id is spelled ``RequestID``."""
    return (
        f"{_DECLARATION}<Response><Errors><Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        f"</Error></Errors><RequestID>{escape(request_id)}</RequestID></Response>"
    ).encode()


def result_document(operation: Operation, output: Mapping[str, Any], request_id: str, namespace: str) -> bytes:
    """The answer of a service of the plain Query protocol (IAM, STS): its members stand in a ``…Result``."""
    name = operation.name
    parts = [f'{_DECLARATION}<{name}Response xmlns="{escape(namespace)}">']
    if operation.output is not None:
        parts.append(f"<{name}Result>")
        _members(operation.output, output, parts)
        parts.append(f"</{name}Result>")
    parts.append(f"<ResponseMetadata><RequestId>{escape(request_id)}</RequestId></ResponseMetadata></{name}Response>")
    return "".join(parts).encode("utf-8")


def fault_document(code: str, message: str, status: int, request_id: str, namespace: str) -> bytes:
    """The envelope of an error in the plain Query protocol."""
    fault = "Sender" if status < 500 else "Receiver"
    return (
        f'{_DECLARATION}<ErrorResponse xmlns="{escape(namespace)}"><Error><Type>{fault}</Type>'
        f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
        f"<RequestId>{escape(request_id)}</RequestId></ErrorResponse>"
    ).encode()


def _members(shape: Shape, values: Mapping[str, Any], parts: list[str]) -> None:
    for key, value in values.items():
        member = shape.members.get(key)
        if member is None:
            raise ValueError(f"{shape.name} has no member {key}")
        if value is not None:
            _element(member.shape, member.response_name, value, parts)


def _element(shape: Shape, name: str, value: Any, parts: list[str]) -> None:
    if shape.kind is Kind.STRUCTURE:
        parts.append(f"<{name}>")
        _members(shape, _expect(value, Mapping, shape), parts)
        parts.append(f"</{name}>")
    elif shape.kind is Kind.LIST:
        _list(shape, name, _expect(value, Sequence, shape), parts)
    else:
        parts.append(f"<{name}>{_text(shape, value)}</{name}>")


def _list(shape: Shape, name: str, values: Sequence[Any], parts: list[str]) -> None:
    if isinstance(values, str) or shape.element is None:
        raise TypeError(f"{shape.name} must be a list")
    if not values:
        parts.append(f"<{name}/>")
        return
    parts.append(f"<{name}>")
    for value in values:
        _element(shape.element, shape.element_name, value, parts)
    parts.append(f"</{name}>")


def _text(shape: Shape, value: Any) -> str:
    kind = shape.kind  # compared by identity, the commonest first: this runs for every value of every answer
    if kind is Kind.STRING:
        return escape(_expect(value, str, shape))
    if kind is Kind.BOOLEAN:
        return "true" if _expect(value, bool, shape) else "false"
    if kind is Kind.INTEGER or kind is Kind.LONG:
        if isinstance(value, bool):
            raise TypeError(f"{shape.name} takes no bool")
        return str(int(_expect(value, int, shape)))
    if kind is Kind.TIMESTAMP:
        return format_timestamp(_expect(value, datetime, shape))
    if kind is Kind.BLOB:
        return base64.b64encode(_expect(value, bytes, shape)).decode("ascii")
    return format_double(_expect(value, (int, float), shape))


def _expect(value: Any, kind: type | tuple[type, ...], shape: Shape) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{shape.name} takes no {type(value).__name__}")
    return value
