"""The disks that ``bench.py`` measures with: real files of this machine in a file system, in a disk image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from programs import run
from vmferry.units import GIB, MIB

_ROOTS = ("/usr/lib", "/usr/share", "/usr/bin", "/usr/local", "/opt")
"""Where real files are taken from, in this order."""
_MAX_FILE = 64 * MIB
"""Larger files are left out: a few of them would make up most of the data, and all look alike."""
_PIECE = 8 * MIB


def make_data_disk(path: Path, size: int, disk_size: int = 16 * GIB) -> int:
    """A raw disk at ``path`` with one partition: ext4, filled with about ``size`` bytes of real files.

    Answers the bytes of files. Needs ``size`` bytes beside ``path`` for the time that it takes.
    """
    tree = path.with_suffix(".tree")
    try:
        taken = _copy_files(tree, size)
        with path.open("wb") as disk:
            disk.truncate(disk_size)
        run("sfdisk", "--quiet", path, stdin="label: dos\nstart=1MiB, type=83, bootable\n")
        room = f"{disk_size // MIB - 2}M"
        options = ["-q", "-F", "-t", "ext4", "-E", f"root_owner=0:0,offset={MIB},lazy_itable_init=1"]
        run("mke2fs", *options, "-d", tree, path, room)
    finally:
        shutil.rmtree(tree, ignore_errors=True)
    return taken


def _copy_files(tree: Path, size: int) -> int:
    """Copy files of this machine below ``tree`` until they make up ``size`` bytes; answers how many they make up."""
    taken = 0
    for source, length in _files():
        if taken >= size:
            break
        target = tree / source.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        taken += length
    return taken


def _files() -> Iterator[tuple[Path, int]]:
    """Regular files that may be read, and their sizes; always in the same order."""
    for root in _ROOTS:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                    continue
                if (length := path.stat().st_size) <= _MAX_FILE:
                    yield path, length


def make_stream_optimized(source: Path, target: Path) -> None:
    """The raw disk ``source`` as a streamOptimized VMDK: every grain deflated by qemu-img."""
    run("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", source, target)


def make_sparse(source: Path, target: Path, data: int, disk_size: int) -> None:
    """A monolithicSparse VMDK of ``disk_size`` with ``data`` bytes of ``source``'s, spread over all of it."""
    raw = target.with_suffix(".spread")
    try:
        with source.open("rb") as given, raw.open("wb") as spread:
            spread.truncate(disk_size)
            stride = disk_size // (data // _PIECE) // _PIECE * _PIECE
            for number, piece in enumerate(_stored_pieces(given.fileno(), data)):
                os.pwrite(spread.fileno(), piece, number * stride)
        run("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=monolithicSparse", raw, target)
    finally:
        raw.unlink(missing_ok=True)


def _stored_pieces(fd: int, data: int) -> Iterator[bytes]:
    """Pieces of 8 MiB of what the sparse file ``fd`` holds; from its beginning again when it holds too little."""
    position, given = 0, 0
    while given < data:
        try:
            position = os.lseek(fd, position, os.SEEK_DATA)
        except OSError:  # nothing but a hole up to the end
            position = 0
            continue
        yield os.pread(fd, _PIECE, position).ljust(_PIECE, b"\0")
        position, given = position + _PIECE, given + _PIECE
