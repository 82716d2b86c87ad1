"""Filters of the Describe actions."""

from __future__ import annotations

import fnmatch
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.aws.wildcards import wildcard_expression
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.filters import Filters


@dataclass(frozen=True)
class Thing:
    name: str
    public: bool = False
    size: int = 8
    made: datetime = datetime(2026, 11, 23, 10, tzinfo=UTC)
    platform: str | None = None
    snapshots: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)


FILTERS = Filters[Thing](
    {
        "name": lambda thing: thing.name,
        "is-public": lambda thing: thing.public,
        "size": lambda thing: thing.size,
        "creation-date": lambda thing: thing.made,
        "platform": lambda thing: thing.platform,
        "snapshot-id": lambda thing: thing.snapshots,
    },
    tags=lambda thing: thing.tags,
)
WEB = Thing("web", public=True, snapshots=("snap-1", "snap-2"), tags={"Name": "web", "empty": ""})
DATA = Thing("data*base", size=100, platform="windows", tags={"Name": "db"})
THINGS = [WEB, DATA]


def select(*filters: tuple[str, list[str]]) -> list[str]:
    entries: list[dict[str, Any]] = [{"Name": name, "Values": values} for name, values in filters]
    return [thing.name for thing in FILTERS.select(THINGS, entries)]


@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
        ("name", ["web"], ["web"]),
        ("name", ["WEB"], []),
        ("name", ["web", "data*"], ["web", "data*base"]),
        ("name", ["w?b"], ["web"]),
        ("name", ["?"], []),
        ("name", [r"data\*base"], ["data*base"]),
        ("name", [r"w\*"], []),
        ("name", ["*"], ["web", "data*base"]),
        ("is-public", ["true"], ["web"]),
        ("is-public", ["false"], ["data*base"]),
        ("size", ["100"], ["data*base"]),
        ("size", ["1*"], ["data*base"]),
        ("creation-date", ["2026-11-2*"], ["web", "data*base"]),
        ("creation-date", ["2026-11-23T10:00:00.000Z"], ["web", "data*base"]),
        ("platform", ["*"], ["data*base"]),
        ("platform", [""], []),
        ("snapshot-id", ["snap-2"], ["web"]),
        ("tag:Name", ["db"], ["data*base"]),
        ("tag:empty", [""], ["web"]),
        ("tag:none", ["*"], []),
        ("tag-key", ["Na*"], ["web", "data*base"]),
        ("tag-key", ["empty"], ["web"]),
    ],
)
def test_a_filter_lets_through_what_matches_one_of_its_values(name: str, values: list[str], found: list[str]) -> None:
    assert select((name, values)) == found


def test_every_filter_must_let_an_item_through() -> None:
    assert select(("tag-key", ["Name"]), ("size", ["8"])) == ["web"]
    assert select(("name", ["web"]), ("size", ["100"])) == []
    assert select() == ["web", "data*base"]


@pytest.mark.parametrize(
    ("entry", "code", "message"),
    [
        ({"Name": "colour", "Values": ["x"]}, "InvalidParameterValue", "The filter 'colour' is invalid"),
        ({"Values": ["x"]}, "InvalidParameterValue", "The filter '' is invalid"),
        ({"Name": "name"}, "MissingParameter", "The request must contain values for the filter name"),
        ({"Name": "name", "Values": ["x"] * 201}, "FilterLimitExceeded", "The maximum number of filter values is 200"),
        (
            {"Name": "name", "Values": ["x" * 1025]},
            "InvalidParameterValue",
            "A filter value is longer than 1024 characters",
        ),
    ],
)
def test_a_wrong_filter_is_an_error_even_with_nothing_to_filter(entry: dict[str, Any], code: str, message: str) -> None:
    with pytest.raises(Ec2Error) as caught:
        FILTERS.select([], [entry])
    assert (caught.value.code, str(caught.value)) == (code, message)


def test_tags_are_no_filter_of_what_has_none() -> None:
    with pytest.raises(Ec2Error, match="The filter 'tag:Name' is invalid"):
        Filters[Thing]({}).select([], [{"Name": "tag:Name", "Values": ["x"]}])


@settings(deadline=None, max_examples=300)
@given(st.text("ab*?\n", max_size=8), st.text("ab\n", max_size=8))
def test_wildcards_mean_what_a_shell_means_by_them(pattern: str, text: str) -> None:
    ours = re.fullmatch(wildcard_expression(pattern), text, re.DOTALL)
    assert (ours is not None) == fnmatch.fnmatchcase(text, pattern)


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=10))
def test_an_escaped_text_matches_itself_alone(text: str) -> None:
    escaped = "".join("\\" + character for character in text)
    assert re.fullmatch(wildcard_expression(escaped), text, re.DOTALL)
    assert not re.fullmatch(wildcard_expression(escaped), text + "x", re.DOTALL)


def test_a_pattern_made_to_be_slow_is_not() -> None:
    started = time.process_time()
    things = [Thing("a" * 1000)] * 5
    assert FILTERS.select(things, [{"Name": "name", "Values": ["*a" * 500 + "*b"]}]) == []
    assert time.process_time() - started < 1
