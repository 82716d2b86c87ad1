"""What ``convert --resume`` compares before it goes on: whatever decides which bytes are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.material import call_vmferry, left_over, make_raw, qemu_img
from vmferry.cli import _resuming
from vmferry.cli._container import Said, open_container
from vmferry.cli._destination import FileDestination
from vmferry.cli._resuming import describe_conversion
from vmferry.cli._target import choose_output
from vmferry.cli._writing import pick_disk
from vmferry.convert.copy import CopyResult
from vmferry.convert.journal import copy_rest
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


@pytest.mark.parametrize("place", [8 * MIB - 512, 0])  # where it had data, and where it had none
def test_a_source_that_is_written_to_meanwhile_does_not_become_an_image(
    place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, real = make_raw(tmp_path / "disk.raw", 8 * MIB), copy_rest

    def copy_and_write(*arguments: Any, **keywords: Any) -> CopyResult:
        with raw.open("r+b") as file:
            file.seek(place)
            file.write(b"of another state")
        return real(*arguments, **keywords)

    monkeypatch.setattr(_resuming, "copy_rest", copy_and_write)
    done = call_vmferry("convert", raw, tmp_path / "out.qcow2", "--resume")
    assert done.returncode == 1
    assert "was changed while it was" in done.stderr
    assert left_over(tmp_path) == {"disk.raw"}


@pytest.mark.parametrize("way", ["removed", "replaced"])
def test_a_source_that_is_gone_meanwhile_was_read_to_its_end(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, out = make_raw(tmp_path / "disk.raw", 8 * MIB), tmp_path / "out.raw"
    content = raw.read_bytes()

    def copy_and_remove(*arguments: Any, **keywords: Any) -> CopyResult:
        if way == "removed":
            raw.unlink()
        else:
            make_raw(tmp_path / "other.raw", 8 * MIB, 2).replace(raw)
        return copy_rest(*arguments, **keywords)

    monkeypatch.setattr(_resuming, "copy_rest", copy_and_remove)
    assert call_vmferry("convert", raw, out, "--resume").returncode == 0
    assert out.read_bytes() == content


def test_the_folder_of_a_machine_may_get_other_files(tmp_path: Path) -> None:
    raw, machine = make_raw(tmp_path / "disk.raw", 8 * MIB), tmp_path / "machine"
    machine.mkdir()
    qemu_img("convert", "-O", "vmdk", raw, machine / "disk.vmdk")
    (machine / "web.vmx").write_text(
        '.encoding = "UTF-8"\nconfig.version = "8"\nvirtualHW.version = "13"\ndisplayName = "web"\n'
        'scsi0.present = "TRUE"\nscsi0:0.present = "TRUE"\nscsi0:0.fileName = "disk.vmdk"\n'
    )
    before = describe(machine)
    done = call_vmferry("convert", machine, machine / "out.raw", "--resume")
    assert done.returncode == 0, done.stderr
    assert describe(machine) == before
    assert (machine / "out.raw").read_bytes() == raw.read_bytes()
