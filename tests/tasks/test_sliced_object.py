"""An object that is made in slices is the one that is written in one go, whoever makes which slice, or dies."""

from __future__ import annotations

import random
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.convert.dying import Killed, Mortal, Platter
from tests.stores.fake_multipart import FakeBucket, FakeMultipart
from vmferry.blob import Buffer
from vmferry.convert import copy, plan_slices
from vmferry.convert import journal as journal_module
from vmferry.disk import Disk
from vmferry.errors import StoreError, TaskCancelledError
from vmferry.extent import Extent, ExtentKind
from vmferry.formats import FORMATS, SupportsCreate
from vmferry.stores.memory import MemoryStore
from vmferry.tasks.export_image import sliced_object
from vmferry.tasks.export_image.listener import Listener
from vmferry.tasks.export_image.packer import Ends, new_packer
from vmferry.tasks.export_image.parts import ObjectView, Segment, StoppedError, ViewStream
from vmferry.tasks.export_image.plan import ExportPlan, PlanLostError, load_plan, plan_export, with_upload
from vmferry.tasks.export_image.sliced_object import SlicedObject
from vmferry.tasks.export_image.slices import GuestSlices, open_slices
from vmferry.units import GIB, KIB, MIB, TIB

KINDS = ["raw", "vmdk", "vhd", "vhdx"]


class SpreadDisk:
    """A disk whose MiB lie far apart, with holes between."""

    def __init__(self, pieces: list[bytes], stride: int, size: int) -> None:
        """Piece ``n`` lies at MiB ``n * stride``."""
        self._pieces = {number * stride: piece for number, piece in enumerate(pieces)}
        self.size = size

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        end = self.size if end is None else end
        position = start
        while position < end:
            number = position // MIB
            stop = min((number + 1) * MIB, end)
            yield Extent(position, stop - position, ExtentKind.DATA if number in self._pieces else ExtentKind.HOLE)
            position = stop

    def read_at(self, offset: int, length: int) -> Buffer:
        parts = []
        while length:
            number, inside = divmod(offset, MIB)
            taken = min(length, MIB - inside)
            parts.append(self._pieces.get(number, bytes(MIB))[inside : inside + taken])
            offset, length = offset + taken, length - taken
        return b"".join(parts)

    def close(self) -> None: ...


