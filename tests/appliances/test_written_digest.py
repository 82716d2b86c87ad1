"""The digest of a file that is being written, in whatever order and by however many threads."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.appliances._written_digest import WrittenDigest


def _pieces(content: bytes, cuts: list[int]) -> list[tuple[int, bytes]]:
    edges = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    return [(low, content[low:high]) for low, high in pairwise(edges)]


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=12), st.randoms(use_true_random=False))
def test_any_order_within_the_window_gives_the_digest(content: bytes, cuts: list[int], chance: random.Random) -> None:
    pieces = _pieces(content, cuts)
    chance.shuffle(pieces)
    digest = WrittenDigest("sha256", window=4000)
    for offset, data in pieces:
        digest.add(offset, data)
    assert digest.finish(len(content)) == hashlib.sha256(content).digest()


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1 << 32))
def test_many_threads_and_a_small_window_give_the_digest(seed: int) -> None:
    chance = random.Random(seed)
    content = chance.randbytes(200_000)
    pieces = _pieces(content, [chance.randrange(200_000) for _ in range(200)])
    digest = WrittenDigest("sha1", window=8000)
    turn = iter(pieces)
    taking = threading.Lock()

    def work() -> None:
        while True:
            with taking:
                piece = next(turn, None)
            if piece is None:
                return
            digest.add(*piece)

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work) for _ in range(6)]:
            done.result()
    assert digest.finish(len(content)) == hashlib.sha1(content, usedforsecurity=False).digest()


def test_gaps_and_the_rest_are_zeros() -> None:
    digest = WrittenDigest("sha256")
    digest.add(10, b"abc")
    digest.add(2_000_000, b"def")
    wanted = bytes(10) + b"abc" + bytes(2_000_000 - 13) + b"def" + bytes(7)
    assert digest.finish(2_000_010) == hashlib.sha256(wanted).digest()


def test_what_is_added_may_be_changed_afterwards() -> None:
    digest = WrittenDigest("sha256")
    buffer = bytearray(b"behind")
    digest.add(5, buffer)
    buffer[:] = b"other!"
    digest.add(0, b"front")
    assert digest.finish(11) == hashlib.sha256(b"frontbehind").digest()


@pytest.mark.parametrize("offset", [0, 3], ids=["at-the-start", "in-the-middle"])
def test_bytes_that_are_written_twice_lose_the_digest(offset: int) -> None:
    digest = WrittenDigest("sha256")
    digest.add(0, b"header")
    digest.add(offset, b"HEAD")
    digest.add(7, b"more")
    assert digest.finish(11) is None


def test_pieces_that_overlap_lose_the_digest() -> None:
    digest = WrittenDigest("sha256")
    digest.add(4, b"12345678")
    digest.add(8, b"1234")
    digest.add(0, b"front")
    assert digest.finish(12) is None


def test_a_full_window_waits_for_the_frontier() -> None:
    digest = WrittenDigest("sha256", window=10, patience=30)
    digest.add(5, b"0123456789")
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(digest.add, 15, b"ahead")
        time.sleep(0.05)
        assert not ahead.done()
        digest.add(0, b"front")
        ahead.result(10)
    assert digest.finish(20) == hashlib.sha256(b"front0123456789ahead").digest()


def test_a_full_window_gives_up_when_nobody_brings_the_frontier() -> None:
    digest = WrittenDigest("sha256", window=10, patience=0.02)
    digest.add(5, b"0123456789")
    digest.add(15, b"ahead")  # comes back all the same
    assert digest.finish(20) is None


def test_a_full_window_does_not_give_up_while_somebody_stores() -> None:
    digest = WrittenDigest("sha256", window=10, patience=0.02)
    digest.add(5, b"0123456789")
    digest.store_begins()
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(digest.add, 15, b"ahead")
        time.sleep(0.2)  # ten times its patience
        assert not ahead.done()
        digest.add(0, b"front")
        digest.store_ends()
        ahead.result(10)
    assert digest.finish(20) == hashlib.sha256(b"front0123456789ahead").digest()
