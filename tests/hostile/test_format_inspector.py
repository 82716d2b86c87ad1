"""OpenStack's format inspector beside us: what it calls unsafe, the way of an import refuses.

The other way round nothing is said: it calls many a file safe that is refused here (a VHDX with a log that was never
replayed, a differencing VHD).
"""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest
from oslo_utils.imageutils import format_inspector

from tests.hostile.corpus import CORPUS
from tests.hostile.evil import Evil
from tests.hostile.gate import read_everything
from vmferry.blob import FileBlob, MemoryBlob
from vmferry.errors import VmferryError
from vmferry.formats import FORMATS, open_disk

READ_SAFELY_HERE = {
    "raw": "the inspector knows file systems and boot sectors only; a raw disk refers to nothing",
    "gpt": "the inspector checks partition tables; here a raw disk is bytes, and its guest's tables are not followed",
}
"""Formats that the inspector names and whose faults cannot lead out of the file: why."""
REASONED = {
    "qcow2-data-extended": "extended L2 entries: an incompatible bit that the inspector does not know and we read",
    "vmdk-raw-huge.vmdk": "longer than any descriptor, so it is a raw disk on which a guest wrote one: bytes, no more",
}
"""What the inspector refuses and we read, and why that is safe."""

MADE: dict[str, tuple[str, ...]] = {
    "qcow2-v2": ("qcow2", "-o", "compat=0.10"),
    "qcow2-v3": ("qcow2",),
    "qcow2-zstd": ("qcow2", "-o", "compression_type=zstd"),
    "qcow2-lazy": ("qcow2", "-o", "lazy_refcounts=on"),
    "qcow2-data-extended": ("qcow2", "-o", "extended_l2=on,cluster_size=128k"),
    "vmdk-sparse": ("vmdk",),
    "vmdk-stream": ("vmdk", "-o", "subformat=streamOptimized"),
    "vhd-dynamic": ("vpc",),
    "vhd-fixed": ("vpc", "-o", "subformat=fixed,force_size=on"),
    "vhdx-dynamic": ("vhdx",),
    "vhdx-fixed": ("vhdx", "-o", "subformat=fixed"),
    "vdi-dynamic": ("vdi",),
    "vdi-fixed": ("vdi", "-o", "static=on"),
    "raw": ("raw",),
    "qcow1": ("qcow",),
    "qed": ("qed",),
    "parallels": ("parallels",),
}
"""What ``qemu-img create`` makes."""


def verdict(content: bytes) -> tuple[str, bool]:
    """The inspector's name for what it saw, and whether it calls that safe."""
    wrapper = format_inspector.InspectWrapper(io.BytesIO(content))
    while wrapper.read(65536):
        pass
    wrapper.close()
    try:
        inspector = wrapper.format
    except format_inspector.ImageFormatError:
        return "several", False
    if inspector is None:
        return "unknown", False
    try:
        inspector.safety_check()
    except (format_inspector.SafetyCheckFailed, format_inspector.ImageFormatError):
        return str(inspector), False
    return str(inspector), True


def is_read(content: bytes, name: str) -> bool:
    """Whether the import's gate lets it through, without anything beside it."""
    try:
        disk = open_disk(MemoryBlob(content, name))
        read_everything(disk)
    except VmferryError:
        return False
    return True


@pytest.mark.parametrize("item", CORPUS.values(), ids=CORPUS.keys())
def test_what_the_inspector_calls_unsafe_is_refused(item: Evil) -> None:
    content = item.build()
    kind, safe = verdict(content)
    reasoned = kind in READ_SAFELY_HERE or item.name in REASONED
    if not safe and not reasoned and is_read(content, item.name):
        assert kind == "unknown", f"{item.name} ({item.about}): unsafe to the inspector as {kind}, and read here"


@pytest.mark.parametrize("kind", MADE)
def test_a_sound_image_is_safe_to_both_or_refused_here(kind: str, tmp_path: Path) -> None:
    image_format, *options = MADE[kind]
    path = tmp_path / "disk.img"
    command = ["qemu-img", "create", "-q", "-f", image_format, *options, str(path), "4M"]
    subprocess.run(command, check=True, timeout=60)
    shown, safe = verdict(path.read_bytes())
    read = is_read(path.read_bytes(), "disk.img")
    assert not read or safe or kind in REASONED, f"{shown} is unsafe to the inspector, and read here"
    assert read is (image_format not in ("qcow", "qed", "parallels"))
    if read:
        blob = FileBlob(path)
        declared = next(known for known in FORMATS.values() if known.probe(blob))
        assert declared.qemu_name == image_format
        blob.close()
