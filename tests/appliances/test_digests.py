"""Digests in the pass of the copy: any order, any number of threads, nothing read more often than must be."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.appliances.ova_builder import CountingBlob
from vmferry.appliances import HashedBlob, _digests, _running_digest, verify
from vmferry.blob import MemoryBlob
from vmferry.errors import CorruptDiskError, StoreUnavailableError
from vmferry.formats import open_disk
from vmferry.machine import Digest

KIB = 1 << 10


def digest_of(content: bytes, algorithm: str = "sha256") -> Digest:
    return Digest(algorithm, hashlib.new(algorithm, content).digest())


WRONG = Digest("sha256", bytes(32))


def pieces(size: int, step: int) -> Iterator[tuple[int, int]]:
    return ((start, min(step, size - start)) for start in range(0, size, step))


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
def test_verify_takes_the_right_digest_and_refuses_a_wrong_one(algorithm: str) -> None:
    content = random.Random(1).randbytes(70_000)
    moved: list[int] = []
    verify("disk1.vmdk", MemoryBlob(content), digest_of(content, algorithm), moved.append)
    assert sum(moved) == len(content)
    with pytest.raises(CorruptDiskError) as refused:
        verify("disk1.vmdk", MemoryBlob(content[:-1] + b"x"), digest_of(content, algorithm), None)
    message = str(refused.value)
    assert "disk1.vmdk" in message
    assert digest_of(content, algorithm).value.hex() in message
    assert digest_of(content[:-1] + b"x", algorithm).value.hex() in message
    assert "export or upload it again" in message


def test_verify_reads_in_pieces_and_lets_the_listener_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_digests, "_STEP", 1000)
    blob = CountingBlob(bytes(10_000))

    def stop(_: int) -> None:
        raise StoreUnavailableError("stop")

    with pytest.raises(StoreUnavailableError):
        verify("x", blob, WRONG, stop)
    assert blob.bytes_read == 1000


def test_reads_in_order_are_digested_at_once_and_nothing_is_read_again() -> None:
    content = random.Random(2).randbytes(300 * KIB)
    below = CountingBlob(content)
    blob = HashedBlob(below, digest_of(content), window=0)
    assert b"".join(blob.read_at(*piece) for piece in pieces(len(content), 7 * KIB)) == content
    blob.finish()
    assert below.bytes_read == len(content)


@pytest.mark.parametrize("size", [0, 1, 4096])
def test_what_nobody_read_is_read_at_the_end(size: int) -> None:
    content = random.Random(3).randbytes(size)
    HashedBlob(MemoryBlob(content), digest_of(content)).finish()
    if size:
        with pytest.raises(CorruptDiskError):
            HashedBlob(MemoryBlob(content), WRONG).finish()


def test_a_mismatch_names_the_file_and_both_digests() -> None:
    blob = HashedBlob(MemoryBlob(b"changed", "vm.ova:disk1.vmdk"), digest_of(b"original"))
    blob.read_at(0, 7)
    with pytest.raises(CorruptDiskError, match="SHA256") as refused:
        blob.finish()
    message = str(refused.value)
    assert "vm.ova:disk1.vmdk" in message
    assert hashlib.sha256(b"changed").hexdigest() in message
    assert hashlib.sha256(b"original").hexdigest() in message


@settings(deadline=None, max_examples=150)
@given(
    size=st.integers(0, 4000),
    window=st.sampled_from([0, 1, 100, 1000, 10_000]),
    reads=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 900)), max_size=40),
    limit=st.sampled_from([0, 50, 10_000]),
)
def test_any_reads_in_any_order_give_the_digest(
    size: int, window: int, reads: list[tuple[int, int]], limit: int
) -> None:
    content = random.Random(size).randbytes(size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_digests, "_MAX_GAP", limit)
        patch.setattr(_digests, "_STEP", 333)
        below = CountingBlob(content)
        blob = HashedBlob(below, digest_of(content), window=window)
        asked = 0
        for offset, length in reads:
            start = min(offset, size)
            count = min(length, size - start)
            asked += count
            read = blob.view_at if start % 2 else blob.read_at
            assert read(start, count) == content[start : start + count]
            assert blob._held <= window
        blob.finish()
        assert below.bytes_read <= asked + size  # at the worst, once more
        with pytest.raises(CorruptDiskError):
            HashedBlob(MemoryBlob(content), WRONG).finish()


@settings(deadline=None)
@given(
    algorithm=st.sampled_from(["sha1", "sha256", "sha384", "sha512"]),
    cuts=st.lists(st.integers(0, 3000), max_size=6).map(sorted),
    seed=st.integers(0, 99),
)
def test_others_go_on_with_a_digest(algorithm: str, cuts: list[int], seed: int) -> None:
    """Each cut is a death: what follows is another blob, which knows only what was saved, and reads no byte twice."""
    content, read, saved = random.Random(seed).randbytes(3000), 0, None
    for start, end in pairwise([0, *cuts]):
        below = CountingBlob(content)
        blob = HashedBlob(below, digest_of(content, algorithm), saved=saved)
        for offset, length in pieces(end - start, 500):
            assert blob.read_at(start + offset, length) == content[start + offset : start + offset + length]
        saved = blob.save()
        assert saved is not None
        read += below.bytes_read
    below = CountingBlob(content)
    HashedBlob(below, digest_of(content, algorithm), saved=saved).finish()
    assert read + below.bytes_read == len(content)
    with pytest.raises(CorruptDiskError):
        HashedBlob(MemoryBlob(content), Digest(algorithm, digest_of(b"", algorithm).value), saved=saved).finish()


def test_another_process_goes_on_with_a_digest() -> None:
    content = random.Random(4).randbytes(100_001)
    blob = HashedBlob(MemoryBlob(content), digest_of(content))
    blob.read_at(0, 70_001)
    program = (
        "import sys; from vmferry.appliances._running_digest import RunningDigest; "
        "data = sys.stdin.buffer.read(); state = RunningDigest('sha256', data[:112]); state.update(data[112:]); "
        "print(state.digest().hex())"
    )
    saved = blob.save()
    assert saved is not None
    given_ = saved[8:] + content[70_001:]
    done = subprocess.run([sys.executable, "-c", program], input=given_, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().strip() == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("saved", [b"", bytes(8), bytes(8 + 96), bytes(7)])
def test_a_state_that_is_none_counts_as_nothing(saved: bytes) -> None:
    content = random.Random(5).randbytes(5000)
    HashedBlob(MemoryBlob(content), digest_of(content), saved=saved).finish()


def test_without_openssl_s_library_the_digest_is_taken_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    content = random.Random(6).randbytes(5000)
    blob = HashedBlob(MemoryBlob(content), digest_of(content))
    blob.read_at(0, 3000)
    saved = blob.save()
    monkeypatch.setattr(_running_digest, "_find_library", lambda: None)
    other = HashedBlob(MemoryBlob(content), digest_of(content), saved=saved)
    assert other.save() is None
    other.finish()
    with pytest.raises(ValueError, match="sha256"):
        _running_digest.RunningDigest("sha256", saved)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1 << 30), st.sampled_from([2, 4, 8]), st.sampled_from([0, 5000, 40_000]), st.booleans())
def test_threads_in_any_order_give_the_digest(seed: int, threads: int, window: int, shuffled: bool) -> None:
    chance = random.Random(seed)
    content = chance.randbytes(200_000)
    jobs = list(pieces(len(content), 3000))
    if shuffled:
        chance.shuffle(jobs)
    blob = HashedBlob(MemoryBlob(content), digest_of(content), window=window)
    with ThreadPoolExecutor(threads) as pool:
        assert all(
            data == content[start : start + length]
            for (start, length), data in zip(jobs, pool.map(lambda job: blob.read_at(*job), jobs), strict=True)
        )
    blob.finish()


def test_threads_that_leave_gaps_do_not_cost_a_second_pass() -> None:
    """Every 64 KiB there are 512 bytes that no reader wants: markers between grains. Little more is read besides."""
    content = random.Random(5).randbytes(8 << 20)
    jobs = [(start + 512, length - 512) for start, length in pieces(len(content), 64 * KIB)]
    below = CountingBlob(content)
    blob = HashedBlob(below, digest_of(content), window=1 << 20)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda job: blob.read_at(*job), jobs))
    blob.finish()
    assert below.bytes_read <= len(content) * 1.25  # a thread that is not yet there is taken for one that never comes


def test_a_reader_far_ahead_waits_for_the_one_at_the_frontier() -> None:
    """A slow read at the frontier is waited for when the window is full, not read a second time."""
    content = random.Random(6).randbytes(100_000)
    go_on = threading.Event()
    started = threading.Event()

    class SlowAtFirst(CountingBlob):
        def read_at(self, offset: int, length: int) -> bytes:
            if offset == 0:
                started.set()
                assert go_on.wait(20)
            return super().read_at(offset, length)

    below = SlowAtFirst(content)
    blob = HashedBlob(below, digest_of(content), window=20_000)
    first = threading.Thread(target=blob.read_at, args=(0, 10_000))
    first.start()
    assert started.wait(20)
    rest = threading.Thread(target=lambda: [blob.read_at(*job) for job in list(pieces(len(content), 10_000))[1:]])
    rest.start()
    busy = time.process_time()
    rest.join(0.3)
    assert rest.is_alive()
    assert time.process_time() - busy < 0.2  # it waits, it does not spin
    assert below.bytes_read == 30_000  # two wait in the window, the third for room in it
    go_on.set()
    first.join(20)
    rest.join(20)
    assert not rest.is_alive()
    blob.finish()
    assert below.bytes_read == len(content)


def test_a_read_that_fails_sets_those_who_wait_free() -> None:
    content = random.Random(7).randbytes(100_000)
    go_on = threading.Event()
    started = threading.Event()

    class FailsAtFirst(MemoryBlob):
        failed = False

        def read_at(self, offset: int, length: int) -> bytes:
            if offset == 0 and not self.failed:
                self.failed = True
                started.set()
                assert go_on.wait(20)
                raise StoreUnavailableError("away")
            return super().read_at(offset, length)

    blob = HashedBlob(FailsAtFirst(content), digest_of(content), window=0)
    errors: list[Exception] = []

    def read_first() -> None:
        try:
            blob.read_at(0, 10_000)
        except StoreUnavailableError as error:
            errors.append(error)

    first = threading.Thread(target=read_first)
    first.start()
    assert started.wait(20)
    other = threading.Thread(target=blob.read_at, args=(50_000, 10_000))
    other.start()
    other.join(0.1)
    assert other.is_alive()
    go_on.set()
    first.join(20)
    other.join(20)
    assert errors
    assert not other.is_alive()
    blob.finish()


def test_bytes_that_change_between_two_reads_count_as_they_were_read_first() -> None:
    """What is digested is what was handed out: a reader and the digest never see different bytes of one read."""
    content = b"first" * 1000

    class Changing(MemoryBlob):
        reads = 0

        def read_at(self, offset: int, length: int) -> bytes:
            self.reads += 1
            data = super().read_at(offset, length)
            return data if self.reads == 1 else bytes(length)

    blob = HashedBlob(Changing(content), digest_of(content))
    assert blob.read_at(0, len(content)) == content
    blob.finish()


def test_a_copied_vmdk_is_digested_in_the_same_pass(tmp_path: Path) -> None:
    """The reader of a real streamOptimized VMDK leaves little of the file for the end."""
    raw = tmp_path / "disk.raw"
    chance = random.Random(8)
    with raw.open("wb") as disk:
        disk.truncate(96 << 20)
        for place in range(0, 96, 3):
            disk.seek(place << 20)
            disk.write(chance.randbytes(900_000))
    path = tmp_path / "disk.vmdk"
    command = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, path]
    subprocess.run([str(word) for word in command], check=True)
    content = path.read_bytes()
    below = CountingBlob(content)
    hashed = HashedBlob(below, digest_of(content), window=4 << 20)
    disk_image = open_disk(hashed)
    jobs = [(e.start + at, size) for e in disk_image.extents() for at, size in pieces(e.length, 4 << 20)]
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(lambda job: len(disk_image.read_at(*job)), jobs):
            pass
    before = below.bytes_read
    hashed.finish()
    assert below.bytes_read - before < 2 << 20
    assert below.bytes_read < len(content) * 1.1 + (2 << 20)
