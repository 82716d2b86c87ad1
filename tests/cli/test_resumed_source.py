"""What ``convert --resume`` compares before it goes on: whatever decides which bytes are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.material import make_raw, qemu_img
from vmferry.cli._container import Said, open_container
from vmferry.cli._destination import FileDestination
from vmferry.cli._resuming import describe_conversion
from vmferry.cli._target import choose_output
from vmferry.cli._writing import pick_disk
from vmferry.formats import Compression
from vmferry.units import MIB


def describe(source: Path, compression: Compression | None = None) -> dict[str, Any]:
    said = Said()
    with open_container(str(source), said) as container:
        found = pick_disk(container, None, as_json=True)
        return describe_conversion(str(source), said, found, choose_output("vmdk", None, compression))


@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse"])
def test_the_files_that_a_descriptor_names_are_the_source_too(subformat: str, tmp_path: Path) -> None:
    raw, source = make_raw(tmp_path / "disk.raw", 8 * MIB), tmp_path / "disk.vmdk"
    qemu_img("convert", "-O", "vmdk", "-o", f"subformat={subformat}", raw, source)
    before = describe(source)
    assert describe(source) == before
    (extent,) = tmp_path.glob("disk-*.vmdk")
    with extent.open("r+b") as file:
        file.seek(-512, 2)
        file.write(b"changed")
    assert describe(source) != before


def test_how_hard_it_is_compressed_decides_where_everything_lies(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "disk.raw", 8 * MIB)
    assert describe(raw, Compression.FAST) != describe(raw, Compression.BEST)


def test_notes_of_a_file_are_the_same_through_any_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "out.raw").symlink_to(tmp_path / "there" / "disk.raw")
    notes, target = FileDestination(str(tmp_path / "out.raw")).resume()
    target.abort()
    assert notes == tmp_path / "there" / "disk.raw"
