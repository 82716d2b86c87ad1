"""A conversion that dies at any moment and is gone on with makes what one that lived makes, byte for byte."""

from __future__ import annotations

import errno
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.convert.dying import Killed, Mortal, Platter
from tests.stores.fake_multipart import FakeBucket, FakeMultipart
from vmferry.blob import Buffer, FileBlob, KeptBlobWriter
from vmferry.convert import digest_disk
from vmferry.convert import journal as journal_module
from vmferry.convert.journal import Journal, copy_rest
from vmferry.convert.placements import Placements
from vmferry.digest import DigestTree
from vmferry.errors import OutOfSpaceError
from vmferry.extent import Extent, ExtentKind, clip
from vmferry.formats import FORMATS, SupportsCreate, WriteOptions
from vmferry.stores import _s3_upload
from vmferry.stores._s3_client import Multipart
from vmferry.stores._s3_kept_upload import KeptUpload
from vmferry.stores.local import resume_file
from vmferry.units import KIB, MIB

pytestmark = pytest.mark.slow

KINDS = [
    ("raw", None),
    ("qcow2", None),
    ("qcow2", "zlib"),
    ("qcow2", "zstd"),
    ("vmdk", None),
    ("vmdk", "monolithicSparse"),
    ("vhd", "dynamic"),
    ("vhd", "fixed"),
    ("vhdx", "dynamic"),
    ("vdi", "dynamic"),
]


