"""XFS, FAT and NTFS are read file by file as they were written, whatever they were made with."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from tests.guest.images import make_fat, make_ntfs, make_xfs, mounted_ntfs
from tests.guest.trees import check_what_is_not_there, compare, make_tree, open_raw, read_all, run
from vmferry.guest.filesystems import FileSystem, NodeKind, open_file_system
from vmferry.guest.superblocks import Contents, recognise

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree"), odd_names=False)


@pytest.fixture(scope="module")
def plain_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without links, which FAT and plain copies to NTFS do not have."""
    tree = make_tree(tmp_path_factory.mktemp("plain"), odd_names=False)
    for link in ("bin", "etc/long-link"):
        (tree / link).unlink()
    return tree


def open_image(path: Path) -> tuple[Contents, FileSystem]:
    disk = open_raw(path)
    contents = recognise(disk)
    assert contents is not None
    assert contents.problem is None
    assert contents.kind is not None
    system = open_file_system(disk, contents.kind)
    assert system is not None
    return contents, system


@pytest.mark.parametrize(
    ("options", "features"),
    [
        ([], {"v5", "crc", "bigtime", "reflink"}),
        (["-m", "crc=0"], {"v4"}),
        (["-b", "size=1024"], {"v5"}),
        (["-n", "size=16384", "-i", "size=1024"], {"v5"}),
        (["-m", "bigtime=0,finobt=0,reflink=0", "-i", "sparse=0"], {"v5"}),
    ],
)
def test_every_file_of_an_xfs_is_read_as_it_was_written(
    tree: Path, tmp_path: Path, options: list[str], features: set[str]
) -> None:
    contents, system = open_image(make_xfs(tree, tmp_path / "disk.raw", *options))
    assert (contents.kind, contents.label, contents.dirty) == ("xfs", "a root", False)
    assert features <= set(contents.features)
    assert contents.free is not None
    assert 200 << 20 < contents.free < 300 << 20
    assert compare(system, tree, times=False) > 700  # mkfs gives the files its own time
    check_what_is_not_there(system)


def test_an_xfs_whose_uuid_was_changed_is_read_like_any_other(tree: Path, tmp_path: Path) -> None:
    disk = make_xfs(tree, tmp_path / "disk.raw")
    run("xfs_admin", "-U", "generate", disk)
    _, system = open_image(disk)
    assert compare(system, tree, times=False) > 700


@pytest.mark.parametrize(
    ("options", "kind"), [(["-F", "32"], "fat32"), (["-F", "16"], "fat16"), (["-F", "12", "-s", "64"], "fat12")]
)
def test_every_file_of_a_fat_is_read_as_it_was_written(
    plain_tree: Path, tmp_path: Path, options: list[str], kind: str
) -> None:
    contents, system = open_image(make_fat(plain_tree, tmp_path / "disk.raw", *options))
    assert (contents.kind, contents.label, contents.uuid, contents.dirty) == (kind, "A ROOT", "1A2B-3C4D", False)
    assert compare(system, plain_tree, times=False) > 700
    check_what_is_not_there(system)
    assert system.node("/ETC/OS-Release") == system.node("/etc/os-release")


def test_every_file_of_an_ntfs_is_read_as_it_was_written(plain_tree: Path, tmp_path: Path) -> None:
    image = make_ntfs(tmp_path / "disk.raw")
    with mounted_ntfs(image, tmp_path / "mounted") as mounted:
        run("cp", "-a", *sorted(plain_tree.iterdir()), mounted)
    contents, system = open_image(image)
    assert (contents.kind, contents.label, contents.dirty) == ("ntfs", "A root", False)
    assert contents.uuid is not None
    assert len(contents.uuid) == 16
    free = int(run_ntfsinfo(image, "Free Clusters").split()[0]) * 4096
    assert contents.free == free
    assert compare(system, plain_tree) > 700
    check_what_is_not_there(system)
    assert system.node("/ETC/OS-Release") == system.node("/etc/os-release")


def run_ntfsinfo(image: Path, key: str) -> str:
    said = subprocess.run(["ntfsinfo", "-m", "-f", image], capture_output=True, text=True, check=True).stdout
    return next(line.split(":", 1)[1].strip() for line in said.splitlines() if line.strip().startswith(key))


def test_compressed_files_and_links_of_ntfs_are_read(tmp_path: Path) -> None:
    image = make_ntfs(tmp_path / "disk.raw")
    text = b"a line of a text that compresses well\r\n" * 20_000
    with mounted_ntfs(image, tmp_path / "mounted") as mounted:
        packed = mounted / "packed"
        packed.mkdir()
        os.setxattr(packed, "system.ntfs_attrib_be", struct.pack(">I", 0x810))
        (packed / "text").write_bytes(text)
        (packed / "mixed").write_bytes(os.urandom(200_000) + bytes(300_000) + text)
        mixed = (packed / "mixed").read_bytes()
        (mounted / "Users").mkdir()
        (mounted / "link").mkdir()
        os.setxattr(mounted / "link", "system.ntfs_reparse_data", symbolic_link(r"\??\C:\Users"))
    _, system = open_image(image)
    assert read_all(system, "/packed/text", len(text)) == text
    assert read_all(system, "/packed/mixed", len(mixed)) == mixed
    node = system.node("/link")
    assert node is not None
    assert (node.kind, node.target) == (NodeKind.LINK, "/Users")
    assert set(system.names("/")) == {"packed", "Users", "link"}


def symbolic_link(target: str) -> bytes:
    """A symbolic link's reparse data, as MS-FSCC 2.1.2.4 has it."""
    name = target.encode("utf-16-le")
    shown = target[4:].encode("utf-16-le")
    body = struct.pack("<HHHHI", 0, len(name), len(name), len(shown), 0) + name + shown
    return struct.pack("<IHH", 0xA000000C, len(body), 0) + body


def test_a_dirty_ntfs_and_a_dirty_fat_are_told(tmp_path: Path) -> None:
    image = make_ntfs(tmp_path / "disk.raw")
    run("ntfslabel", "-f", image, "other")
    content = bytearray(image.read_bytes())
    cluster = struct.unpack_from("<Q", content, 48)[0] * 4096 + 3 * 1024
    at = content.index(b"\x70\0\0\0", cluster)  # the attribute $VOLUME_INFORMATION
    content[at + 24 + 10] |= 1
    image.write_bytes(content)
    found = recognise(open_raw(image))
    assert found is not None
    assert (found.label, found.dirty) == ("other", True)

    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"x")
    fat = make_fat(tmp_path / "tree", tmp_path / "fat.raw", "-F", "32")
    content = bytearray(fat.read_bytes())
    content[65] |= 1
    fat.write_bytes(content)
    found = recognise(open_raw(fat))
    assert found is not None
    assert found.dirty
