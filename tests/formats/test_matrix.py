"""Every format that is written, made from every other and back: the guest's bytes never change."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pytest

from vmferry.blob import FileBlob
from vmferry.convert import copy
from vmferry.disk import Disk
from vmferry.extent import ExtentKind
from vmferry.formats import FORMATS, SupportsCreate, WriteOptions, open_disk
from vmferry.stores.local import create_file
from vmferry.units import KIB, MIB, round_up

pytestmark = pytest.mark.slow

KINDS = [
    (name, kind)
    for name, known in FORMATS.items()
    if isinstance(known, SupportsCreate)
    for kind in (known.subformats or (None,))
]
SIZE = 9 * MIB + 5 * KIB + 512
"""No multiple of any format's unit."""


def label(kind: tuple[str, str | None]) -> str:
    return "-".join(word for word in kind if word)


def write(disk: Disk, path: Path, kind: tuple[str, str | None]) -> Path:
    name, subformat = kind
    made = FORMATS[name]
    assert isinstance(made, SupportsCreate)
    writer = made.create(create_file(path, sync=False), disk.size, disk.extents(), WriteOptions(subformat))
    copy(disk, writer, workers=2)
    writer.finish()
    return path


def whole(path: Path, name: str) -> bytes:
    """The guest's bytes, up to the source's size; what a format added behind them is zeros."""
    disk = open_disk(FileBlob(path), FORMATS[name])
    try:
        data = bytes(disk.read_at(0, disk.size))
    finally:
        disk.close()
    assert not any(data[SIZE:])
    return data[:SIZE]


@pytest.fixture(scope="module")
def content() -> bytes:
    """Runs of text and of random bytes at odd places, the first and the last sector among them."""
    rng = random.Random(4)
    data = bytearray(SIZE)
    for _ in range(9):
        place = rng.randrange(0, SIZE // 512) * 512
        piece = rng.randbytes(60_000) if rng.random() < 0.4 else b"what a disk holds, and more of it. " * 9_000
        data[place : place + len(piece)] = piece[: SIZE - place]
    data[:512], data[-512:] = b"first".ljust(512, b"."), b"last".ljust(512, b".")
    return bytes(data)


@pytest.fixture(scope="module")
def images(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str | None], Path]:
    """The content in each kind of file."""
    folder = tmp_path_factory.mktemp("matrix")
    raw = folder / "source.raw"
    raw.write_bytes(content)
    disk = open_disk(FileBlob(raw), FORMATS["raw"])
    made = {kind: write(disk, folder / f"{label(kind)}.{kind[0]}", kind) for kind in KINDS}
    disk.close()
    return made


@pytest.mark.parametrize(("source", "target"), list(product(KINDS, KINDS)), ids=label)
def test_any_format_becomes_any_other_and_comes_back(
    source: tuple[str, str | None],
    target: tuple[str, str | None],
    images: dict[tuple[str, str | None], Path],
    content: bytes,
    tmp_path: Path,
) -> None:
    disk = open_disk(FileBlob(images[source]))
    there = write(disk, tmp_path / f"there.{target[0]}", target)
    disk.close()
    assert whole(there, target[0]) == content
    disk = open_disk(FileBlob(there))
    back = write(disk, tmp_path / f"back.{source[0]}", source)
    disk.close()
    assert whole(back, source[0]) == content


@pytest.mark.parametrize("kind", KINDS, ids=label)
def test_qemu_img_finds_the_same_bytes(
    kind: tuple[str, str | None], images: dict[tuple[str, str | None], Path], tmp_path: Path, content: bytes
) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(content.ljust(round_up(SIZE, 512), b"\0"))
    name = FORMATS[kind[0]].qemu_name
    done = subprocess.run(
        ["qemu-img", "compare", "-f", "raw", "-F", name, raw, images[kind]], capture_output=True, text=True, timeout=60
    )
    assert "Images are identical" in done.stdout, done.stdout + done.stderr


def data_by_qemu(path: Path, name: str) -> list[tuple[int, int]]:
    """Where ``qemu-img`` finds bytes that are not said to be zeros, runs that touch taken together."""
    command = ["qemu-img", "map", "-f", name, "--output=json", str(path)]
    shown = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    return merged((entry["start"], entry["start"] + entry["length"]) for entry in shown if entry["data"])


def merged(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in runs:
        if found and found[-1][1] == start:
            start = found.pop()[0]
        found.append((start, end))
    return found


@pytest.mark.parametrize("kind", KINDS, ids=label)
def test_extents_are_those_that_qemu_img_maps(
    kind: tuple[str, str | None], images: dict[tuple[str, str | None], Path]
) -> None:
    """Holes of a VHDX, and those of the file of a fixed VHD, it does not tell."""
    disk = open_disk(FileBlob(images[kind]))
    ours = merged((extent.start, extent.end) for extent in disk.extents() if extent.kind is ExtentKind.DATA)
    disk.close()
    theirs = data_by_qemu(images[kind], FORMATS[kind[0]].qemu_name)
    if kind in (("vhdx", "dynamic"), ("vhd", "fixed")):
        assert theirs == [(0, disk.size)]
        assert len(ours) > 1
    else:
        assert ours == theirs


@pytest.mark.parametrize("kind", KINDS, ids=label)
def test_the_same_disk_gives_the_same_file(
    kind: tuple[str, str | None], images: dict[tuple[str, str | None], Path], content: bytes, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(content)
    disk = open_disk(FileBlob(raw), FORMATS["raw"])
    again = write(disk, tmp_path / f"again.{kind[0]}", kind)
    disk.close()
    assert again.read_bytes() == images[kind].read_bytes()
