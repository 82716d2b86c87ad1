"""Btrfs is read file by file as it was written: every checksum, every packing, subvolumes; damage is found."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import pytest

from tests.guest.images import make_btrfs, mounted_btrfs
from tests.guest.tables import raw_disk
from tests.guest.trees import OS_RELEASE, check_what_is_not_there, compare, make_tree, open_raw, run
from vmferry.blob import MemoryBlob
from vmferry.errors import GuestError
from vmferry.formats import FORMATS, open_disk
from vmferry.guest.filesystems import open_file_system
from vmferry.guest.filesystems._btrfs_extents import read_extent
from vmferry.guest.filesystems.btrfs import BtrfsFileSystem
from vmferry.guest.inside import look_inside
from vmferry.guest.mounts import beneath
from vmferry.guest.superblocks import recognise

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree"))


OPTIONS = (
    "",
    "--csum xxhash",
    "--csum sha256",
    "--csum blake2",
    "-n 4096",
    "-n 65536 -O ^no-holes",
    "-m dup -d dup",
    "--mixed -n 4096",
)


@pytest.mark.parametrize("options", OPTIONS)
def test_every_file_is_read_as_it_was_written(tree: Path, tmp_path: Path, options: str) -> None:
    disk = open_raw(make_btrfs(tree, tmp_path / "disk.raw", *options.split()))
    contents = recognise(disk)
    assert contents is not None
    assert (contents.kind, contents.label, contents.dirty) == ("btrfs", "a root", False)
    assert contents.uuid == "0b5c64e2-51ba-4a0e-9e7a-d2c8b3a4a6f1"
    assert contents.free is not None
    assert 100 << 20 < contents.free < disk.size
    system = open_file_system(disk, "btrfs")
    assert system is not None
    assert compare(system, tree) > 700
    check_what_is_not_there(system)


@pytest.mark.parametrize("packing", ["zlib", "lzo", "zstd"])
def test_packed_files_are_read(tree: Path, tmp_path: Path, packing: str) -> None:
    image = make_btrfs(tree, tmp_path / "disk.raw")
    with mounted_btrfs(image, tmp_path / "mounted", f"compress-force={packing}") as mounted:
        run("cp", "-a", tree, mounted / "copy")
        (mounted / "copy" / "fallocated").write_bytes(b"")
        run("fallocate", "-l", "1M", mounted / "copy" / "fallocated")
    (tree / "fallocated").write_bytes(bytes(1 << 20))
    system = open_file_system(open_raw(image), "btrfs")
    assert system is not None
    try:
        assert compare(beneath(system, "/copy"), tree, times=False) > 700
    finally:
        (tree / "fallocated").unlink()


def test_a_system_on_subvolumes_is_put_together(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    image = make_btrfs(tmp_path / "tree", tmp_path / "disk.raw")
    with mounted_btrfs(image, tmp_path / "mounted") as mounted:
        for name in ("@", "@home", "other"):
            run("btrfs", "subvolume", "create", mounted / name)
        (mounted / "@" / "etc").mkdir()
        (mounted / "@" / "home").mkdir()
        (mounted / "@" / "etc" / "os-release").write_bytes(OS_RELEASE)
        fstab = "UUID=0b5c64e2-51ba-4a0e-9e7a-d2c8b3a4a6f1 {} btrfs subvol={} 0 0\n"
        (mounted / "@" / "etc" / "fstab").write_text(fstab.format("/", "@") + fstab.format("/home", "/@home"))
        (mounted / "@home" / "etc").mkdir()
    facts = look_inside([open_raw(image)])
    assert facts.system is not None
    assert facts.system.linux is not None
    assert facts.system.linux.distribution == "debian"
    with mounted_btrfs(image, tmp_path / "mounted") as mounted:
        run("btrfs", "subvolume", "set-default", mounted / "@")
    system = BtrfsFileSystem(open_raw(image))
    assert set(system.names("/")) == {"etc", "home"}
    assert set(system.top_level.names("/")) == {"@", "@home", "other"}
    assert system.top_level.read_at("/@/etc/os-release", 0, 99) == OS_RELEASE
    assert look_inside([open_raw(image)]).system is not None


def test_data_over_several_devices_is_refused_by_name(tree: Path, tmp_path: Path) -> None:
    for name in ("a.raw", "b.raw"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(300 << 20)
    run("mkfs.btrfs", "-q", "-m", "raid0", "-d", "raid0", tmp_path / "a.raw", tmp_path / "b.raw")
    contents = recognise(open_raw(tmp_path / "a.raw"))
    assert contents is not None
    assert contents.problem == "Btrfs over 2 devices: only those on one device are read."
    with pytest.raises(GuestError, match="spread over several devices"):
        open_file_system(open_raw(tmp_path / "a.raw"), "btrfs")


def small_image(tmp_path: Path) -> bytearray:
    (tmp_path / "tree" / "etc").mkdir(parents=True)
    (tmp_path / "tree" / "etc" / "os-release").write_bytes(OS_RELEASE)
    return bytearray(make_btrfs(tmp_path / "tree", tmp_path / "disk.raw", size=120 << 20).read_bytes())


def mend(block: bytearray) -> None:
    """Give a block the checksum that it should have."""
    block[:4] = struct.pack("<I", google_crc32c.value(bytes(block[32:])))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda block: block.__setitem__(0xC6, 9), "deeper"),
        (lambda block: struct.pack_into("<Q", block, 0x50, 1 << 60), "nothing lies at its address"),
        (lambda block: struct.pack_into("<Q", block, 0x58, 1 << 60), "nothing lies at its address"),
        (lambda block: struct.pack_into("<I", block, 0x94, 1 << 30), "its nodes have 1,073,741,824 bytes"),
        (lambda block: struct.pack_into("<H", block, 0xC4, 77), "checksums of kind 77"),
        (lambda block: struct.pack_into("<I", block, 0xA0, 0), "nothing lies at its address"),
        (lambda block: struct.pack_into("<H", block, 0x32B + 17 + 44, 0xFFFF), "a chunk is cut short"),
    ],
)
def test_a_superblock_that_lies_is_found(tmp_path: Path, change: Callable[[bytearray], None], told: str) -> None:
    image = small_image(tmp_path)
    block = image[65536 : 65536 + 4096]
    change(block)
    mend(block)
    image[65536 : 65536 + 4096] = block
    with pytest.raises(GuestError, match=told):
        BtrfsFileSystem(open_disk(MemoryBlob(bytes(image), "disk.raw"), FORMATS["raw"])).names("/")


def test_a_flipped_bit_in_metadata_is_found(tmp_path: Path) -> None:
    image = small_image(tmp_path)
    places = [
        at
        for at in range(0, len(image), 16384)
        if at != 65536 and image[at + 32 : at + 48] == image[65536 + 32 : 65536 + 48]
    ]
    assert len(places) > 5
    for at in places:
        image[at + 300] ^= 4
    with pytest.raises(GuestError, match="checksum of the node"):
        BtrfsFileSystem(open_disk(MemoryBlob(bytes(image), "disk.raw"), FORMATS["raw"]))


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (b"short", "cut short"),
        (struct.pack("<QQBBHB", 1, 10, 9, 0, 0, 1), "method 9"),
        (struct.pack("<QQBBHB", 1, 10, 0, 1, 0, 1), "not read"),
        (struct.pack("<QQBBHB", 1, 10, 0, 0, 0, 1), "cut short"),
        (struct.pack("<QQBBHB", 1, 1 << 40, 3, 0, 0, 0) + b"x", "claims 1,099,511,627,776 bytes"),
        (struct.pack("<QQBBHBQQQQ", 1, 1 << 40, 1, 0, 0, 1, 4096, 4096, 0, 4096), "claims 1,099,511,627,776 bytes"),
    ],
)
def test_an_extent_that_makes_no_sense_is_refused(item: bytes, told: str) -> None:
    with pytest.raises(GuestError, match=told):
        read_extent(0, item)


def test_an_empty_area_is_no_btrfs() -> None:
    with pytest.raises(GuestError, match="no superblock"):
        BtrfsFileSystem(raw_disk(b""))
