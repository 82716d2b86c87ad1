"""A layer over its parent, whatever their formats: checked against a disk that is a list of blocks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.extent import Extent, ExtentKind
from vmferry.formats._overlay import Overlay

BLOCK = 512
KINDS = {"d": ExtentKind.DATA, "z": ExtentKind.ZERO, "h": ExtentKind.HOLE}


class Blocks:
    """A disk of blocks: a letter each for data, zeros, holes.

    As a layer (``in_holes``) what it gives for its holes is not fit to be shown.
    """

    def __init__(self, letters: str, filling: bytes, in_holes: bytes = b"\0") -> None:
        self._letters = letters
        self._bytes = b"".join({"d": filling, "z": b"\0", "h": in_holes}[letter] * BLOCK for letter in letters)
        self.asked: list[tuple[int, int]] = []

    @property
    def size(self) -> int:
        return len(self._bytes)

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        end = self.size if end is None else min(end, self.size)
        letters = ((position, self._letters[position // BLOCK]) for position in range(start, end))
        for letter, run in groupby(letters, key=lambda item: item[1]):
            positions = [position for position, _ in run]
            yield Extent(positions[0], len(positions), KINDS[letter])

    def read_at(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= self.size
        self.asked.append((offset, length))
        return self._bytes[offset : offset + length]

    def close(self) -> None:
        raise AssertionError("an overlay owns neither its layer nor its parent")


class Layered:
    """An overlay as the disk that the next layer stands on."""

    def __init__(self, overlay: Overlay) -> None:
        self.size, self.extents, self.read_at = overlay.size, overlay.extents, overlay.read_at

    def close(self) -> None:
        pass


def merged(layer: str, parent: str) -> str:
    """What must be seen: the layer's own, else the parent's, else nothing. Capitals are the layer's data."""
    below = parent.ljust(len(layer), "h")
    return "".join(
        other if own == "h" else own.upper() if own == "d" else own for own, other in zip(layer, below, strict=False)
    )


def content(seen: str) -> bytes:
    return b"".join({"D": b"C", "d": b"p"}.get(letter, b"\0") * BLOCK for letter in seen)


letters = st.text("dzh", max_size=24)


@settings(deadline=None, max_examples=120)
@given(layer=letters.filter(bool), parent=letters, data=st.data())
def test_an_overlay_is_the_layer_with_its_parent_in_the_holes(layer: str, parent: str, data: st.DataObject) -> None:
    """Any two maps of any two sizes, any range of them."""
    start = data.draw(st.integers(0, len(layer) * BLOCK))
    end = data.draw(st.integers(start, len(layer) * BLOCK))
    seen = merged(layer, parent)
    overlay = Overlay(Blocks(layer, b"C", b"!"), Blocks(parent, b"p"))
    assert overlay.size == len(layer) * BLOCK
    assert bytes(overlay.read_at(start, end - start)) == content(seen)[start:end]
    expected = list(Blocks(seen.lower(), b"?").extents(start, end))
    assert list(overlay.extents(start, end)) == expected
    assert list(overlay.extents()) == list(Blocks(seen.lower(), b"?").extents())


@settings(deadline=None, max_examples=40)
@given(chain=st.lists(letters.filter(bool), min_size=2, max_size=6))
def test_overlays_on_overlays_show_the_nearest_that_has_the_bytes(chain: list[str]) -> None:
    """The base last. A layer that ends hides what lies beyond its end in those below."""
    seen, top = chain[-1], Layered(Overlay(Blocks(chain[-1], b"p"), Blocks("", b"?")))
    for layer in reversed(chain[:-1]):
        seen = merged(layer, seen).lower()
        top = Layered(Overlay(Blocks(layer, b"p", b"!"), top))
    assert bytes(top.read_at(0, top.size)) == content(seen)
    assert list(top.extents()) == list(Blocks(seen, b"p").extents())


def test_zeros_hide_the_parent_and_a_shorter_parent_ends_in_a_hole() -> None:
    overlay = Overlay(Blocks("hzhhh", b"C", b"!"), Blocks("ddd", b"p"))
    kinds = [(extent.start // BLOCK, extent.kind.value) for extent in overlay.extents()]
    assert kinds == [(0, "data"), (1, "zero"), (2, "data"), (3, "hole")]
    assert bytes(overlay.read_at(0, overlay.size)) == content("dzdhh")


def test_what_a_longer_parent_has_behind_the_end_is_never_asked_for() -> None:
    parent = Blocks("dddd", b"p")
    overlay = Overlay(Blocks("hh", b"C", b"!"), parent)
    assert bytes(overlay.read_at(BLOCK - 100, BLOCK + 100)) == b"p" * (BLOCK + 100)
    assert [(extent.start, extent.length) for extent in overlay.extents(0, 10**9)] == [(0, 2 * BLOCK)]
    assert all(offset + length <= 2 * BLOCK for offset, length in parent.asked)


def test_only_what_is_seen_is_read() -> None:
    layer, parent = Blocks("d" * 4, b"C"), Blocks("d" * 4, b"p")
    Overlay(layer, parent).read_at(0, 4 * BLOCK)
    assert (layer.asked, parent.asked) == ([(0, 4 * BLOCK)], [])
    layer, parent = Blocks("hhhh", b"C", b"!"), Blocks("dddd", b"p")
    Overlay(layer, parent).read_at(BLOCK, 2 * BLOCK)
    assert (layer.asked, parent.asked) == ([], [(BLOCK, 2 * BLOCK)])
    layer, parent = Blocks("zzzz", b"C"), Blocks("dddd", b"p")
    assert bytes(Overlay(layer, parent).read_at(0, 4 * BLOCK)) == bytes(4 * BLOCK)
    assert (layer.asked, parent.asked) == ([], [])


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (0, 2 * BLOCK + 1), (2 * BLOCK, 1)])
def test_a_range_outside_of_the_layer_is_a_programming_error(offset: int, length: int) -> None:
    overlay = Overlay(Blocks("hd", b"C"), Blocks("dddddd", b"p"))
    with pytest.raises(ValueError, match="not inside"):
        overlay.read_at(offset, length)
    assert bytes(overlay.read_at(2 * BLOCK, 0)) == b""


def test_many_threads_read_one_overlay() -> None:
    layer, parent = "dhzh" * 50, "hdd" * 60
    expected = content(merged(layer, parent))
    overlay = Overlay(Blocks(layer, b"C", b"!"), Blocks(parent, b"p"))
    wrong: list[int] = []

    def read_some(first: int) -> None:
        starts = range(first, overlay.size - 5000, 4999)
        wrong.extend(at for at in starts if bytes(overlay.read_at(at, 5000)) != expected[at : at + 5000])

    threads = [threading.Thread(target=read_some, args=(first,)) for first in range(0, 800, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
