"""What stands in a volume is recognised by its signature, and what hides a file system goes before it."""

from __future__ import annotations

import struct
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guest.images import make_ext, make_xfs
from tests.guest.tables import SIZE, make_gpt, make_mbr, raw_disk
from tests.guest.trees import open_raw, run
from vmferry.blob import MemoryBlob
from vmferry.formats import FORMATS, open_disk
from vmferry.guest.superblocks import recognise
from vmferry.guest.volumes import find_volumes

KIB = 1024
ID = uuid.UUID("0b5c64e2-51ba-4a0e-9e7a-d2c8b3a4a6f1")
END = SIZE // 65536 * 65536 - 65536


def md_1(place: int, *, level: int = 1, start: int = 0, name: bytes = b"host:0") -> bytes:
    """The superblock of md, version 1, for ``place``."""
    block = struct.pack("<IIII", 0xA92B4EFC, 1, 0, 0) + ID.bytes + name.ljust(32, b"\0")
    block += struct.pack("<QiIQII", 0, level, 0, 4096, 0, 2).ljust(64 - 0, b"\0")
    return block.ljust(128, b"\0") + struct.pack("<QQQ", start // 512, 4096, place // 512)


def md_0(level: int = 1) -> bytes:
    """The superblock of md, version 0.90."""
    head = struct.pack("<5I", 0xA92B4EFC, 0, 90, 0, 0) + struct.pack("<I", 0x11223344)
    head += struct.pack("<IiIIIII", 0, level, 2048, 2, 2, 7, 0)
    return head + struct.pack("<III", 0x55667788, 0x99AABBCC, 0xDDEEFF00)


SIGNATURES = [
    (0, b"LUKS\xba\xbe\0\1", "luks1"),
    (0, b"LUKS\xba\xbe\0\2", "luks2"),
    (3, b"-FVE-FS-", "bitlocker"),
    (4096, b"SPACEDB ", "storage-spaces"),
    (3072, b"PRIVHEAD", "ldm"),
    (4096, md_1(4096), "raid"),
    (0, md_1(0), "raid"),
    (SIZE // 512 * 512 - 8192, md_1(SIZE - 8192), "raid"),
    (END, md_0(), "raid"),
    (3, b"ReFS\0\0\0\0", "refs"),
    (0, b"\xeb\x76\x90EXFAT   ", "exfat"),
    (4086, b"SWAPSPACE2", "swap"),
    (1024, b"\x10\x20\xf5\xf2", "f2fs"),
    (32768, b"JFS1", "jfs"),
    (65588, b"ReIsEr2Fs\0", "reiserfs"),
    (65536 + 1372, b"\x19\x01\x54\x19", "ufs"),
    (8192 + 1372, b"\x54\x19\x01\x00", "ufs"),
    (32769, b"CD001", "iso9660"),
    (0, b"hsqs", "squashfs"),
    (1 << 20, b"\x0d\xd0\x01\xc0", "vmfs"),
    (65536 + 64, b"_BHRfS_M", "btrfs"),
    (512, b"LABELONE".ljust(24, b"\0") + b"LVM2 001", "lvm"),
]


@pytest.mark.parametrize(("place", "magic", "kind"), SIGNATURES)
def test_every_kind_is_recognised(place: int, magic: bytes, kind: str) -> None:
    content = bytearray(SIZE)
    content[place : place + len(magic)] = magic
    found = recognise(raw_disk(content))
    assert found is not None
    assert found.kind == kind


def test_zfs_is_recognised_by_any_of_its_uberblocks() -> None:
    content = bytearray(64 << 20)
    content[(128 + 17) * KIB : (128 + 17) * KIB + 8] = (0x00BAB10C).to_bytes(8, "big")
    found = recognise(open_disk(MemoryBlob(bytes(content), "disk.raw"), FORMATS["raw"]))
    assert found is not None
    assert found.kind == "zfs"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("5808c8aa-7e8f-42e0-85d2-e904be3d7b3a", "ldm"),
        ("af9b60a0-1431-4f62-bc68-3311714a69ad", "ldm"),
        ("e75caf8f-f680-4cee-afa3-b001e56efc2d", "storage-spaces"),
        ("516e7cb6-6ecf-11d6-8ff8-00022d09712b", "ufs"),
    ],
)
def test_a_partitions_type_tells_where_nothing_in_it_does(kind: str, name: str) -> None:
    (volume,) = find_volumes([raw_disk(make_gpt([(kind, 64, 4000)]))], pytest.fail)
    assert volume.facts.kind == name
    assert (volume.facts.problem is not None) == (name != "ufs")


