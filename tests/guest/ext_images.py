"""Ext file systems made by mke2fs, and what e2fsck and debugfs say of them afterwards."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from functools import lru_cache
from pathlib import Path

from vmferry.blob import MemoryBlob
from vmferry.formats import FORMATS, open_disk
from vmferry.guest.ext_writer import ExtFileSystem
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.overlay_volume import OverlayVolume
from vmferry.units import MIB

OLD = random.Random(1).randbytes(MIB + 17)
"""What /boot/initrd.img holds at first."""
MANY = 250
"""Files in the folder that has an index after e2fsck -D."""
OPTIONS = {
    "ext4": "-t ext4 -b 4096",
    "1k": "-t ext4 -b 1024",
    "2k": "-t ext4 -b 2048",
    "crc16": "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg",
    "no_64bit": "-t ext4 -b 4096 -O ^64bit",
    "no_extents": "-t ext4 -b 1024 -O ^extents,^64bit",
    "no_flex_bg": "-t ext4 -b 1024 -O ^flex_bg",
    "meta_bg": "-t ext4 -b 1024 -O meta_bg,^resize_inode",
    "sparse_super2": "-t ext4 -b 1024 -O sparse_super2",
    "no_sparse_super": "-t ext4 -b 1024 -O ^sparse_super,^resize_inode",
    "no_journal": "-t ext4 -b 4096 -O ^has_journal",
    "seed": "-t ext4 -b 4096 -O metadata_csum_seed",
    "no_filetype": "-t ext4 -b 4096 -O ^filetype",
    "small_inodes": "-t ext4 -b 4096 -I 128",
    "encrypt": "-t ext4 -b 4096 -O encrypt,verity,casefold",
    "orphan_file": "-t ext4 -b 4096 -O orphan_file",
    "ext3": "-t ext3 -b 1024",
    "ext2": "-t ext2 -b 4096",
    "ext2_small": "-t ext2 -b 1024 -I 128 -O ^dir_index",
}
"""File systems that are written to: how mke2fs makes them."""


def make_image(options: str, folder: Path, *, size: int = 14 * MIB, index: bool = False) -> bytes:
    """A file system with some files; with ``index``, e2fsck has given the large folder one."""
    tree, image = folder / "tree", folder / "made.img"
    for name in ("boot", "etc", "many"):
        (tree / name).mkdir(parents=True)
    (tree / "boot/initrd.img").write_bytes(OLD)
    (tree / "boot/vmlinuz").write_bytes(random.Random(2).randbytes(300_000))
    (tree / "vmlinuz").symlink_to("boot/vmlinuz")
    (tree / "etc/far").symlink_to("/" + "x" * 100)
    os.setxattr(tree / "boot/initrd.img", "user.origin", b"guest")
    os.setxattr(tree / "boot/vmlinuz", "user.long", b"l" * 300)
    for number in range(MANY):
        (tree / f"many/a-rather-long-name-of-a-file-{number:05}").write_text(str(number))
    subprocess.run(["mke2fs", "-q", "-F", *options.split(), "-d", tree, image, f"{size // 1024}k"], check=True)
    if index:
        subprocess.run(["e2fsck", "-fyD", image], capture_output=True)
    return image.read_bytes()


@lru_cache(maxsize=32)
def cached_image(name: str, folder: Path) -> bytes:
    """As ``make_image``, once for each of ``OPTIONS``."""
    place = folder / name
    place.mkdir()
    return make_image(OPTIONS[name], place, index="dir_index" not in OPTIONS[name])


def overlay_of(image: bytes) -> OverlayDisk:
    return OverlayDisk(open_disk(MemoryBlob(image), FORMATS["raw"]))


def system_on(overlay: OverlayDisk) -> ExtFileSystem:
    return ExtFileSystem(OverlayVolume(overlay, [(0, overlay.size)]))


def write_out(overlay: OverlayDisk, path: Path) -> Path:
    path.write_bytes(overlay.read_at(0, overlay.size))
    return path


def check(image: Path) -> None:
    """e2fsck finds nothing to mend."""
    judged = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def dump(image: Path, path: str) -> bytes:
    """The file at ``path``, as debugfs reads it."""
    out = image.with_suffix(".dump")
    subprocess.run(["debugfs", "-R", f"dump {path} {out}", image], capture_output=True, check=True)
    return out.read_bytes()


def digests(image: Path, folder: Path) -> dict[str, str]:
    """Path → digest of every file, and target of every link, as debugfs reads them."""
    folder.mkdir()
    subprocess.run(["debugfs", "-R", f"rdump / {folder}", image], capture_output=True, check=True)
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }
