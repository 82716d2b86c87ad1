"""A source that is written to while it is converted: an image of two states of it is none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.material import call_vmferry, left_over, make_raw, qemu_img
from vmferry.cli import _writing
from vmferry.convert import copy
from vmferry.convert.copy import CopyResult
from vmferry.units import MIB

SIZE = 8 * MIB


def make_old(path: Path) -> Path:
    """A raw disk that was written to for the last time long ago."""
    make_raw(path, SIZE)
    os.utime(path, (0, 0))
    return path


def after_the_copy(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    def copy_first(*arguments: Any, **keywords: Any) -> CopyResult:
        result = copy(*arguments, **keywords)
        happens()
        return result

    monkeypatch.setattr(_writing, "copy", copy_first)


def write_to(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-512, 2)
        file.write(b"of another state")


@pytest.mark.parametrize("target", ["out.qcow2", "out.ova"])
@pytest.mark.parametrize("change", ["written to", "longer"])
def test_a_file_that_is_written_to_meanwhile_leaves_no_image(
    target: str, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = make_old(tmp_path / "disk.raw")
    after_the_copy(monkeypatch, lambda: write_to(raw) if change == "written to" else os.truncate(raw, 2 * SIZE))
    done = call_vmferry("convert", raw, tmp_path / target)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        "disk.raw was changed while it was converted. Start again, and leave it alone meanwhile."
    )
    assert left_over(tmp_path) == {"disk.raw"}


@pytest.mark.parametrize("way", ["found beside it", "named"])
def test_so_does_any_other_file_that_the_disk_is_read_from(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = make_old(tmp_path / "disk.raw")
    said: list[str | Path] = []
    if way == "named":
        source, other = tmp_path / "top.qcow2", raw
        qemu_img("create", "-f", "qcow2", "-b", raw, "-F", "raw", source)
        said = ["--parent", raw]
    else:
        source, other = tmp_path / "disk.vmdk", tmp_path / "disk-flat.vmdk"
        qemu_img("convert", "-O", "vmdk", "-o", "subformat=monolithicFlat", raw, source)
        os.utime(other, (0, 0))
    before = left_over(tmp_path)
    after_the_copy(monkeypatch, lambda: write_to(other))
    done = call_vmferry("convert", source, *said, tmp_path / "out.raw")
    assert (done.returncode, f"{other.name} was changed while it was converted" in done.stderr) == (1, True)
    assert left_over(tmp_path) == before


def test_a_file_that_is_replaced_or_read_meanwhile_was_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = make_old(tmp_path / "disk.raw")
    content = raw.read_bytes()

    def replace() -> None:
        raw.read_bytes()
        make_raw(tmp_path / "other.raw", SIZE, 2).replace(raw)

    after_the_copy(monkeypatch, replace)
    assert call_vmferry("convert", raw, tmp_path / "out.raw").returncode == 0
    assert (tmp_path / "out.raw").read_bytes() == content
