"""Everything that packs a disk here: Python's own libraries and the programs that people use."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import zstandard

Packer = Callable[[bytes], bytes]


def run(*command: str) -> Packer:
    """A program that packs its standard input to its standard output."""

    def pack(content: bytes) -> bytes:
        return subprocess.run(command, input=content, capture_output=True, check=True, timeout=60).stdout

    return pack


def halves(pack: Packer) -> Packer:
    """The content in two pieces, each packed for itself, one behind the other."""
    return lambda content: pack(content[: len(content) // 2]) + pack(content[len(content) // 2 :])


def in_pieces(pack: Packer, length: int) -> Packer:
    """The content in pieces of ``length`` bytes, each packed for itself, one behind the other."""
    return lambda content: b"".join(pack(content[at : at + length]) for at in range(0, len(content), length) or [0])


def zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def zip64_of(content: bytes) -> bytes:
    """As Python writes a zip whose length is not known beforehand, with 64-bit fields."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("d", "w", force_zip64=True) as member:
        member.write(content)
    return out.getvalue()


def by_7z(content: bytes, folder: Path, *options: str, suffix: str = "zip") -> bytes:
    source, target = folder / "disk.raw", folder / f"packed.{suffix}"
    source.write_bytes(content)
    target.unlink(missing_ok=True)
    subprocess.run(["7z", "a", "-bd", *options, str(target), str(source)], capture_output=True, check=True, timeout=60)
    return target.read_bytes()


def _gzip_with_all_fields(content: bytes) -> bytes:
    extra = b"AB\x02\x00xx"
    header = b"\x1f\x8b\x08\x1e" + bytes(6) + struct.pack("<H", len(extra)) + extra + b"disk.raw\0a comment\0"
    return header + struct.pack("<H", 0) + gzip.compress(content, mtime=0)[10:]


def _zstd_without_size(content: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compressobj()
    return compressor.compress(content) + compressor.flush()


def _zstd_seekable(content: bytes) -> bytes:
    """Frames, each behind a skippable frame that tells its length, as ``pzstd`` writes them."""

    def frame(piece: bytes) -> bytes:
        packed = zstandard.ZstdCompressor(write_checksum=True).compress(piece)
        return struct.pack("<III", 0x184D2A50, 4, len(packed)) + packed

    return in_pieces(frame, 100_000)(content) + struct.pack("<II", 0x184D2A5E, 5) + b"table"


PACKERS: dict[str, tuple[str, Packer]] = {
    "gzip": ("gzip", lambda content: gzip.compress(content, 1)),
    "gzip, two members": ("gzip", halves(gzip.compress)),
    "gzip, padded": ("gzip", lambda content: gzip.compress(content) + bytes(5000)),
    "gzip, junk behind": ("gzip", lambda content: gzip.compress(content) + b"\0junk"),
    "gzip, all fields": ("gzip", _gzip_with_all_fields),
    "gzip, many members": ("gzip", in_pieces(gzip.compress, 65_280)),
    "the program gzip": ("gzip", run("gzip", "-c")),
    "xz": ("xz", lambda content: lzma.compress(content, preset=0)),
    "xz, two streams, padded": (
        "xz",
        lambda content: halves(lambda half: lzma.compress(half, preset=0))(content) + bytes(8),
    ),
    "xz, no checks": ("xz", lambda content: lzma.compress(content, check=lzma.CHECK_NONE, preset=1)),
    "the program xz, many blocks": ("xz", run("xz", "-0", "-T2", "--block-size=100000", "-c")),
    "the program xz, best": ("xz", run("xz", "-9e", "-c", "--check=sha256")),
    "the program xz, branch filter": ("xz", run("xz", "-c", "--x86", "--lzma2=preset=0")),
    "zstd": ("zstd", zstandard.ZstdCompressor(write_checksum=True).compress),
    "zstd, no size": ("zstd", _zstd_without_size),
    "zstd, many frames": ("zstd", in_pieces(zstandard.ZstdCompressor().compress, 100_000)),
    "zstd, seekable": ("zstd", _zstd_seekable),
    "the program zstd": ("zstd", run("zstd", "-q", "-c", "-3")),
    "the program zstd, long": ("zstd", run("zstd", "-q", "-c", "--long=27", "-T2")),
    "bzip2": ("bzip2", bz2.compress),
    "bzip2, many streams": ("bzip2", in_pieces(bz2.compress, 100_000)),
    "bzip2, junk behind": ("bzip2", lambda content: bz2.compress(content) + b"junk"),
    "zip": ("zip", lambda content: zip_of({"disk.raw": content})),
    "zip, stored": ("zip", lambda content: zip_of({"disk.raw": content}, zipfile.ZIP_STORED)),
    "zip, 64 bit": ("zip", zip64_of),
    "zip, in a folder": (
        "zip",
        lambda content: zip_of({"vm/": b"", "vm/disk.raw": content, "__MACOSX/vm/._disk.raw": b"x"}),
    ),
}
"""What packed it → the wrapper's name and how it is packed."""


def have(program: str) -> bool:
    return shutil.which(program) is not None
