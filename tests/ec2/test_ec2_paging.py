"""Pages of an answer."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.paging import Paging

PAGING = Paging[str]("DescribeImages", lambda name: name, alone="ImageIds")


ASKED = json.loads(base64.urlsafe_b64decode((PAGING.page("abcdef", {"MaxResults": 5}).next_token or "") + "=="))[1]
"""What a token says of a request that asks for nothing in particular."""


def walk(items: set[str], limit: int) -> list[list[str]]:
    pages: list[list[str]] = []
    request: dict[str, Any] = {"MaxResults": limit}
    while True:
        page = PAGING.page(items, request)
        pages.append(page.items)
        if page.next_token is None:
            return pages
        request = {"MaxResults": limit, "NextToken": page.next_token}


@settings(deadline=None, max_examples=100)
@given(st.sets(st.text(max_size=6), max_size=60), st.integers(5, 40))
def test_the_pages_together_are_everything_once_in_order(items: set[str], limit: int) -> None:
    pages = walk(items, limit)
    assert [item for page in pages for item in page] == sorted(items)
    assert all(len(page) == limit for page in pages[:-1])
    assert len(pages) == max(1, -(-len(items) // limit))


def test_without_max_results_everything_comes_at_once() -> None:
    page = PAGING.page([str(number) for number in range(2000)], {})
    assert len(page.items) == 2000
    assert page.next_token is None


def test_a_token_outlives_the_item_it_was_made_after() -> None:
    items = [f"ami-{number:02}" for number in range(12)]
    token = PAGING.page(items, {"MaxResults": 5}).next_token
    rest = PAGING.page([item for item in items if item != "ami-04"], {"NextToken": token})
    assert rest.items == items[5:]


def test_a_token_is_good_for_the_request_that_it_was_made_for() -> None:
    asked = {"Filters": [{"Name": "state", "Values": ["available"]}]}
    token = PAGING.page("abcdef", {**asked, "MaxResults": 5}).next_token
    assert PAGING.page("abcdef", {**asked, "MaxResults": 9, "NextToken": token}).items == ["f"]
    for other in ({}, {"Filters": [{"Name": "state", "Values": ["pending"]}]}):
        with pytest.raises(Ec2Error) as caught:
            PAGING.page("abcdef", {**other, "NextToken": token})
        assert caught.value.code == "InvalidNextToken"


@settings(deadline=None, max_examples=100)
@given(st.sets(st.integers(0, 9999), max_size=400), st.integers(5, 40))
def test_what_is_kept_fills_the_pages_however_little_it_is(numbers: set[int], limit: int) -> None:
    ordered, asked = [f"{number:04}" for number in sorted(numbers)], list[int]()

    def fetch(after: str | None, most: int) -> list[str]:
        asked.append(most)
        return [item for item in ordered if after is None or item > after][:most]

    kept, request = list[str](), dict[str, Any](MaxResults=limit)
    while True:
        page = PAGING.read(fetch, lambda item: item.endswith("7"), request)
        kept += page.items
        if page.next_token is None:
            break
        assert len(page.items) == limit
        request = {"MaxResults": limit, "NextToken": page.next_token}
    assert kept == [item for item in ordered if item.endswith("7")]
    assert asked[0] == limit + 1


def test_a_page_that_a_filter_leaves_empty_ends_in_time_and_the_walk_goes_on() -> None:
    ordered, looked_at, walked = [f"{number:06}" for number in range(50_000)], list[int](), list[str]()

    def fetch(after: str | None, most: int) -> list[str]:
        first = 0 if after is None else int(after) + 1
        looked_at[-1] += most
        return ordered[first : first + most]

    request = dict[str, Any](MaxResults=1000)
    while True:
        looked_at.append(0)
        page = PAGING.read(fetch, lambda item: item.endswith("49999"), request)
        walked += page.items
        if page.next_token is None:
            break
        request = {"MaxResults": 1000, "NextToken": page.next_token}
    assert walked == ["049999"]
    assert max(looked_at) <= 3001
    looked_at.append(0)
    assert PAGING.read(fetch, lambda item: item == "049999", {}).items == walked, "without a limit all are looked at"


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "%%%",
        "é",
        base64.urlsafe_b64encode(b"[]").decode(),
        base64.urlsafe_b64encode(b"7").decode(),
        base64.urlsafe_b64encode(b'["DescribeImages","a"]').decode(),
        base64.urlsafe_b64encode(json.dumps(["DescribeImages", ASKED, 7]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps(["DescribeSnapshots", ASKED, "a"]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps(["DescribeImages", "of another request", "a"]).encode()).decode(),
        base64.urlsafe_b64encode(b"[" * 3000).decode(),
    ],
)
def test_a_token_that_is_not_ours_is_refused(token: str) -> None:
    with pytest.raises(Ec2Error) as caught:
        PAGING.page(["a"], {"NextToken": token})
    assert caught.value.code == "InvalidNextToken"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"MaxResults": 4}, "InvalidParameterValue"),
        ({"MaxResults": 1001}, "InvalidParameterValue"),
        ({"MaxResults": 5, "ImageIds": ["ami-1"]}, "InvalidParameterCombination"),
    ],
)
def test_max_results_has_bounds_and_stands_alone(request_: dict[str, Any], code: str) -> None:
    with pytest.raises(Ec2Error) as caught:
        PAGING.page(["a"], request_)
    assert caught.value.code == code