@st.composite
def disks(draw: st.DrawFn) -> SpreadDisk:
    """Up to six MiB, of zeros, of words or of chance, near to each other or not; the end lies inside a block."""
    chance = random.Random(draw(st.integers(0, 1000)))
    made = {
        "zeros": lambda: bytes(MIB),
        "words": lambda: (b"words %d " % chance.getrandbits(40)).ljust(64) * (MIB // 64),
        "chance": lambda: chance.randbytes(MIB),
        "few": lambda: (bytes(200 * KIB) + chance.randbytes(70_000)).ljust(MIB, b"\0"),
    }
    kinds = draw(st.lists(st.sampled_from(sorted(made)), max_size=6))
    stride = draw(st.sampled_from([1, 3, 16]))
    return SpreadDisk([made[kind]() for kind in kinds], stride, max(len(kinds), 1) * stride * MIB + 1536)


def make_plan(disk: Disk, name: str, part: int, data: int) -> ExportPlan:
    """Slices of about ``data`` bytes, in parts of ``part`` bytes."""
    packer = new_packer(name, Ends(0, 0), disk)
    plan = plan_export(disk, "this one", packer)
    if packer is None:
        step = max(data // part, 1) * part
        ends = [(start, min(start + step, disk.size)) for start in range(0, disk.size, step)]
        slices = [replace(plan.slices[0], start=start, end=end, data=end - start) for start, end in ends]
    else:
        slices = plan_slices(disk.extents(), disk.size, packer.granularity, target=data, unit=packer.slice_unit)
    return replace(plan, part=part, slices=tuple(slices), upload="upload-1")


def in_one_go(disk: Disk, name: str) -> bytes:
    store = MemoryStore()
    maker = FORMATS[name]
    assert isinstance(maker, SupportsCreate)
    writer = maker.create(store.create("disks", "one"), disk.size, disk.extents())
    copy(disk, writer, workers=1)
    writer.finish()
    whole = store.open("disks", "one")
    return whole.read_at(0, whole.size)


class Worker:
    """What a worker process does with one step of an export."""

    def __init__(self, disk: Disk, name: str, plan: ExportPlan, folder: Path, bucket: FakeBucket) -> None:
        self.disk, self.name, self.plan, self.folder, self.bucket = disk, name, plan, folder, bucket
        self.progress = 0

    def do(self, number: int, mortal: Mortal | None = None) -> None:
        """Write a slice; the number behind the last one is that of the end."""
        multipart = FakeMultipart(self.bucket, (lambda: None) if mortal is None else mortal.step)
        listener = Listener(self._moved, threading.Event())
        slices = open_slices(self.folder, self.plan, self.disk, self.name, listener)
        made = SlicedObject(self.plan, self.folder, slices, multipart, listener)
        if number < len(self.plan.slices):
            made.write_slice(number)
        else:
            made.finish(lambda size: self.bucket.object is not None and len(self.bucket.object) == size)

    def _moved(self, more: int) -> None:
        assert more >= 0
        self.progress += more

    def kept(self) -> list[Path]:
        """What lies here of slices."""
        return [*self.folder.glob("slice-*"), *self.folder.glob(".slice-*")]


deaths_of_steps = st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["", "lost", "power"])), max_size=5)
"""When workers die, and what goes with them: what was packed, or what was not made durable."""


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    disk=disks(),
    name=st.sampled_from(KINDS),
    part=st.sampled_from([64 * KIB, 192 * KIB + 512, MIB]),
    held=st.sampled_from([0, 16 * MIB]),
    data=st.sampled_from([1, 2 * MIB, 5 * MIB]),
    chance=st.randoms(use_true_random=False),
    deaths=deaths_of_steps,
)
def test_whoever_dies_the_object_is_the_one_of_one_pass(
    disk: SpreadDisk,
    name: str,
    part: int,
    held: int,
    data: int,
    chance: random.Random,
    deaths: list[tuple[float, str]],
) -> None:
    plan = make_plan(disk, name, part, data)
    bucket = FakeBucket(part)
    bucket.uploads["upload-1"] = {}
    steps = list(range(len(plan.slices)))
    chance.shuffle(steps)
    steps.append(len(plan.slices))
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(journal_module, "STEPS", 10**9),
        patch.object(journal_module, "_BOOT_ID", Path(folder) / "boot"),
        patch.object(sliced_object, "MAX_HELD", held),
    ):
        own = Path(folder) / "plan"
        own.mkdir()
        (Path(folder) / "boot").write_text("first")
        worker = Worker(disk, name, plan, own, bucket)
        left = list(deaths)
        for step in steps:
            while left and chance.random() < 0.7:
                when, loss = left.pop()
                mortal = Mortal(Platter(), int(when * 60) + 1)
                with mortal.living(), suppress(Killed):
                    worker.do(step, mortal)
                if loss:
                    for path in worker.kept():
                        path.unlink() if loss == "lost" else path.write_bytes(b"")
                if loss == "power":
                    (Path(folder) / "boot").write_text(f"{len(left)}")
            worker.do(step)
    assert bucket.object == in_one_go(disk, name)
    assert not bucket.uploads


def words(count: int) -> list[bytes]:
    return [random.Random(number).randbytes(MIB) for number in range(count)]


def begin(folder: Path, name: str, disk: Disk, part: int, data: int) -> Worker:
    """An export of which nothing is done yet."""
    bucket = FakeBucket(part)
    bucket.uploads["upload-1"] = {}
    return Worker(disk, name, make_plan(disk, name, part, data), folder, bucket)


