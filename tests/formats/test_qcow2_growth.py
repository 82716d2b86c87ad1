"""An image is grown as qemu-img would: what it held stays, zeros come behind, and every other reader finds it sound."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.material import qemu_img
from tests.server.material import make_disk
from vmferry.blob import FileBlob
from vmferry.convert import copy
from vmferry.formats import FORMATS, SupportsCreate
from vmferry.formats.qcow2.growth import grow_image
from vmferry.formats.raw import RawDisk
from vmferry.stores.local import LocalStore
from vmferry.units import GIB, MIB

TIB = 1024 * GIB


def make_image(folder: Path) -> tuple[Path, Path]:
    """A raw disk, and what a conversion makes of it."""
    raw = make_disk(folder / "disk.raw", 8, 3)
    store, maker = LocalStore(folder), FORMATS["qcow2"]
    assert isinstance(maker, SupportsCreate)
    disk = RawDisk(FileBlob(raw))
    writer = maker.create(store.create("images", "disk.qcow2"), disk.size, disk.extents())
    copy(disk, writer)
    writer.finish()
    disk.close()
    return raw, Path(store.locate("images", "disk.qcow2"))


def size_of(image: Path) -> int:
    return int(json.loads(qemu_img("info", "--output=json", image))["virtual-size"])


@pytest.mark.parametrize("size", [9 * MIB, 20 * GIB, 4 * TIB])
def test_what_was_there_stays_and_the_rest_is_zeros_that_can_be_written(tmp_path: Path, size: int) -> None:
    raw, image = make_image(tmp_path)
    assert grow_image(image, size)
    assert size_of(image) == size
    qemu_img("check", "-f", "qcow2", image)
    assert "identical" in qemu_img("compare", "-f", "qcow2", "-F", "raw", image, raw)
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", f"write -P 5 {size - 4096} 4096", image], check=True, capture_output=True
    )
    qemu_img("check", "-f", "qcow2", image)
    assert not grow_image(image, size), "it has that many already"


def test_what_cannot_be_grown_in_place_is_left_as_it_is(tmp_path: Path) -> None:
    _, image = make_image(tmp_path)
    before = image.read_bytes()
    assert not grow_image(image, 4 * TIB + 1), "its L1 table would have to move"
    assert not grow_image(image, MIB)
    assert image.read_bytes() == before
    overlay, kept = tmp_path / "overlay.qcow2", tmp_path / "kept.qcow2"
    qemu_img("create", "-f", "qcow2", "-b", image, "-F", "qcow2", overlay)
    qemu_img("create", "-f", "qcow2", kept, "8M")
    qemu_img("snapshot", "-c", "before", kept)
    for other in (overlay, kept):
        before = other.read_bytes()
        assert not grow_image(other, GIB)
        assert other.read_bytes() == before


def test_an_image_of_qemus_is_grown(tmp_path: Path) -> None:
    image = tmp_path / "qemu.qcow2"
    qemu_img("create", "-f", "qcow2", image, "1G")
    assert grow_image(image, 3 * GIB)
    assert size_of(image) == 3 * GIB
    qemu_img("check", "-f", "qcow2", image)


def test_a_disk_without_a_byte_and_one_with_bitmaps_are_left_as_they_are(tmp_path: Path) -> None:
    empty, watched = tmp_path / "empty.qcow2", tmp_path / "watched.qcow2"
    qemu_img("create", "-f", "qcow2", empty, "0")  # its L1 table is said to lie at 0, where the header is
    qemu_img("create", "-f", "qcow2", watched, "1G")
    qemu_img("bitmap", "--add", watched, "backup")
    for image in (empty, watched):
        before = image.read_bytes()
        assert not grow_image(image, 100 * GIB)
        assert image.read_bytes() == before
