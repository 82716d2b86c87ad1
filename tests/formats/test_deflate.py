"""Deflate that gives the same bytes for the same data, wherever its state happens to lie in memory."""

from __future__ import annotations

import random
import threading
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isal import isal_zlib

from vmferry.formats._deflate import LEVELS, deflate

WINDOWS = (15, -12)


def data_that_goes_back_to_its_first_bytes(count: int) -> list[bytes]:
    """Each repeats what stands at its third, second and first byte, in this order: nothing later is in the way."""
    chance = random.Random(7)
    found = []
    for _ in range(count):
        front, rest = chance.randbytes(12), chance.randbytes(300)
        found.append(front + rest[:30] + front[2:] + rest[30:60] + front[1:] + rest[60:90] + front + rest[90:])
    return found


def differing(pack: Callable[[bytes], bytes], data: list[bytes]) -> int:
    """How many of ``data`` two threads pack differently. Both are alive at once, so their stacks lie apart."""
    begin = threading.Barrier(2)
    answers: list[list[bytes]] = []

    def work() -> None:
        begin.wait()
        packed = list(map(pack, data))
        begin.wait()
        answers.append(packed)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(one != other for one, other in zip(*answers, strict=True))


@pytest.mark.parametrize("level", LEVELS.values())
def test_every_thread_makes_the_same_stream(level: int) -> None:
    assert differing(lambda data: deflate(data, level), data_that_goes_back_to_its_first_bytes(8000)) == 0


def test_the_library_alone_does_not() -> None:
    """When this fails, ISA-L is mended, and so ``deflate`` may call it straight."""
    data = data_that_goes_back_to_its_first_bytes(8000)
    assert any(differing(lambda piece: isal_zlib.compress(piece, 1), data) for _ in range(20))


@given(data=st.binary(max_size=200), times=st.integers(1, 2000), level=st.sampled_from(sorted(LEVELS.values())))
def test_whatever_goes_in_comes_out(data: bytes, times: int, level: int) -> None:
    whole = data * times
    for bits in WINDOWS:
        stream = deflate(whole, level, bits)
        unpacker = zlib.decompressobj(bits)
        assert unpacker.decompress(stream) == whole
        assert unpacker.eof
        assert not unpacker.unused_data
        assert deflate(memoryview(bytearray(whole)), level, bits) == stream
