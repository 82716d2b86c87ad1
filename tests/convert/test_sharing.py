"""Bytes that lie unencoded in the source are shared with it where the file system can: a real XFS, and a real Btrfs."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.material import call_vmferry, qemu_img
from vmferry.blob import Blob, Buffer, FileBlob, MemoryBlob, SliceBlob
from vmferry.ranges import StoredRange, StoredRanges, put_run
from vmferry.stores.local import create_file
from vmferry.units import KIB, MIB

pytestmark = pytest.mark.slow

SIZE = 96 * MIB
DATA = 48 * MIB


@pytest.fixture(scope="module", params=["xfs", "btrfs"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system that shares blocks among files."""
    folder = tmp_path_factory.mktemp(request.param)
    image, mount = folder / "image", folder / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(512 * MIB)
    subprocess.run([f"mkfs.{request.param}", "-q", image], check=True, capture_output=True)
    mounted = subprocess.run(["mount", "-o", "loop", image, mount], capture_output=True, text=True)
    if mounted.returncode:  # it takes root, and a kernel that has both
        pytest.skip(f"cannot run here: no file system in a file can be mounted: {mounted.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)
    image.unlink()


@pytest.fixture(scope="module")
def raw(shared: Path) -> Path:
    """A disk of which every other MiB holds data, some of which is zeros."""
    path, chance = shared / "disk.raw", random.Random(1)
    with path.open("wb") as disk:
        disk.truncate(SIZE)
        for place in range(0, SIZE, 2 * MIB):
            disk.seek(place)
            disk.write(chance.randbytes(MIB))
        disk.seek(5 * MIB)
        disk.write(bytes(MIB))
    return path


def taken(folder: Path) -> int:
    """Bytes that the file system has given away."""
    subprocess.run(["sync", "--file-system", str(folder)], check=True)
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def image_of(raw: Path, kind: str) -> Path:
    """``raw`` in another format; beside it."""
    options = {"raw": [], "qcow2": [], "vmdk": ["-o", "subformat=monolithicFlat"], "vpc": ["-o", "subformat=fixed"]}
    path = raw.with_name(f"source.{kind}")
    qemu_img("convert", "-f", "raw", "-O", kind, *options[kind], raw, path)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("raw", ["out.raw"]),
        ("raw", ["out.raw", "--resume", "--digest"]),
        ("raw", ["out.qcow2"]),
        ("raw", ["out.vhd", "--subformat", "fixed"]),
        ("qcow2", ["out.raw"]),
        ("vmdk", ["out.raw"]),
        ("vpc", ["out.raw"]),
    ],
)
def test_what_lies_unencoded_is_shared(kind: str, words: list[str], raw: Path, shared: Path, tmp_path: Path) -> None:
    source = image_of(raw, kind)
    target, *options = words
    before = taken(shared)
    done = call_vmferry("convert", source, shared / target, *options)
    assert done.returncode == 0, done.stderr
    assert taken(shared) - before < 2 * MIB
    judged = {"out.raw": "raw", "out.qcow2": "qcow2", "out.vhd": "vpc"}[target]
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", judged, raw, shared / target)
    apart = call_vmferry("convert", source, tmp_path / target, *options)  # another file system: all is written
    assert apart.returncode == 0, apart.stderr
    assert (tmp_path / target).read_bytes() == (shared / target).read_bytes()
    if kind != "vpc":  # which qemu-img fills with zeros: they are left out
        assert (shared / target).stat().st_blocks * 512 < DATA + 2 * MIB
    (shared / target).unlink()


def test_a_file_that_was_written_to_since_it_was_opened_is_not_shared(raw: Path, shared: Path) -> None:
    blob, target = FileBlob(raw), create_file(shared / "out", sync=False)
    try:
        assert target.clone(blob, 0, 0, MIB) == MIB
        assert target.clone(blob, 0, 512, MIB) == 0
        assert target.clone(blob, 0, 2 * MIB, MIB + 512) == MIB
        assert target.clone(SliceBlob(blob, 4096, MIB, "slice"), 4096, 0, MIB) == MIB
        os.utime(raw)
        assert target.clone(blob, 0, 0, MIB) == 0
    finally:
        target.abort()
        blob.close()


class Sharing:
    """A target that shares whole blocks of 8 bytes, and takes no byte twice."""

    def __init__(self, size: int) -> None:
        self.data: list[int | None] = [None] * size
        self.shared = 0

    def write_at(self, offset: int, data: Buffer) -> None:
        assert self.data[offset : offset + len(data)] == [None] * len(data)
        self.data[offset : offset + len(data)] = bytes(data)

    def clone(self, blob: Blob, source: int, offset: int, length: int) -> int:
        length = 0 if source % 8 or offset % 8 else length // 8 * 8
        self.write_at(offset, blob.read_at(source, length))
        self.shared += length
        return length

    def set_size(self, size: int) -> None: ...
    def finish(self) -> None: ...
    def abort(self) -> None: ...


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 60), st.integers(0, 190)), max_size=5), st.data())
def test_every_byte_is_shared_or_written_once(places: list[tuple[int, int, int]], data: st.DataObject) -> None:
    position, ranges = 0, []
    for gap, length, source in places:
        ranges.append(StoredRange(position + gap, source, length))
        position += gap + length
    stored = StoredRanges(MemoryBlob(bytes(range(1, 251))), ranges)
    content = bytes(stored.read(position + 9))
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(start + 1, len(content)))
    target = Sharing(4 * KIB)
    put_run(target, 64 + start, content[start:end], start, stored)
    assert target.data[64 + start : 64 + end] == list(content[start:end])
    assert target.data.count(None) == 4 * KIB - (end - start)
