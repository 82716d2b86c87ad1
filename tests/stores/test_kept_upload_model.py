"""A kept upload, killed before any of its operations and gone on with: the object is what the last process placed."""

from __future__ import annotations

import errno
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.convert.dying import Killed, Mortal, Platter
from tests.stores.fake_multipart import FakeBucket, FakeMultipart
from tests.stores.interleaving import before_the_next_lock
from vmferry.errors import StoreError
from vmferry.stores import _s3_upload
from vmferry.stores._s3_client import Multipart
from vmferry.stores._s3_kept_upload import KeptUpload
from vmferry.stores._s3_upload import S3Upload

PART = 64
BUDGET = 16 * PART
HEADER = 24
"""Bytes in front that are written last."""


def keep(bucket: FakeBucket, folder: Path, step: Callable[[], None] = lambda: None, budget: int = BUDGET) -> KeptUpload:
    return KeptUpload(cast("Multipart", FakeMultipart(bucket, step)), "s3://bucket/key", folder, budget)


class Notes:
    """What is written down of an upload: the upload's own note, and where the pieces before it were placed."""

    def __init__(self) -> None:
        self.upload: str | None = None
        self.complete = 0
        self.placed: list[tuple[int, bytes]] = []


class Process:
    """One that places pieces one behind another, as a writer that packs does, or each at a place of its own."""

    def __init__(
        self,
        bucket: FakeBucket,
        folder: Path,
        notes: Notes,
        mortal: Mortal,
        lengths: list[int],
        seed: int,
        *,
        packs: bool,
    ) -> None:
        """``seed`` decides how the pieces of this process look where it ``packs``, and in which order it writes."""
        self._notes = notes
        self._mortal = mortal
        self._chance = random.Random(seed)
        self._packs = packs
        self._upload = keep(bucket, folder, mortal.step, self._chance.choice([BUDGET, 4 * BUDGET]))
        self._placed: list[tuple[int, bytes]] = []
        self._pieces = [self._content(number, length) for number, length in enumerate(lengths)]

    def run(self) -> bytes:
        """Do all, and answer what the object must hold."""
        with self._mortal.living():
            try:
                self._begin()
                while len(self._placed) < len(self._pieces):
                    self._write_some()
                end = self._finish()
            except Killed:
                self.die()
                raise
        whole = bytearray(end)
        for start, data in [(0, b"H" * HEADER), *self._placed]:
            whole[start : start + len(data)] = data
        return bytes(whole)

    def die(self) -> None:
        """The kernel closes its files."""
        with suppress(OSError):
            self._upload.detach()

    def _content(self, number: int, length: int) -> bytes:
        if not self._packs:
            return random.Random(number).randbytes(length)
        return self._chance.randbytes(max(length + self._chance.choice([0, 0, -1, 20, -40]), 1))

    def _begin(self) -> None:
        if self._notes.upload is not None and self._upload.is_there(json.loads(self._notes.upload)):
            self._upload.restore(json.loads(self._notes.upload))
            self._placed = self._notes.placed[: self._notes.complete]
        else:
            self._notes.upload = None
            self._upload.begin()

    def _write_some(self) -> None:
        """Place a few pieces, write them in any order, and take note now and then."""
        first = len(self._placed)
        for number in range(first, min(first + self._chance.randint(1, 4), len(self._pieces))):
            start = self._place()
            self._placed.append((start, self._pieces[number]))
            if self._packs:
                self._upload.reached = number + 1
        order = list(range(first, len(self._placed)))
        self._chance.shuffle(order)
        written: set[int] = set()
        for number in order:
            self._upload.write_at(*self._placed[number])
            written.add(number)
            complete = next(
                (other for other in range(first, len(self._placed)) if other not in written), len(self._placed)
            )
            if self._chance.random() < 0.5:
                self._take_note(complete)

    def _place(self) -> int:
        if not self._placed:
            return HEADER
        start, data = self._placed[-1]
        return start + len(data)

    def _take_note(self, complete: int) -> None:
        note: dict[str, Any] = self._upload.note(complete)
        self._mortal.step()
        self._notes.upload, self._notes.complete, self._notes.placed = json.dumps(note), complete, list(self._placed)
        self._upload.saved()

    def _finish(self) -> int:
        end = self._place()
        self._upload.write_at(0, b"H" * HEADER)
        self._upload.set_size(end)
        self._upload.finish()
        return end


