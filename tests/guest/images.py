"""File systems of guests, made with the tools of their authors."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.guest.tables import make_mbr
from tests.guest.trees import run


def make_ext(tree: Path, out: Path, *options: str, size: str = "64M") -> Path:
    """``mke2fs`` with the files of ``tree``."""
    run(
        "mke2fs",
        "-q",
        "-F",
        "-d",
        tree,
        "-L",
        "a root",
        "-U",
        "0b5c64e2-51ba-4a0e-9e7a-d2c8b3a4a6f1",
        *options,
        out,
        size,
    )
    return out


def make_xfs(tree: Path, out: Path, *options: str) -> Path:
    """``mkfs.xfs`` with the files of ``tree`` , whose names have no blanks: its prototype files cannot hold them."""
    prototype = out.with_suffix(".proto")
    prototype.write_text("\n".join(["/", "0 0", "d--755 0 0", *_prototype(tree), "$", ""]))
    label = [] if "-L" in options else ["-L", "a root"]
    run("mkfs.xfs", "-q", "-f", "-p", prototype, "-d", f"file,name={out},size=300m", *label, *options)
    return out


def _prototype(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        name = path.name
        if path.is_symlink():
            yield f"{name} l--777 0 0 {path.readlink()}"
        elif path.is_dir():
            yield f"{name} d--755 0 0"
            yield from _prototype(path)
            yield "$"
        else:
            yield f"{name} ---644 0 0 {path}"


def make_fat(tree: Path, out: Path, *options: str, size: int = 60 << 20) -> Path:
    """``mkfs.vfat`` and mtools, with the files of ``tree``."""
    with out.open("wb") as file:
        file.truncate(size)
    run("mkfs.vfat", "-n", "A ROOT", "-i", "1a2b3c4d", *options, out)
    run("mcopy", "-s", "-Q", "-m", "-i", out, *sorted(tree.iterdir()), "::/")
    return out


def make_ntfs(out: Path, *options: str, size: int = 64 << 20) -> Path:
    """``mkntfs``, empty."""
    with out.open("wb") as file:
        file.truncate(size)
    run("mkntfs", "-q", "-F", "-f", "-L", "A root", *options, out)
    return out


@contextmanager
def mounted_ntfs(image: Path, folder: Path) -> Iterator[Path]:
    """``image`` at ``folder``, by ntfs-3g, to be written to."""
    folder.mkdir()
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid() != 0:
        pytest.skip("cannot run here: mounting NTFS needs /dev/fuse and root")
    run("ntfs-3g", image, folder, "-o", "compression")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def make_btrfs(tree: Path, out: Path, *options: str, size: int = 200 << 20) -> Path:
    """``mkfs.btrfs`` with the files of ``tree``."""
    with out.open("wb") as file:
        file.truncate(size)
    run(
        "mkfs.btrfs",
        "-q",
        "-L",
        "a root",
        "-U",
        "0b5c64e2-51ba-4a0e-9e7a-d2c8b3a4a6f1",
        "--rootdir",
        tree,
        *options,
        out,
    )
    return out


@contextmanager
def mounted_btrfs(image: Path, folder: Path, options: str = "") -> Iterator[Path]:
    """``image`` at ``folder``, by the kernel, to be written to."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "btrfs", "-o", f"loop,{options}".rstrip(","), image, folder], capture_output=True
    )
    if done.returncode:
        pytest.skip("cannot run here: mounting Btrfs needs root, a loop device and a kernel that knows it")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def install_grub(tmp_path: Path, prefix: str, config: str = "", sector: int = 1) -> bytearray:
    """A disk of 4 MiB that GRUB starts, its core image at ``sector``."""
    embedded, core = tmp_path / "embedded.cfg", tmp_path / "core.img"
    embedded.write_text(config)
    options = ("-c", str(embedded)) if config else ()
    run(
        "grub-mkimage",
        "-O",
        "i386-pc",
        *options,
        "-p",
        prefix,
        "-o",
        core,
        "biosdisk",
        "part_msdos",
        "ext2",
        "search_fs_uuid",
    )
    code = bytearray(Path("/usr/lib/grub/i386-pc/boot.img").read_bytes()[:440])
    struct.pack_into("<Q", code, 0x5C, sector)
    disk = make_mbr([(0, 0x83, 2048, 4096)], bytes(code)).ljust(4 << 20, b"\0")
    disk[sector * 512 : sector * 512 + core.stat().st_size] = core.read_bytes()
    return disk