def test_swap_tells_its_label_and_uuid(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(SIZE))
    run("mkswap", "-L", "a swap", "-U", str(ID), path)
    found = recognise(open_raw(path))
    assert found is not None
    assert (found.kind, found.label, found.uuid, found.dirty) == ("swap", "a swap", str(ID), False)


def test_luks_tells_its_uuid() -> None:
    content = bytearray(SIZE)
    content[:8] = b"LUKS\xba\xbe\0\2"
    content[168 : 168 + 36] = str(ID).encode()
    (volume,) = find_volumes([raw_disk(content)], pytest.fail)
    assert volume.facts.uuid == str(ID)
    assert volume.facts.problem == "It is encrypted with LUKS2: what is in it cannot be looked at."


@pytest.mark.parametrize("version", ["0.90", "1.0"])
def test_a_mirror_with_its_superblock_behind_is_read_through(tmp_path: Path, version: str) -> None:
    (tmp_path / "tree").mkdir()
    image = bytearray(make_ext(tmp_path / "tree", tmp_path / "disk.raw", "-t", "ext4", size="2M").read_bytes())
    image = image.ljust(SIZE, b"\0")
    place, block = (SIZE - 8192, md_1(SIZE - 8192)) if version == "1.0" else (END, md_0())
    image[place : place + len(block)] = block
    volumes = find_volumes([raw_disk(image), raw_disk(image)], pytest.fail)
    assert [(volume.facts.place, volume.facts.kind) for volume in volumes] == [
        ("disk 1", "raid"),
        ("disk 2", "raid"),
        ("md0" if version == "1.0" else "md7", "ext4"),
    ]
    assert volumes[0].facts.features == ("raid1", version)
    assert volumes[2].facts.size == 2 << 20


@pytest.mark.parametrize(("level", "start"), [(5, 0), (1, 1 << 20)])
def test_other_arrays_are_named_and_not_read(level: int, start: int) -> None:
    content = bytearray(SIZE)
    block = md_1(4096, level=level, start=start, name=b"host:data")
    content[4096 : 4096 + len(block)] = block
    (volume,) = find_volumes([raw_disk(content)], pytest.fail)
    assert volume.facts.label == "md/data"
    assert volume.facts.uuid == str(ID)


def test_an_xfs_that_was_not_unmounted_is_told(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    path = make_xfs(tmp_path / "tree", tmp_path / "disk.raw")
    found = recognise(open_raw(path))
    assert found is not None
    assert not found.dirty
    content = bytearray(path.read_bytes())
    group, start = divmod(struct.unpack_from(">Q", content, 48)[0], 1 << content[124])
    log = (group * struct.unpack_from(">I", content, 84)[0] + start) * 4096
    at = content.index(b"\xfe\xed\xba\xbe", log)
    assert content[at + 512 + 9] == 0x20, "an unmount record"
    content[at + 512 + 9] = 0x01
    path.write_bytes(content)
    found = recognise(open_raw(path))
    assert found is not None
    assert found.dirty


def test_a_boot_sector_of_a_partition_table_is_no_fat() -> None:
    assert recognise(raw_disk(make_mbr([(0x80, 0x83, 2048, 4096)], b"\xeb\x63\x90"))) is None


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SIGNATURES), st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=12))
def test_no_content_raises(signature: tuple[int, bytes, str], damage: list[tuple[int, int]]) -> None:
    place, magic, _ = signature
    content = bytearray(SIZE)
    content[place : place + len(magic)] = magic
    for offset, value in damage:
        content[(place // 512 * 512 + offset) % SIZE] = value
    find_volumes([raw_disk(content)], pytest.fail)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(min_size=512, max_size=512), st.sampled_from([b"NTFS    ", b"EXFAT   ", b"\0" * 8, b"XFSB", b"MSDOS5.0"])
)
def test_no_boot_sector_raises(sector: bytes, name: bytes) -> None:
    content = bytearray(SIZE)
    content[:512] = sector[:510] + b"\x55\xaa"
    at = 0 if name == b"XFSB" else 3
    content[at : at + len(name)] = name
    recognise(raw_disk(content))