@settings(deadline=None, max_examples=300)
@given(
    lengths=st.lists(st.integers(1, 150), max_size=30),
    packs=st.booleans(),
    deaths=st.lists(st.integers(1, 120), max_size=5),
    seeds=st.lists(st.integers(0, 10**6), min_size=6, max_size=6),
)
@example([85, 1, 30, 1], True, [8], [5716, 0, 0, 0, 0, 0])
@example([93, 64, 25, 12], True, [13], [5716, 0, 0, 0, 0, 0])
def test_whenever_it_dies_the_object_is_what_the_last_one_placed(
    lengths: list[int], packs: bool, deaths: list[int], seeds: list[int]
) -> None:
    bucket, notes, platter = FakeBucket(PART), Notes(), Platter()
    with tempfile.TemporaryDirectory() as name, patch.object(_s3_upload, "MIN_PART", PART):
        folder = Path(name) / "kept"
        for number, dies_at in enumerate([*deaths, None]):
            mortal = Mortal(platter, dies_at)
            with suppress(Killed):
                process = Process(bucket, folder, notes, mortal, lengths, seeds[number], packs=packs)
                wanted = process.run()
                break
        assert bucket.object == wanted
        assert not folder.exists()
        left = len(bucket.uploads)
    assert left <= len(deaths), "at most one that was begun when its process died, and never told"


def test_what_was_noted_before_anything_was_placed_anew_is_not_settled(tmp_path: Path) -> None:
    bucket = FakeBucket(PART)
    with patch.object(_s3_upload, "MIN_PART", PART):
        note = ""
        for number in range(3):
            upload = keep(bucket, tmp_path / "kept")
            if number:
                upload.restore(json.loads(note))
            else:
                upload.begin()
                upload.reached = 2
                upload.write_at(0, b"a" * PART)
            note = json.dumps(upload.note(1))
            upload.saved()
            assert json.loads(note)["settled"] == {}
            upload.detach()
        upload = keep(bucket, tmp_path / "kept")
        upload.restore(json.loads(note))
        upload.write_at(0, b"b" * PART)
        upload.finish()
    assert bucket.object == b"b" * PART


def held(upload: KeptUpload) -> int:
    """Bytes in parts that are being filled."""
    return sum(len(part.data) for part in upload._open.values())


def test_an_upload_that_is_gone_on_with_takes_the_memory_that_it_has_then(tmp_path: Path) -> None:
    bucket = FakeBucket(PART)
    large = 1000 * PART + 1000 * 2 * PART
    """Where the parts begin that are as large as the first upload's memory lets them be."""
    with patch.object(_s3_upload, "MIN_PART", PART):
        upload = keep(bucket, tmp_path / "kept")
        upload.begin()
        for number in range(12):
            upload.write_at(number * PART, b"a")
        upload.write_at(large, b"b" * PART)
        note = json.dumps(upload.note(0))
        upload.detach()
        upload = keep(bucket, tmp_path / "kept", budget=4 * PART)
        assert upload.is_there(json.loads(note))
        upload.restore(json.loads(note))
        for number in range(12, 24):
            upload.write_at(number * PART, b"a")
        assert held(upload) <= 4 * PART + 4 * PART + PART, "the large part that was there, what it may, and the first"
        upload.write_at(large + PART, b"c" * 7 * PART)
        assert json.loads(json.dumps(upload.note(0)))["budget"] == BUDGET
        upload.finish()
    assert bucket.object is not None
    assert bucket.object[large:] == b"b" * PART + b"c" * 7 * PART
    assert bucket.object[: 24 * PART] == b"a".ljust(PART, b"\0") * 24


