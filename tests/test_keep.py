"""Things kept open."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from vmferry.keep import Keep


class _Thing:
    def __init__(self) -> None:
        self.closed = 0
        self.rested = 0

    def close(self) -> None:
        self.closed += 1

    def rest(self) -> None:
        self.rested += 1


def test_what_is_wanted_again_is_still_open() -> None:
    keep = Keep[_Thing](2, _Thing.rest)
    with keep.borrow("a", _Thing) as first, keep.borrow("a", _Thing) as second:
        assert first is second
    assert (first.closed, first.rested) == (0, 1)
    with keep.borrow("a", _Thing) as third:
        assert third is first


def test_the_least_recently_used_is_closed_first() -> None:
    keep = Keep[_Thing](2)
    things = {}
    for key in ("a", "b", "a", "c"):
        with keep.borrow(key, _Thing) as thing:
            things[key] = thing
    assert [things[key].closed for key in "abc"] == [0, 1, 0]
    assert keep.held() == ["a", "c"]


def test_what_is_used_is_never_closed() -> None:
    keep = Keep[_Thing](1)
    with keep.borrow("a", _Thing) as held:
        for key in ("b", "c"):
            with keep.borrow(key, _Thing):
                pass
        keep.forget("a")
        assert held.closed == 0
        with keep.borrow("a", _Thing) as fresh:
            assert fresh is not held
    assert held.closed == 1
    assert fresh.closed == 0
    keep.forget("a")
    keep.forget("a")
    assert fresh.closed == 1


def test_one_that_is_long_in_opening_keeps_no_other_waiting() -> None:
    keep = Keep[_Thing](2)
    begun, may_end = threading.Event(), threading.Event()

    def open_slowly() -> _Thing:
        begun.set()
        assert may_end.wait(30)
        return _Thing()

    def borrow_slowly() -> _Thing:
        with keep.borrow("slow", open_slowly) as thing:
            return thing

    def borrow_other() -> bool:
        with keep.borrow("other", _Thing):
            return True

    with ThreadPoolExecutor(3) as threads:
        both = [threads.submit(borrow_slowly) for _ in range(2)]
        assert begun.wait(30)
        try:
            assert threads.submit(borrow_other).result(timeout=10)
        finally:
            may_end.set()
        assert both[0].result() is both[1].result()


def test_what_could_not_be_opened_is_tried_again() -> None:
    keep = Keep[_Thing](2)

    def fail() -> _Thing:
        raise OSError("not now")

    with pytest.raises(OSError, match="not now"), keep.borrow("a", fail):
        pass
    with keep.borrow("a", _Thing) as thing:
        assert keep.held() == ["a"]
    assert thing.closed == 0
