"""ext2, ext3 and ext4 are read file by file as they were written, whatever they were made with."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.guest.images import make_ext
from tests.guest.trees import check_what_is_not_there, compare, make_tree, open_raw, run
from vmferry.guest.filesystems import open_file_system
from vmferry.guest.filesystems.ext import read_folder
from vmferry.guest.inside import look_inside
from vmferry.guest.superblocks import recognise


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree"))


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (["-t", "ext4"], "ext4"),
        (["-t", "ext4", "-b", "1024"], "ext4"),
        (["-t", "ext4", "-O", "^metadata_csum,^64bit,^flex_bg"], "ext4"),
        (["-t", "ext4", "-O", "inline_data", "-I", "256"], "ext4"),
        (["-t", "ext3", "-b", "1024"], "ext3"),
        (["-t", "ext2", "-b", "2048"], "ext2"),
    ],
)
def test_every_file_is_read_as_it_was_written(tree: Path, tmp_path: Path, options: list[str], kind: str) -> None:
    disk = open_raw(make_ext(tree, tmp_path / "disk.raw", *options))
    contents = recognise(disk)
    assert contents is not None
    assert (contents.kind, contents.label, contents.uuid) == (kind, "a root", "0b5c64e2-51ba-4a0e-9e7a-d2c8b3a4a6f1")
    assert contents.free is not None
    assert 20 << 20 < contents.free < 64 << 20
    assert contents.free_inodes
    assert not contents.dirty
    system = open_file_system(disk, kind)
    assert system is not None
    assert compare(system, tree) > 700
    check_what_is_not_there(system)


def test_a_journal_to_replay_is_told(tree: Path, tmp_path: Path) -> None:
    path = make_ext(tree, tmp_path / "disk.raw", "-t", "ext4")
    run("debugfs", "-w", "-R", "feature needs_recovery", path)
    contents = recognise(open_raw(path))
    assert contents is not None
    assert contents.dirty
    assert "needs_recovery" in contents.features


@pytest.mark.parametrize(
    "change", ["clri <2>", "sif <2> size 0", "zap_block -f <2> 0", "zap_block -f <2> -p 255 0", "sif <2> mode 0100644"]
)
def test_a_root_folder_that_is_none_is_told(change: str, tree: Path, tmp_path: Path) -> None:
    """What is damaged there would otherwise look as a file system with nothing in it."""
    image = make_ext(tree, tmp_path / "disk.raw", "-t", "ext4", "-O", "^metadata_csum")
    run("debugfs", "-w", "-R", change, image)
    (volume,) = look_inside([open_raw(image)]).volumes
    assert re.search("the ext4 file system is damaged", volume.problem or "", re.IGNORECASE)


def test_a_damaged_block_of_a_folder_is_passed_over() -> None:
    sound = b"\x0b\0\0\0" + (1012 + 12).to_bytes(2, "little") + b"\x04\x01name" + bytes(1012)
    damaged = bytes(random.Random(1).randbytes(1024))
    assert list(read_folder(damaged[:4] + b"\0\0" + damaged[6:] + sound)) == [(b"name", 11)]
