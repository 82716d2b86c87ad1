"""Which format a file is: asked once, of the file's own ends, and never decided by what a guest wrote."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.blob import FileBlob, MemoryBlob
from vmferry.errors import FormatError, UnsafeDiskError
from vmferry.formats import FORMATS, detect, open_disk
from vmferry.formats._ends import Ends
from vmferry.units import MIB


def fixed_vhd(tmp_path: Path, first: bytes) -> bytes:
    """A fixed VHD by qemu-img whose guest wrote ``first`` into its first sector."""
    raw, path = tmp_path / "raw", tmp_path / "fixed.vhd"
    raw.write_bytes(first.ljust(4 * MIB, b"\1"))
    options = ["-f", "raw", "-O", "vpc", "-o", "subformat=fixed,force_size=on"]
    subprocess.run(["qemu-img", "convert", *options, str(raw), str(path)], check=True, timeout=60)
    return path.read_bytes()


def test_a_fixed_vhd_is_known_by_its_end(tmp_path: Path) -> None:
    assert detect(MemoryBlob(fixed_vhd(tmp_path, b"\xeb\x63\x90"))).name == "vhd"


@pytest.mark.parametrize("header", [b"QFI\xfb\0\0\0\3", b"KDMV\1\0\0\0", bytes(64) + b"\x7f\x10\xda\xbe"])
def test_a_guest_that_writes_a_header_does_not_choose_the_format(header: bytes, tmp_path: Path) -> None:
    content = fixed_vhd(tmp_path, header)
    with pytest.raises(UnsafeDiskError, match="and vhd at once"):
        detect(MemoryBlob(content))
    disk = open_disk(MemoryBlob(content), FORMATS["vhd"])
    assert disk.size == 4 * MIB
    assert bytes(disk.read_at(0, len(header))) == header
    assert open_disk(MemoryBlob(content), FORMATS["raw"]).size == len(content)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=9000), st.data())
def test_the_ends_of_a_blob_read_as_the_blob_does(content: bytes, data: st.DataObject) -> None:
    blob, ends = MemoryBlob(content), Ends(MemoryBlob(content))
    for _ in range(5):
        offset = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, len(content) - offset))
        assert ends.read_at(offset, length) == blob.read_at(offset, length)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=2000), st.sampled_from(["", "QFI\xfb", "KDMV", "conectix", "vhdxfile", "COWD"]))
def test_detection_answers_or_refuses_whatever_the_bytes_are(content: bytes, magic: str) -> None:
    blob = MemoryBlob(magic.encode("latin-1") + content)
    said = ""
    try:
        assert detect(blob).name in FORMATS
    except (FormatError, UnsafeDiskError) as error:
        said = str(error)
    assert "\n" not in said


def test_a_file_is_opened_with_few_reads(tmp_path: Path) -> None:
    class Counted(MemoryBlob):
        reads = 0

        def read_at(self, offset: int, length: int) -> bytes:
            self.reads += 1
            return super().read_at(offset, length)

    blob = Counted(bytes(MIB))
    assert detect(blob).name == "raw"
    assert blob.reads <= 4
    path = tmp_path / "raw"
    path.write_bytes(bytes(MIB))
    assert detect(FileBlob(path)).name == "raw"
