"""The disks that ``bench.py`` measures with: real files of this machine in a file system, in a disk image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from programs import run
from vmferry.units import GIB, KIB, MIB

_TREES = ("/usr/bin", "/usr/lib", "/usr/share")
_SPREAD = 64
"""Pieces in which the sparse disks hold their data, evenly over the whole disk."""


def make_file_system(folder: Path, size: int) -> Path:
    """A raw disk of twice ``size`` with an ext4 file system that holds about ``size`` bytes of real files."""
    tree = folder / "tree"
    left = size
    for number, source in enumerate(_real_files()):
        if left <= 0:
            break
        target = tree / f"{number // 500:04d}" / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        left -= target.stat().st_size
    raw = folder / "in.raw"
    run("mke2fs", "-q", "-t", "ext4", "-F", "-d", tree, raw, f"{max(2 * size, 64 * MIB) // KIB}k")
    shutil.rmtree(tree)
    return raw


def _real_files() -> Iterator[Path]:
    """Regular files of this machine, in an order that is the same each time."""
    for top in _TREES:
        for folder, folders, names in os.walk(top):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                    yield path


def make_sparse_disk(folder: Path, raw: Path, size: int) -> Path:
    """A monolithicSparse VMDK of ``size`` that holds what ``raw`` does, in pieces spread over all of it."""
    spread, out = folder / "spread.raw", folder / f"sparse-{size // GIB}.vmdk"
    piece = -(-raw.stat().st_size // _SPREAD // MIB) * MIB
    with raw.open("rb") as source, spread.open("wb") as target:
        target.truncate(size)
        for number in range(_SPREAD):
            target.seek(size // _SPREAD * number)
            for _ in range(piece // MIB):
                data = source.read(MIB)
                if data.count(0) == len(data):
                    target.seek(len(data), os.SEEK_CUR)
                else:
                    target.write(data)
    run("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=monolithicSparse", spread, out)
    spread.unlink()
    return out


SOURCES = {
    "vmdk": ("-O", "vmdk", "-o", "subformat=streamOptimized"),
    "sparse-vmdk": ("-O", "vmdk", "-o", "subformat=monolithicSparse"),
    "vhd": ("-O", "vpc", "-o", "force_size=on"),
    "vhdx": ("-O", "vhdx"),
    "vdi": ("-O", "vdi"),
    "qcow2": ("-O", "qcow2"),
    "zlib-qcow2": ("-O", "qcow2", "-c"),
}
"""Name of a source → how qemu-img makes it. The part behind the dash is the format."""


def make_source(folder: Path, raw: Path, name: str) -> Path:
    """``raw`` as qemu-img's image of the kind ``name``; itself for ``raw``."""
    if name == "raw":
        return raw
    out = folder / f"in-{name}.{name.rpartition('-')[2]}"
    run("qemu-img", "convert", "-f", "raw", *SOURCES[name], raw, out)
    return out
