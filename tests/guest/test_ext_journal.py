"""A journal is replayed as e2fsck replays it: transactions that debugfs wrote, with what it knows of checksums."""

from __future__ import annotations

import random
import struct
import subprocess
from pathlib import Path

import pytest

from tests.guest.ext_images import cached_image, digests, overlay_of, system_on, write_out
from vmferry.errors import GuestError
from vmferry.guest.ext_writer import ExtWriter, replay_journal
from vmferry.guest.ext_writer.superblock import RECOVER

pytestmark = pytest.mark.slow

VERSIONS = [(name, version) for name in ("ext4", "1k", "no_64bit") for version in ("", "-c", "-c -v 2")]
VERSIONS += [("crc16", ""), ("no_extents", ""), ("ext3", "")]
"""File systems, and how debugfs writes their journals: with which checksums."""


def debugfs(image: Path, *commands: str) -> None:
    text = "".join(f"{command}\n" for command in commands)
    subprocess.run(["debugfs", "-w", "-f", "-", image], input=text, text=True, capture_output=True, check=True)


def make_dirty(name: str, folder: Path, version: str) -> Path:
    """A file system that was switched off: what debugfs changed in it is in its journal only, in two transactions;
    a third one revokes a block, and a fourth was not committed."""
    image, changed = folder / "dirty.img", folder / "changed.img"
    image.write_bytes(cached_image(name, folder))
    changed.write_bytes(image.read_bytes())
    (folder / "new").write_bytes(random.Random(4).randbytes(40_000))
    debugfs(changed, f"write {folder / 'new'} /etc/new", "rm /many/a-rather-long-name-of-a-file-00003", "mkdir /etc/d")
    size = 1024 if name in ("1k", "crc16", "no_extents", "ext3") else 4096
    old, new = image.read_bytes(), changed.read_bytes()
    numbers = [at // size for at in range(0, len(old), size) if old[at : at + size] != new[at : at + size]]
    numbers = [number for number in numbers if number != (0 if size == 4096 else 1)]
    commands = [f"jo {version}"]
    free = len(old) // size - 3
    escaped = (0xC03B3998).to_bytes(4, "big") + b"data that begins as the journal's own blocks do"
    for step, (group, data) in enumerate(
        [
            (numbers[::2], b"".join(new[number * size : (number + 1) * size] for number in numbers[::2])),
            (numbers[1::2], b"".join(new[number * size : (number + 1) * size] for number in numbers[1::2])),
            ([free], escaped.ljust(size, b"\1")),
            ([free + 1], b"\2" * size),
        ]
    ):
        (folder / f"blocks-{step}").write_bytes(data)
        commands.append(f"jw -b {','.join(map(str, group))} {folder / f'blocks-{step}'}")
    commands += [f"jw -r {free + 1}", f"jw -b {free + 2} -c {folder / 'blocks-3'}", "jc"]
    debugfs(image, *commands)
    return image


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_it_is_replayed_as_e2fsck_does(name: str, version: str, tmp_path: Path) -> None:
    image = make_dirty(name, tmp_path, version)
    overlay = overlay_of(image.read_bytes())
    system = system_on(overlay)
    assert system.superblock.has(RECOVER)
    with pytest.raises(GuestError, match="journal has to be replayed"):
        ExtWriter(system, 0)
    assert replay_journal(system)
    out = write_out(overlay, tmp_path / "ours.img")
    subprocess.run(["e2fsck", "-E", "journal_only", "-p", image], capture_output=True, check=True)
    size = system.superblock.block_size
    ours, theirs = out.read_bytes(), image.read_bytes()
    journal = system.maps.read(system.inodes.read(system.superblock.journal_inode)).runs
    blocks = set(range(2, len(ours) // size)) - {run.block + step for run in journal for step in range(run.count)}
    different = [at // size for at in range(0, len(ours), size) if ours[at : at + size] != theirs[at : at + size]]
    assert not blocks & set(different)
    assert "etc/new" in digests(out, tmp_path / "tree")
    again = system_on(overlay)
    assert not again.superblock.has(RECOVER)
    assert not replay_journal(again)
    writer = ExtWriter(again, 0)
    writer.create_file("/etc/ours", 4, [b"ours"])
    writer.commit()
    assert "etc/ours" in digests(write_out(overlay, out), tmp_path / "tree-2")


def test_damage_in_the_journal_is_told(tmp_path: Path) -> None:
    image = make_dirty("ext4", tmp_path, "-c")
    overlay = overlay_of(image.read_bytes())
    system = system_on(overlay)
    journal = system.maps.read(system.inodes.read(8)).runs[0].block
    damaged = bytearray(image.read_bytes())
    damaged[(journal + 2) * 4096 + 100] ^= 1  # what the first transaction wrote
    with pytest.raises(GuestError, match="The ext journal is damaged"):
        replay_journal(system_on(overlay_of(bytes(damaged))))
    struct.pack_into(">I", damaged, journal * 4096 + 0x28, 0x1012)
    with pytest.raises(GuestError, match="The ext journal is damaged"):  # the head's checksum
        replay_journal(system_on(overlay_of(bytes(damaged))))


def test_nothing_is_written_of_a_journal_that_is_damaged_further_on(tmp_path: Path) -> None:
    image = make_dirty("ext4", tmp_path, "-c")
    damaged = bytearray(image.read_bytes())
    at = damaged.index((0xC03B3998).to_bytes(4, "big") + (2).to_bytes(4, "big") + b"\0\0\0\x03")  # the third's commit
    damaged[at - 4096 + 100] ^= 1
    overlay = overlay_of(bytes(damaged))
    with pytest.raises(GuestError, match="The ext journal is damaged"):
        replay_journal(system_on(overlay))
    assert list(overlay.changed()) == []