@pytest.mark.parametrize("name", KINDS)
def test_workers_that_work_at_once_make_one_object(tmp_path: Path, name: str) -> None:
    stride = 1 if name == "raw" else 16
    disk = SpreadDisk(words(12), stride, 12 * stride * MIB + 512)
    worker = begin(tmp_path, name, disk, 192 * KIB, MIB)
    count = len(worker.plan.slices)
    assert count > 3
    errors: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for number in range(first, count, 3):
                Worker(disk, name, worker.plan, tmp_path, worker.bucket).do(number)
        except BaseException as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    worker.do(count)
    assert worker.bucket.object == in_one_go(disk, name)


@pytest.mark.parametrize("name", ["vmdk", "vhd", "vhdx"])
def test_what_was_packed_is_kept_only_until_it_is_sent_and_never_packed_twice(tmp_path: Path, name: str) -> None:
    disk = SpreadDisk(words(8), 32, 8 * 32 * MIB)
    worker = begin(tmp_path, name, disk, 256 * KIB, 1)
    kept = []
    for number in range(len(worker.plan.slices)):
        worker.do(number)
        kept.append(len(worker.kept()))
    assert max(kept) <= 3  # the first, which the header's part goes on in, the last, and one in between
    packed = worker.progress
    sent = len(worker.bucket.uploads["upload-1"])
    for number in range(len(worker.plan.slices)):
        worker.do(number)
    worker.do(len(worker.plan.slices))
    assert worker.progress == packed
    assert worker.bucket.object is not None
    assert sent >= len(worker.bucket.object) // (256 * KIB) - (16 if name == "vhdx" else 3)  # its front is large


def test_slices_are_gone_on_with_where_their_worker_died(tmp_path: Path) -> None:
    disk = SpreadDisk(words(16), 1, 16 * MIB)
    worker = begin(tmp_path, "vmdk", disk, MIB, 64 * MIB)
    mortal = Mortal(Platter(), 14)
    with mortal.living(), pytest.raises(Killed):
        worker.do(0, mortal)
    before, worker.progress = worker.progress, 0
    with patch.object(disk, "read_at", wraps=disk.read_at) as reads:
        worker.do(0)
    assert 0 < sum(call.args[1] for call in reads.call_args_list) < 16 * MIB
    assert worker.progress == 16 * MIB  # what was there first counts
    assert before


def test_a_part_in_s3_is_not_sent_again(tmp_path: Path) -> None:
    disk = SpreadDisk(words(8), 1, 8 * MIB)
    worker = begin(tmp_path, "raw", disk, MIB, 4 * MIB)
    mortal = Mortal(Platter(), 5)
    with suppress(Killed):
        worker.do(0, mortal)
    sent = set(worker.bucket.uploads["upload-1"])
    noted = len((tmp_path / "sent-0").read_text().splitlines())
    assert noted >= 1
    worker.progress = 0
    worker.do(0)
    assert worker.progress == (4 - noted) * MIB
    assert len(sent) - noted <= 2  # those that were on their way


def test_an_object_that_appeared_before_its_worker_died_is_taken_for_whole(tmp_path: Path) -> None:
    disk = SpreadDisk(words(1), 1, MIB)
    worker = begin(tmp_path, "raw", disk, MIB, MIB)
    worker.do(1)
    whole = worker.bucket.object
    worker.do(1)
    assert worker.bucket.object == whole
    worker.bucket.object = None
    with pytest.raises(StoreError, match="swept away"):
        worker.do(1)


def test_what_would_be_packed_otherwise_now_has_the_export_begin_anew(tmp_path: Path) -> None:
    disk = SpreadDisk(words(3), 32, 3 * 32 * MIB)
    worker = begin(tmp_path, "vmdk", disk, 8 * MIB, 1)
    worker.do(0)
    (tmp_path / "slice-0").unlink()
    worker.disk = SpreadDisk([bytes(MIB), *words(2)], 32, 3 * 32 * MIB)
    with pytest.raises(PlanLostError, match="begins anew"):
        worker.do(3)


