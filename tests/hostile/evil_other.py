"""What people hand in by mistake, and disks on which a guest wrote what looks like an image."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile import evil_qcow2, evil_vhd, evil_vmdk
from tests.hostile.evil import HOST_FILE, Evil

_HEADS = {
    "qcow1": b"QFI\xfb\0\0\0\1" + b"\xff" * 40, "qed": b"QED\0" + b"\xff" * 60,
    "parallels": b"WithouFreSpacExt" + b"\xff" * 48,
    "bochs": b"Bochs Virtual HD Image\0", "cloop": b"#!/bin/sh\n#V2.0 Format\n", "luks1": b"LUKS\xba\xbe\0\1",
    "luks2": b"LUKS\xba\xbe\0\2", "vma": b"VMA\0\0\0\0\1", "wim": b"MSWIM\0\0\0", "7z": b"7z\xbc\xaf\x27\x1c",
    "rar": b"Rar!\x1a\7\0",
    "lzop": b"\x89LZO\0\r\n\x1a\n", "html": b"<!DOCTYPE html><html>404",
    "s3-error": b'<?xml version="1.0"?><Error><Code>NoSuchKey',
    "git-lfs": b"version https://git-lfs.github.com/spec/v1\n",
}  # fmt: skip


def items() -> Iterator[Evil]:
    for name, head in _HEADS.items():
        yield Evil(f"other-{name}.img", f"a file that begins as {name} does", head.ljust(4096, b"\0").__bytes__)
    yield Evil("other-iso.img", "an ISO 9660 image", (bytes(32768) + b"\1CD001\1".ljust(4096, b"\0")).__bytes__)
    yield Evil("other-dmg.img", "an Apple disk image", (bytes(4096) + b"koly".ljust(512, b"\0")).__bytes__)
    yield Evil("other-empty.img", "no bytes", b"".__bytes__)
    backing = evil_qcow2.image((256, HOST_FILE.encode()), backing_offset=256, backing_size=len(HOST_FILE))
    yield Evil(
        "other-guest-qcow2.img", "a raw disk on which a guest wrote a qcow2", backing.ljust(1 << 20, b"\0").__bytes__
    )
    flat = evil_vmdk.descriptor("monolithicFlat", f'RW 8 FLAT "{HOST_FILE}" 0')
    yield Evil(
        "other-guest-vmdk.img",
        "a small raw disk on which a guest wrote a descriptor",
        flat.ljust(4096, b"\n").__bytes__,
    )
    tail = bytes(1 << 16) + evil_vhd.footer(1 << 40)
    yield Evil("other-guest-vhd.img", "a raw disk that ends in a footer", tail.__bytes__)
    yield Evil("other-one-byte.img", "one byte", b"x".__bytes__, refused=False)
    yield Evil("other-zeros.img", "zeros", bytes(1 << 20).__bytes__, refused=False)
