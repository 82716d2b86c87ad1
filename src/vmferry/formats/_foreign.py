"""Files that are no disk image that vmferry reads, but would pass for raw disks: what they are, and what to do.

Copied as raw disks they would become disks that no machine starts, and nobody would be told. A file that was declared
raw never comes here: what a guest writes into its own disk must not decide how the disk is read.

Sources: the VHD, VHDX, VDI, QED and Parallels specifications, ECMA-119 (ISO 9660), RFC 1952 (gzip) and RFC 8878 (zstd),
the formats of xz, bzip2, zip, 7z, WIM and UDIF, POSIX (tar), DMTF DSP0243 (OVF).
"""

from __future__ import annotations

import re

from vmferry.blob import Blob
from vmferry.units import SECTOR

_HEAD = 33 * 1024
"""Bytes looked at: the first volume descriptor of an ISO 9660 image begins at 32 KiB."""

_EXPORT = "export the disk as a streamOptimized VMDK, or convert it to raw first"
_UNPACK = "unpack it first"
_INSTALL = "install a machine from it and import that machine's disk; for its bytes as they are, declare it raw"

_HEADS = (
    (0, b"vhdxfile", "a VHDX image", _EXPORT),
    (0, b"conectix", "a VHD image", _EXPORT),
    (64, b"\x7f\x10\xda\xbe", "a VDI image", _EXPORT),
    (0, b"QED\0", "a QED image", _EXPORT),
    (0, b"WithoutFreeSpace", "a Parallels image", _EXPORT),
    (0, b"WithouFreSpacExt", "a Parallels image", _EXPORT),
    (0, b"MSWIM\0\0\0", "a WIM image", _INSTALL),
    (0, b"\x1f\x8b\x08", "a gzip file", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file", _UNPACK),
    (0, b"\xfd7zXZ\0", "an xz file", _UNPACK),
    (0, b"BZh", "a bzip2 file", _UNPACK),
    (0, b"PK\3\4", "a zip file", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z file", _UNPACK),
    (257, b"ustar", "a tar archive", "if it is an OVA, import it as one; else unpack it first"),
    (32769, b"CD001", "an ISO 9660 image", _INSTALL),
)
"""Place from the beginning, bytes there, what such a file is, what to do."""

_TAILS = (
    (0, b"conectix", "a fixed VHD image", _EXPORT),
    (1, b"conectix", "a fixed VHD image", _EXPORT),  # its footer was 511 bytes long before Virtual PC 2004
    (0, b"koly", "an Apple disk image (UDIF)", _EXPORT),
)
"""The same, from the beginning of the last 512 bytes."""

_OVF = re.compile(rb"(\xef\xbb\xbf)?\s*<(\?xml|([A-Za-z][\w.-]*:)?Envelope[\s>])")


def foreign_kind(blob: Blob) -> tuple[str, str] | None:
    """What ``blob`` is (``"a VHDX image"``) and what to do about it, or ``None``. At most 34 KiB are read."""
    head = blob.read_at(0, min(_HEAD, blob.size))
    for place, magic, what, remedy in _HEADS:
        if head.startswith(magic, place):
            return what, remedy
    if _OVF.match(head) and b"Envelope" in head[:4096]:
        return "an OVF descriptor", "import the whole machine: pack the descriptor and its disks into an OVA"
    tail = blob.read_at(blob.size - SECTOR, SECTOR) if blob.size > SECTOR else b""
    for place, magic, what, remedy in _TAILS:
        if tail.startswith(magic, place):
            return what, remedy
    return None
