"""File systems that are damaged or made to harm: the look ends in time, within its memory, with facts or a problem."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.guest.images import make_btrfs, make_ext, make_fat, make_ntfs, make_xfs
from tests.guest.lvm_builder import EXTENT, Group, striped
from tests.guest.trees import OS_RELEASE, open_raw, run
from vmferry.guest.boot import find_boot_facts
from vmferry.guest.evidence import DiskEvidence, Evidence
from vmferry.guest.facts import GuestFacts
from vmferry.guest.findings import RuleSet
from vmferry.guest.look import look
from vmferry.guest.preflight import judge
from vmferry.limits import MAX_LOOK_READ, MAX_LOOK_SECONDS

pytestmark = pytest.mark.slow

Fault = Callable[[bytearray, random.Random], None]


def small_tree(root: Path) -> Path:
    """Little enough that damage hits it, and enough to be a system."""
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "os-release").write_bytes(OS_RELEASE)
    (root / "etc" / "fstab").write_text("/dev/sda1 / auto defaults 0 0\n")
    (root / "boot").mkdir()
    for number in range(60):
        (root / "boot" / f"file-{number:02}").write_bytes(b"%d" % number * 2000)
    return root


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One of each kind, as bytes."""
    folder = tmp_path_factory.mktemp("images")
    tree = small_tree(folder / "tree")
    ntfs = make_ntfs(folder / "ntfs", size=16 << 20)
    for name in ("etc", "boot"):  # without FUSE: files in the root, which the same parsers read
        run("ntfscp", "-f", ntfs, tree / "etc" / "os-release", f"{name}-copy")
    ext = make_ext(tree, folder / "ext4", "-t", "ext4", size="16M").read_bytes()
    pieces = {(0, at): ext[at * EXTENT : (at + 1) * EXTENT] for at in range(16)}
    return {
        "ext4": ext,
        "ext2": make_ext(tree, folder / "ext2", "-t", "ext2", "-b", "1024", size="16M").read_bytes(),
        "xfs": make_xfs(tree, folder / "xfs").read_bytes(),
        "fat32": make_fat(tree, folder / "fat32", "-F", "32", size=40 << 20).read_bytes(),
        "ntfs": ntfs.read_bytes(),
        "btrfs": make_btrfs(tree, folder / "btrfs", size=120 << 20).read_bytes(),
        "lvm": Group("vg0", [16], {"root": [striped(0, 16, (0, 0))]}, contents=pieces).build()[0],
    }


KINDS = ("ext4", "ext2", "xfs", "fat32", "ntfs", "btrfs", "lvm")