def test_the_largest_disks_go_out_raw_in_parts_that_are_never_in_memory(tmp_path: Path) -> None:
    disk = SpreadDisk([], 1, 16 * TIB)
    plan = plan_export(disk, "this one", None)
    assert plan.part == 1678 * MIB
    assert len(plan.slices) <= 2000
    assert all(piece.start % plan.part == 0 for piece in plan.slices)
    assert plan.slices[-1].end == disk.size
    bodies: list[object] = []

    class Sender(FakeMultipart):
        def send(self, upload: str, number: int, data: object) -> str:
            bodies.append(data)
            return "etag"

    listener = Listener(lambda _: None, threading.Event())
    SlicedObject(plan, tmp_path, GuestSlices(plan, disk), Sender(FakeBucket(1)), listener).write_slice(1)
    assert {type(body) for body in bodies} == {ViewStream}
    with pytest.raises(StoreError, match="leaves empty space out"):
        plan_export(SpreadDisk([], 1, 60 * TIB), "this one", None)


@pytest.mark.parametrize("name", ["vmdk", "vhd", "vhdx"])
def test_packed_objects_have_no_more_parts_than_s3_takes(name: str) -> None:
    size = 2000 * GIB

    class Full(SpreadDisk):
        def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
            yield Extent(start, (self.size if end is None else end) - start, ExtentKind.DATA)

    disk = Full([], 1, size)
    plan = plan_export(disk, "this one", new_packer(name, Ends(0, 0), disk))
    assert 10_000 * plan.part >= size + size // 64
    assert len(plan.slices) <= 2000


def test_a_stream_is_read_as_often_as_is_asked_and_ends_when_it_is_told() -> None:
    content, stop = random.Random(5).randbytes(3 * MIB + 5), threading.Event()
    view = ObjectView([Segment(0, lambda offset, length: content[offset : offset + length])], len(content))
    stream = ViewStream(view, 3, len(content), lambda: None, stop)
    assert len(stream) == len(content) - 3
    for size in (-1, 100_000, 5 * MIB):
        stream.seek(0)
        assert b"".join(iter(partial(stream.read, size), b"")) == content[3:]
    assert (stream.seek(0, 2), stream.tell(), stream.read(5)) == (len(content) - 3, len(content) - 3, b"")
    assert (stream.seek(-5, 2), stream.read(9)) == (len(content) - 8, content[-5:])
    stop.set()
    with pytest.raises(StoppedError):
        stream.read(1)


@pytest.mark.parametrize("held", [0, 16 * MIB])
def test_a_step_that_is_told_to_end_sends_no_more(tmp_path: Path, held: int) -> None:
    disk = SpreadDisk(words(4), 1, 4 * MIB)
    plan = make_plan(disk, "raw", MIB, 4 * MIB)
    bucket, stop = FakeBucket(MIB), threading.Event()
    bucket.uploads["upload-1"] = {}
    listener = Listener(lambda more: stop.set() if more else None, stop)
    made = SlicedObject(plan, tmp_path, GuestSlices(plan, disk), FakeMultipart(bucket), listener)
    with patch.object(sliced_object, "MAX_HELD", held), pytest.raises(TaskCancelledError):
        made.write_slice(0)
    assert 1 <= len(bucket.uploads["upload-1"]) <= 2


def test_a_plan_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    assert load_plan(tmp_path) is None
    disk = SpreadDisk(words(2), 16, 32 * MIB)
    plan = with_upload(plan_export(disk, "this one", new_packer("vhd", Ends(0, 0), disk)), "upload-1")
    plan.save(tmp_path)
    assert load_plan(tmp_path) == plan
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    for damaged in (b"", b"{}", b"\0" * 100, (tmp_path / "plan.json").read_bytes()[:-9]):
        (tmp_path / "plan.json").write_bytes(damaged)
        assert load_plan(tmp_path) is None