def test_an_upload_that_was_begun_with_too_little_memory_says_how_to_begin_anew(tmp_path: Path) -> None:
    bucket = FakeBucket(PART)
    with patch.object(_s3_upload, "MIN_PART", PART):
        upload = keep(bucket, tmp_path / "kept")
        upload.begin()
        with pytest.raises(StoreError, match="give it more, or"):
            upload.set_size(1 << 30)
        note = json.loads(json.dumps(upload.note(0)))
        upload.detach()
        upload = keep(bucket, tmp_path / "kept", budget=4 * BUDGET)
        upload.restore(note)
        with pytest.raises(
            StoreError, match=r"with 1 KiB of memory can send: it was begun with that, remove the notes .*resume to"
        ):
            upload.set_size(1 << 30)
        upload.abort()


def test_a_part_that_the_kernel_could_not_write_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = FakeBucket(PART)
    with patch.object(_s3_upload, "MIN_PART", PART):
        upload = keep(bucket, tmp_path / "kept")
        upload.begin()
        upload.write_at(0, b"half")
        note = json.loads(json.dumps(upload.note(0)))
        upload.detach()
        upload = keep(bucket, tmp_path / "kept")
        assert upload.is_there(note)
        monkeypatch.setattr(os, "fsync", _fail)
        assert not upload.is_there(note)
        upload.begin()
        upload.abort()


def _fail(_: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_two_that_write_to_a_part_on_its_way_both_find_it_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, here, go_on, both = FakeBucket(PART), threading.Event(), threading.Event(), threading.Barrier(2)
    real = os.pwrite

    def step() -> None:
        if threading.current_thread().name == "sender":
            here.set()
            go_on.wait(10)

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if threading.current_thread().name != "sender":
            both.wait(5)
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with patch.object(_s3_upload, "MIN_PART", PART):
        upload = keep(bucket, tmp_path / "kept", step)
        upload.begin()
        sender = threading.Thread(target=upload.write_at, args=(0, b"a" * PART), name="sender")
        sender.start()
        assert here.wait(10)
        with ThreadPoolExecutor(2) as pool:
            others = [pool.submit(upload.write_at, 0, b"b" * 32), pool.submit(upload.write_at, 32, b"c" * 32)]
            while len(upload._changed._waiters) < 2:  # type: ignore[attr-defined]
                time.sleep(0.001)
            go_on.set()
            for other in others:
                other.result()
        sender.join()
        upload.finish()
    assert bucket.object == b"b" * 32 + b"c" * 32


def test_a_folder_that_another_process_leaves_just_now_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = FakeBucket(PART)
    first = keep(bucket, tmp_path / "kept")
    first.begin()
    first.write_at(0, b"whole")
    before_the_next_lock(monkeypatch, first.finish)
    second = keep(bucket, tmp_path / "kept")
    with pytest.raises(StoreError, match="Another process writes"):
        keep(bucket, tmp_path / "kept")
    second.begin()
    second.abort()
    assert bucket.object == b"whole"
    assert not list(tmp_path.iterdir())
    assert not bucket.uploads


def test_an_upload_whose_id_the_power_took_is_begun_anew(tmp_path: Path) -> None:
    bucket = FakeBucket(PART)
    first = keep(bucket, tmp_path / "kept")
    first.begin()
    first.detach()
    (tmp_path / "kept" / "id").write_text("")
    second = keep(bucket, tmp_path / "kept")
    second.begin()
    second.set_size(1)
    second.finish()
    assert bucket.object == b"\0"


def test_empty_parts_have_their_own_length_whatever_others_are_sent_meanwhile() -> None:
    class Raced(S3Upload):
        """Whenever it has made zeros, another thread wants more of them."""

        @property
        def _zeros(self) -> bytes:
            return self._made

        @_zeros.setter
        def _zeros(self, zeros: bytes) -> None:
            self._made = zeros
            if len(zeros) == PART:
                self._zero_part(2 * PART)

    upload = Raced(cast("Multipart", FakeMultipart(FakeBucket(PART))), "s3://bucket/key")
    assert len(upload._zero_part(PART)) == PART
