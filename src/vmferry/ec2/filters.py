"""``Filters`` of the Describe actions: AND between filters, OR between a filter's values, wildcards in the values.

An action says once which filters it has and what they look at::

    FILTERS = Filters[Image](
        {"name": lambda image: image.name, "block-device-mapping.snapshot-id": lambda image: image.snapshot_ids},
        tags=lambda image: image.tags,
        fields={"name": "name"},
    )
    images = FILTERS.select(images, request.get("Filters", ()))

What stands in a table is read with ``FILTERS.wanted(…)``, which leaves to the database what it can tell.

A value is text, ``True`` (compared as ``true``), a number, an aware time (as ``2026-11-23T10:00:00.000Z``), ``None``
(matches nothing), or an iterable of these, of which one must match. Comparison is case-sensitive. In a filter ``*`` is
any run, ``?`` one character, and a backslash takes the meaning off the next one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

from vmferry.aws.wildcards import wildcard_expression
from vmferry.aws.xml import format_timestamp
from vmferry.catalog.pages import Wanted
from vmferry.ec2.errors import Ec2Error
from vmferry.errors import quote

T = TypeVar("T")

MAX_VALUES = 200
MAX_VALUE_LENGTH = 1024
MAX_FILTERS = 50

_WILD = re.compile(r"[*?\\]")


class Filters(Generic[T]):
    """The filters of one action over items of one type. Immutable, thread-safe."""

    def __init__(
        self,
        values: Mapping[str, Callable[[T], object]],
        tags: Callable[[T], Mapping[str, str]] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        """``tags`` gives an item's tags, and with them the filters ``tag:KEY`` and ``tag-key``. ``fields`` says which
        filters look at nothing but a field of a table, and at which."""
        self._values = dict(values)
        self._tags = tags
        self._fields = dict(fields or {})
        if tags is not None:
            self._values["tag-key"] = tags

    def select(self, items: Iterable[T], filters: Iterable[Mapping[str, Any]]) -> list[T]:
        """The ``items`` that every one of ``filters`` (``{"Name": …, "Values": […]}``) lets through, in order.

        Raises ``Ec2Error``: ``InvalidParameterValue`` for an unknown filter, ``FilterLimitExceeded``,
        ``MissingParameter``. It does so even when there is no item.
        """
        keeps = self.test(filters)
        return [item for item in items if keeps(item)]

    def test(self, filters: Iterable[Mapping[str, Any]]) -> Callable[[T], bool]:
        """Whether every one of ``filters`` lets an item through. Raises as ``select`` does, at once."""
        tests = [self._compile(entry) for entry in self._bounded(filters)]
        return lambda item: all(test(item) for test in tests)

    def wanted(self, filters: Iterable[Mapping[str, Any]]) -> Wanted:
        """What of ``filters`` a table can tell: fields and tags without wildcards, each asked for once."""
        fields: dict[str, frozenset[str]] = {}
        tags: dict[str, frozenset[str]] = {}
        for entry in filters:
            name, values = str(entry.get("Name", "")), frozenset(map(str, entry.get("Values", ())))
            if any(_WILD.search(value) for value in values):
                continue
            if name in self._fields:
                fields.setdefault(self._fields[name], values)
            elif self._tags is not None and name.startswith("tag:"):
                tags.setdefault(name.removeprefix("tag:"), values)
        return Wanted(fields, tags)

    @staticmethod
    def _bounded(filters: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        entries = list(filters)
        if len(entries) > MAX_FILTERS:
            raise Ec2Error("FilterLimitExceeded", f"At most {MAX_FILTERS} filters are allowed in one request")
        if sum(len(entry.get("Values", ())) for entry in entries) > MAX_VALUES:
            raise Ec2Error("FilterLimitExceeded", f"The maximum number of filter values is {MAX_VALUES}")
        return entries

    def _compile(self, entry: Mapping[str, Any]) -> Callable[[T], bool]:
        name = str(entry.get("Name", ""))
        look = self._look(name)
        patterns = [str(value) for value in entry.get("Values", ())]
        if not patterns:
            raise Ec2Error("MissingParameter", f"The request must contain values for the filter {quote(name)}")
        if any(len(pattern) > MAX_VALUE_LENGTH for pattern in patterns):
            raise Ec2Error("InvalidParameterValue", f"A filter value is longer than {MAX_VALUE_LENGTH} characters")
        matches = _matcher(patterns)
        return lambda item: any(matches(text) for text in _texts(look(item)))

    def _look(self, name: str) -> Callable[[T], object]:
        if (look := self._values.get(name)) is not None:
            return look
        if (tags := self._tags) is not None and name.startswith("tag:"):
            key = name.removeprefix("tag:")
            return lambda item: tags(item).get(key)
        raise Ec2Error("InvalidParameterValue", f"The filter '{quote(name)}' is invalid")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bool):
        yield "true" if value else "false"
    elif isinstance(value, datetime):
        yield format_timestamp(value)
    elif isinstance(value, Iterable):
        for part in value:
            yield from _texts(part)
    elif value is not None:
        yield str(value)


def _matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a text matches one of ``patterns``: plain ones by a set, the others by one expression each."""
    plain = {pattern for pattern in patterns if not _WILD.search(pattern)}
    wild = [re.compile(wildcard_expression(pattern), re.DOTALL) for pattern in patterns if pattern not in plain]
    return lambda text: text in plain or any(expression.fullmatch(text) for expression in wild)
