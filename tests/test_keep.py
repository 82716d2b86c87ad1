"""Things kept open."""

from __future__ import annotations

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