class ShownDisk:
    """A disk with given bytes, and a map that says DATA where it likes, over zeros too."""

    def __init__(self, data: bytes, holes: set[int]) -> None:
        """``holes`` are numbers of MiB that are zeros, and that the map calls so."""
        self._data = data
        self.size = len(data)
        self._extents: list[Extent] = []
        for number in range(-(-self.size // MIB)):
            kind = ExtentKind.HOLE if number in holes else ExtentKind.DATA
            start, end = number * MIB, min((number + 1) * MIB, self.size)
            if self._extents and self._extents[-1].kind is kind:
                start = self._extents.pop().start
            self._extents.append(Extent(start, end - start, kind))

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        return clip(self._extents, start, self.size if end is None else end)

    def read_at(self, offset: int, length: int) -> Buffer:
        return self._data[offset : offset + length]

    def close(self) -> None:
        pass


@st.composite
def disks(draw: st.DrawFn) -> ShownDisk:
    """Up to twelve MiB, each of zeros, mapped or not, of words or of chance; the last one is cut short."""
    pieces = draw(st.lists(st.sampled_from(["hole", "zeros", "words", "chance", "few"]), min_size=1, max_size=12))
    chance = random.Random(draw(st.integers(0, 1000)))
    content = {
        "hole": lambda: bytes(MIB),
        "zeros": lambda: bytes(MIB),
        "words": lambda: (b"words %d " % chance.getrandbits(40)).ljust(64) * (MIB // 64),
        "chance": lambda: chance.randbytes(MIB),
        "few": lambda: (bytes(200 * KIB) + chance.randbytes(70_000)).ljust(MIB, b"\0"),
    }
    data = b"".join(content[piece]() for piece in pieces)
    cut = draw(st.integers(0, MIB // 512 - 1)) * 512
    return ShownDisk(data[: len(data) - cut], {number for number, piece in enumerate(pieces) if piece == "hole"})


def convert(
    disk: ShownDisk,
    path: Path,
    kind: tuple[str, str | None],
    workers: int,
    name: str = "this one",
    progress: Callable[[int], None] = lambda _: None,
) -> str:
    """As ``convert --resume --digest`` of the disk ``name`` into a file; answers the digest."""
    target = resume_file(path)
    try:
        return make(disk, path, target, kind, workers, name, progress)
    except KeyboardInterrupt:
        target.detach()
        raise
    except Killed:
        if target._fd >= 0:
            os.close(target._fd)  # as the kernel does
        raise


def upload(bucket: FakeBucket, mortal: Mortal, disk: ShownDisk, folder: Path, kind: tuple[str, str | None]) -> str:
    """The same into S3."""
    multipart = cast("Multipart", FakeMultipart(bucket, mortal.step))
    target = KeptUpload(multipart, "s3://bucket/key", folder, 4 * MIB)
    try:
        return make(disk, folder / "upload", target, kind, 2)
    except Killed:
        target.detach()
        raise


def make(
    disk: ShownDisk,
    path: Path,
    target: KeptBlobWriter,
    kind: tuple[str, str | None],
    workers: int,
    name: str = "this one",
    progress: Callable[[int], None] = lambda _: None,
) -> str:
    tree = DigestTree(disk.size)
    journal = Journal(path, {"disk": name}, target, tree)
    if not journal.offset:
        target.begin()
    maker = FORMATS[kind[0]]
    assert isinstance(maker, SupportsCreate)
    writer = maker.create(target, disk.size, disk.extents(), WriteOptions(kind[1]))
    copy_rest(disk, writer, journal, 100 * MIB, workers=workers, progress=progress, digest=tree)
    writer.finish()
    journal.remove()
    return tree.finish()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def digest_of(path: Path) -> str:
    disk = FORMATS["qcow2"].open(FileBlob(path))
    try:
        return digest_disk(disk)
    finally:
        disk.close()


deaths_of_processes = st.lists(
    st.tuples(st.floats(0, 1), st.booleans(), st.booleans(), st.integers(0, 1000)), min_size=1, max_size=4
)
"""When each dies, whether it flushes with each note, and whether the power is cut then, by what chance."""


@settings(deadline=None, max_examples=25)
@given(disk=disks(), kind=st.sampled_from(KINDS), workers=st.sampled_from([1, 3]), deaths=deaths_of_processes)
def test_whenever_it_dies_and_the_power_with_it_the_file_is_the_same(
    disk: ShownDisk, kind: tuple[str, str | None], workers: int, deaths: list[tuple[float, bool, bool, int]]
) -> None:
    with tempfile.TemporaryDirectory() as name, patch.object(journal_module, "STEPS", 10**9):
        whole, path, boot = Path(name) / "whole", Path(name) / "killed" / "whole", Path(name) / "boot"
        path.parent.mkdir()
        platter = Platter()
        lived = Mortal(platter)
        with lived.living():
            digest = convert(disk, whole, kind, workers)
        with patch.object(journal_module, "_BOOT_ID", boot):
            for number, (share, flushes, power, seed) in enumerate(deaths):
                boot.write_text(str(number) if power or not number else boot.read_text())
                mortal = Mortal(platter, int(share * lived.count) + 1)
                seconds = patch.object(journal_module, "_SYNC_SECONDS", 0 if flushes else 10)
                with seconds, mortal.living(), suppress(Killed):
                    convert(disk, path, kind, workers)
                if power and not path.exists():
                    platter.cut_power(path.parent, random.Random(seed))
                    boot.write_text(f"{number} was cut")
            assert convert(disk, path, kind, workers) == digest
        if kind == ("qcow2", None):  # zeros may lie in it where there were holes
            assert digest_of(path) == digest
        else:
            assert path.read_bytes() == whole.read_bytes()
        assert [entry.name for entry in path.parent.iterdir()] == ["whole"]


@settings(deadline=None, max_examples=25)
@given(disk=disks(), kind=st.sampled_from(KINDS), deaths=st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_whenever_an_upload_dies_the_object_is_the_same(
    disk: ShownDisk, kind: tuple[str, str | None], deaths: list[float]
) -> None:
    small = patch.object(_s3_upload, "MIN_PART", 256 * KIB)
    with tempfile.TemporaryDirectory() as name, patch.object(journal_module, "STEPS", 10**9), small:
        whole, killed, platter = FakeBucket(256 * KIB), FakeBucket(256 * KIB), Platter()
        lived = Mortal(platter)
        with lived.living():
            digest = upload(whole, lived, disk, Path(name) / "whole", kind)
        for share in deaths:
            mortal = Mortal(platter, int(share * lived.count) + 1)
            with mortal.living(), suppress(Killed):
                upload(killed, mortal, disk, Path(name) / "killed", kind)
        assert upload(killed, Mortal(platter), disk, Path(name) / "killed", kind) == digest
        assert killed.object == whole.object
        assert not list(Path(name).iterdir())


def test_notes_that_are_not_believed_once_are_never_believed(tmp_path: Path) -> None:
    one, other = ShownDisk(b"1" * 20 * MIB, set()), ShownDisk(b"2" * 20 * MIB, set())
    path, platter = tmp_path / "out", Platter()
    with patch.object(journal_module, "STEPS", 10**9), Mortal(platter, 12).living(), suppress(Killed):
        convert(one, path, ("raw", None), 1)
    os.truncate(tmp_path / ".out.partial", 1000)
    with patch.object(journal_module, "STEPS", 5), Mortal(platter, 12).living(), suppress(Killed):
        convert(other, path, ("raw", None), 1, "another one")  # it has noted nothing when it dies
    convert(one, path, ("raw", None), 1)
    assert path.read_bytes() == one.read_at(0, one.size)


def test_a_conversion_that_fails_leaves_no_file_open(tmp_path: Path) -> None:
    disk = ShownDisk(b"1" * 20 * MIB, set())
    before = open_files()
    with patch.object(journal_module, "STEPS", 10**9), Mortal(Platter(), 12).living(), suppress(Killed):
        convert(disk, tmp_path / "out", ("vhd", "dynamic"), 1)
    assert (tmp_path / ".out.placed").exists()
    assert open_files() == before


def test_what_another_version_has_begun_is_begun_anew(tmp_path: Path) -> None:
    disk, path = ShownDisk(b"words of it " * (2 * MIB), set()), tmp_path / "out"
    with patch.object(journal_module, "STEPS", 10**9), Mortal(Platter(), 60).living(), suppress(Killed):
        convert(disk, path, ("qcow2", "zlib"), 1)
    target = resume_file(path)
    assert Journal(path, {"disk": "this one"}, target, DigestTree(disk.size)).offset > 0
    with patch.object(journal_module, "_makers", lambda: ["another version"]):
        assert Journal(path, {"disk": "this one"}, target, DigestTree(disk.size)).offset == 0
    target.abort()


@pytest.mark.parametrize("kind", [("raw", None), ("vhd", "dynamic")])
def test_what_the_kernel_could_not_write_is_not_taken_for_written(
    tmp_path: Path, kind: tuple[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, path = ShownDisk(random.Random(1).randbytes(20 * MIB), set()), tmp_path / "out"
    real, done = os.fdatasync, 0

    def interrupt(more: int) -> None:
        nonlocal done
        done += more
        if done > 12 * MIB:
            raise KeyboardInterrupt

    def fdatasync(fd: int) -> None:  # as on a file system of a network that is full: it took more than it can hold
        monkeypatch.setattr(os, "fdatasync", real)
        os.truncate(fd, MIB)
        os.truncate(fd, 20 * MIB)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    with patch.object(journal_module, "STEPS", 10**9), pytest.raises(OutOfSpaceError):
        convert(disk, path, kind, 1, progress=interrupt)
    convert(disk, path, kind, 1)
    whole = tmp_path / "whole"
    convert(disk, whole, kind, 1)
    assert path.read_bytes() == whole.read_bytes()


def test_notes_of_what_was_placed_are_found_again_after_a_power_cut(tmp_path: Path, synced: list[Path]) -> None:
    placements = Placements(tmp_path / "placed")
    placements.add(MIB, b"note")
    placements.save(MIB)
    placements.flush()
    assert synced == [tmp_path / "placed", tmp_path]
    placements.remove()