class Damaged:
    """A disk of ``content`` with other bytes here and there: copying all of it for each example would take longest."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._sectors: dict[int, bytearray] = {}
        self.size = len(content)

    def change(self, offset: int, data: bytes) -> None:
        for index, value in enumerate(data):
            number, at = divmod(offset + index, 512)
            self._sector(number)[at] = value

    def flip(self, offset: int, bit: int) -> None:
        self._sector(offset // 512)[offset % 512] ^= 1 << bit

    def _sector(self, number: int) -> bytearray:
        start = number * 512
        return self._sectors.setdefault(number, bytearray(self._content[start : start + 512]))

    def read_at(self, offset: int, length: int) -> bytes:
        data = bytearray(self._content[offset : offset + length])
        for number, sector in self._sectors.items():
            low, high = max(number * 512, offset), min(number * 512 + 512, offset + length)
            if low < high:
                data[low - offset : high - offset] = sector[low - number * 512 : high - number * 512]
        return bytes(data)


def look_at(content: bytes | bytearray | Damaged) -> GuestFacts:
    """A look that must end in time, having read what it may; and what it found must be judged, in words to print."""
    disk = content if isinstance(content, Damaged) else Damaged(bytes(content))
    began = time.monotonic()
    facts = look([disk])
    assert time.monotonic() - began < MAX_LOOK_SECONDS + 5
    assert facts.bytes_read <= MAX_LOOK_READ
    evidence = Evidence([DiskEvidence(disk.size, find_boot_facts(disk))], facts)
    sentences = [finding.sentence for rule_set in RuleSet for finding in judge(evidence, rule_set).findings]
    assert "".join(sentences).isprintable()
    return facts


@pytest.fixture(scope="module")
def places(images: dict[str, bytes]) -> dict[str, list[int]]:
    """Of each image, where its sectors hold something."""
    return {kind: used_blocks(content) for kind, content in images.items()}


def used_blocks(content: bytes) -> list[int]:
    """Where something stands: damage elsewhere hits nothing."""
    zeros = bytes(64 << 10)
    return [
        at
        for start in range(0, len(content), len(zeros))
        if content[start : start + len(zeros)] != zeros
        for at in range(start, min(start + len(zeros), len(content)), 512)
        if any(content[at : at + 512])
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sound_is_read(images: dict[str, bytes], kind: str) -> None:
    facts = look_at(images[kind])
    assert facts.problems == ()
    assert all(volume.problem is None for volume in facts.volumes)
    assert (facts.system is not None) == (kind != "ntfs")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), flips=st.integers(1, 400))
def test_flipped_bits_end_no_look_badly(
    images: dict[str, bytes], places: dict[str, list[int]], kind: str, seed: int, flips: int
) -> None:
    dice = random.Random(seed)
    disk = Damaged(images[kind])
    # What a file system begins with is hit more often: it is what all else is found by.
    targets = places[kind] + [at for at in places[kind] if at < 1 << 20] * 3
    for _ in range(flips):
        disk.flip(dice.choice(targets) + dice.randrange(512), dice.randrange(8))
    look_at(disk)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), value=st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
def test_wrong_counts_and_places_end_no_look_badly(
    images: dict[str, bytes], places: dict[str, list[int]], kind: str, seed: int, value: int
) -> None:
    """Whole words: where sizes, counts and addresses stand, a single bit seldom makes them large."""
    dice = random.Random(seed)
    disk = Damaged(images[kind])
    targets = [at for at in places[kind] if at < 2 << 20]
    for _ in range(dice.randrange(1, 20)):
        disk.change(dice.choice(targets) + dice.randrange(63) * 8, bytes([value]) * dice.choice((1, 2, 4, 8)))
    look_at(disk)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_system_that_ends_early_gives_facts(images: dict[str, bytes], kind: str) -> None:
    for size in (4096, 128 << 10, 2 << 20):
        facts = look_at(images[kind][:size])
        assert facts.volumes


def ext_inodes(content: bytearray) -> Iterator[int]:
    """Where the inodes of an ext2 of one group, without checksums, stand."""
    block = 1024 << struct.unpack_from("<I", content, 1024 + 24)[0]
    count = struct.unpack_from("<I", content, 1024)[0]
    size = struct.unpack_from("<H", content, 1024 + 88)[0]
    descriptors = block * (struct.unpack_from("<I", content, 1024 + 20)[0] + 1)
    table = struct.unpack_from("<I", content, descriptors + 8)[0] * block
    per_group = struct.unpack_from("<I", content, 1024 + 40)[0]
    return (table + index * size for index in range(min(count, per_group)))


def is_folder(content: bytearray, inode: int) -> bool:
    (mode,) = struct.unpack_from("<H", content, inode)
    return bool(mode & 0xF000 == 0x4000)


def test_folders_that_contain_themselves_end(images: dict[str, bytes]) -> None:
    """Every folder's blocks become the root's: all paths go on for ever."""
    content = bytearray(images["ext2"])
    folders = [inode for inode in ext_inodes(content) if is_folder(content, inode)]
    root = content[folders[0] + 40 : folders[0] + 100]
    for inode in folders:
        content[inode + 40 : inode + 100] = root
    facts = look_at(content)
    assert facts.volumes[0].kind == "ext2"


def test_a_file_whose_indirect_blocks_lead_in_a_circle_ends(images: dict[str, bytes]) -> None:
    """The triple indirect block of every file is itself; every file claims a TiB."""
    content = bytearray(images["ext2"])
    own = 8000
    content[own * 1024 : own * 1024 + 1024] = struct.pack("<I", own) * 256
    for inode in ext_inodes(content):
        if struct.unpack_from("<H", content, inode)[0] & 0xF000 == 0x8000:
            content[inode + 40 : inode + 100] = struct.pack("<I", own) * 15
            struct.pack_into("<I", content, inode + 4, 0xFFFFFFFF)
            struct.pack_into("<I", content, inode + 108, 0xFF)
    facts = look_at(content)
    assert facts.volumes[0].kind == "ext2"


def test_a_link_that_leads_to_itself_is_a_problem(tmp_path: Path) -> None:
    tree = small_tree(tmp_path / "tree")
    (tree / "etc" / "os-release").unlink()
    (tree / "etc" / "os-release").symlink_to("os-release")
    (tree / "usr").mkdir()
    (tree / "usr" / "lib").symlink_to("../usr/lib")
    facts = look([open_raw(make_ext(tree, tmp_path / "disk.raw", "-t", "ext4"))])
    assert facts.volumes[0].kind == "ext4"
    assert facts.seconds < MAX_LOOK_SECONDS


def test_links_out_of_the_guest_stay_in_it(tmp_path: Path) -> None:
    tree = small_tree(tmp_path / "tree")
    (tree / "etc" / "hostname").symlink_to("../../../../../../proc/sys/kernel/hostname")
    (tree / "etc" / "passwd").symlink_to("/etc/shadow")
    facts = look([open_raw(make_ext(tree, tmp_path / "disk.raw", "-t", "ext4"))])
    assert facts.system is not None
    assert facts.system.linux is not None
    assert facts.system.linux.hostname is None


def test_a_very_deep_tree_and_a_very_crowded_folder_are_read(tmp_path: Path) -> None:
    tree = small_tree(tmp_path / "tree")
    deep = tree / "usr"
    for _ in range(400):
        deep = deep / "d"
    deep.mkdir(parents=True)
    crowded = tree / "lib" / "modules"
    crowded.mkdir(parents=True)
    for number in range(4000):
        (crowded / f"6.1.{number}").touch()
    image = make_ext(tree, tmp_path / "disk.raw", "-t", "ext4", size="64M")
    facts = look([open_raw(image)])
    assert facts.system is not None
    assert facts.seconds < MAX_LOOK_SECONDS


def test_names_that_a_terminal_would_obey_come_out_quoted(tmp_path: Path) -> None:
    tree = small_tree(tmp_path / "tree")
    (tree / "etc" / "os-release").write_bytes(b'ID=debian\nPRETTY_NAME="\x1b[2J\xe2\x80\xaeevil"\n')
    facts = look([open_raw(make_ext(tree, tmp_path / "disk.raw", "-t", "ext4"))])
    assert facts.system is not None
    assert facts.system.linux is not None
    assert "\x1b" not in facts.system.linux.title
    assert "evil" in facts.system.linux.title
