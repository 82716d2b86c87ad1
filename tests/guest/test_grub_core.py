"""GRUB's core image tells what it goes on to, packed as grub-mkimage packs it; what is none tells nothing."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guest.images import install_grub
from tests.guest.tables import make_mbr, raw_disk
from vmferry.guest.grub_core import GrubCore, read_grub_core

ID = "0b5c64e2-51ba-4a0e-9e7a-d2c8b3a4a6f1"


@pytest.mark.parametrize(
    ("prefix", "config", "wanted"),
    [
        ("/boot/grub", f"search.fs_uuid {ID} root hd0,msdos1\n", GrubCore(uuids=frozenset({ID}))),
        ("/grub2", f"search --no-floppy --set=root --fs-uuid {ID.upper()}\n", GrubCore(uuids=frozenset({ID}))),
        ("(,msdos2)/boot/grub", "", GrubCore(partitions=frozenset({2}))),
        ("(hd0,gpt3)/boot/grub2", "", GrubCore(partitions=frozenset({3}))),
        ("(lvm/vg0-root)/boot/grub", "", GrubCore(logical_volumes=frozenset({"vg0-root"}))),
    ],
)
def test_what_a_core_image_goes_on_to_is_told(tmp_path: Path, prefix: str, config: str, wanted: GrubCore) -> None:
    for sector in (1, 34, 2048):
        assert read_grub_core(raw_disk(install_grub(tmp_path, prefix, config, sector))) == wanted


def test_a_disk_without_grub_tells_nothing(tmp_path: Path) -> None:
    assert read_grub_core(raw_disk(make_mbr([(0x80, 0x83, 2048, 4096)], b"\xfa\x31"))) == GrubCore()
    disk = install_grub(tmp_path, "(,msdos2)/boot/grub")
    for sector in (0, 8191, 1 << 40, (1 << 64) - 1):
        struct.pack_into("<Q", disk, 0x5C, sector)
        assert read_grub_core(raw_disk(disk)) == GrubCore()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return bytes(install_grub(tmp_path_factory.mktemp("core"), "(,msdos2)/boot/grub"))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_damage_raises(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    disk = install_grub(tmp_path_factory.mktemp("core"), "(,msdos2)/boot/grub")
    for _ in range(data.draw(st.integers(1, 6))):
        disk[512 + data.draw(st.integers(0, 6000))] = data.draw(st.integers(0, 255))
    read_grub_core(raw_disk(disk))
