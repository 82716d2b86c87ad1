"""Files that are no disk image that vmferry reads, but would pass for raw disks: what they are, and what to do.

Copied as raw disks they would become disks that no machine starts, and nobody would be told. A file that was declared
raw never comes here: what a guest writes into its own disk must not decide how the disk is read. A bare file system is
a legitimate raw disk, and so is one of zeros; what an installer or an error page begins with is not.

Sources: the VHDX, QED, Parallels, LUKS, WIM, EWF, UDIF and VMA specifications, ECMA-119 (ISO 9660) and ECMA-167 (UDF),
RFC 1952 (gzip), RFC 8878 (zstd), the formats of xz, bzip2, zip, 7z, lz4, rar and lzop, POSIX (tar), DMTF DSP0243 (OVF).
"""

from __future__ import annotations

import re

from vmferry.blob import Blob
from vmferry.units import SECTOR

_HEAD = 33 * 1024
"""Bytes looked at: the first volume descriptor of an ISO 9660 image begins at 32 KiB."""
_TEXT = 4096
"""Bytes looked at of a text."""

_EXPORT = "export the disk as a streamOptimized VMDK, or convert it to raw first"
_UNPACK = "unpack it first"
_INSTALL = "install a machine from it and import that machine's disk; for its bytes as they are, declare it raw"
_DECRYPT = "decrypt it first, or declare it raw to take it as it is, encrypted"
_RESTORE = "restore the disk from it, and import that"
_WITH_DISKS = "import the whole machine: name the folder that its disks lie in, or pack it into an OVA"
_AGAIN = "look into it for the reason, and download the disk image again"

_HEADS = (
    (0, b"QFI\xfb\0\0\0\1", "a qcow image of version 1", "convert it first: qemu-img convert -f qcow -O qcow2"),
    (0, b"QED\0", "a QED image", _EXPORT),
    (0, b"WithoutFreeSpace", "a Parallels image", _EXPORT),
    (0, b"WithouFreSpacExt", "a Parallels image", _EXPORT),
    (0, b"Bochs Virtual HD Image", "a Bochs image", _EXPORT),
    (0, b"#!/bin/sh\n#V2.0 Format", "a cloop image", _EXPORT),
    (0, b"\x3a\xff\x26\xed\1\0", "an Android sparse image", "convert it first: simg2img"),
    (0, b"sprs\0\0\0\3", "an Apple sparse image", _EXPORT),
    (0, b"encrcdsa", "an encrypted Apple disk image", _DECRYPT),
    (0, b"LUKS\xba\xbe\0\1", "a disk encrypted by LUKS, version 1", _DECRYPT),
    (0, b"LUKS\xba\xbe\0\2", "a disk encrypted by LUKS, version 2", _DECRYPT),
    (0, b"VMA\0\0\0\0\1", "a Proxmox backup (VMA)", "extract the disks from it first: vma extract"),
    (0, b"partclone-image", "a partclone image", _RESTORE),
    (0, b"EVF\t\r\n\xff\0", "an EWF (E01) image", _EXPORT),
    (0, b"EVF2\r\n\x81\0", "an EWF (Ex01) image", _EXPORT),
    (0, b"AFF10\r\n\0", "an AFF image", _EXPORT),
    (0, b"MSWIM\0\0\0", "a WIM image", _INSTALL),
    (0, b"\x1f\x8b\x08", "a gzip file", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file", _UNPACK),
    (0, b"\xfd7zXZ\0", "an xz file", _UNPACK),
    (0, b"BZh", "a bzip2 file", _UNPACK),
    (0, b"PK\3\4", "a zip file", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z file", _UNPACK),
    (0, b"Rar!\x1a\7", "a rar file", _UNPACK),
    (0, b"\x04\x22\x4d\x18", "an lz4 file", _UNPACK),
    (0, b"LZIP\1", "an lzip file", _UNPACK),
    (0, b"\x89LZO\0\r\n\x1a\n", "an lzop file", _UNPACK),
    (0, b"MSCF\0\0\0\0", "a cabinet file", _UNPACK),
    (257, b"ustar", "a tar archive", "if it is an OVA, import it as one; else unpack it first"),
    (0, b"\x14\x20\x28\x01", "a Hyper-V machine's configuration (.vmcx)", _WITH_DISKS),
    (0, b"%PDF-", "a PDF document", _AGAIN),
    (0, b"version https://git-lfs.", "a Git LFS pointer, not the file that it stands for", "fetch that: git lfs pull"),
    (32769, b"CD001", "an ISO 9660 image", _INSTALL),
    (32769, b"BEA01", "a UDF image", _INSTALL),
)
"""Place from the beginning, bytes there, what such a file is, what to do."""

_TAILS = (
    (0, b"koly", "an Apple disk image (UDIF)", _EXPORT),
    (0, b"conectix", "a fixed VHD image whose footer is damaged", _EXPORT),
    (1, b"conectix", "a fixed VHD image whose footer is damaged", _EXPORT),  # one of 511 bytes
)
"""The same, from the beginning of the last 512 bytes."""

_ROOTS = {
    "Envelope": ("an OVF descriptor", "import the whole machine: pack the descriptor and its disks into an OVA"),
    "VirtualBox": ("a VirtualBox machine's description (.vbox)", _WITH_DISKS),
    "domain": ("a libvirt machine's description", _WITH_DISKS),
    "configuration": ("a Hyper-V machine's configuration", _WITH_DISKS),
    "Parallels_disk_image": ("the description of a Parallels disk", _EXPORT),
    "Error": ("an error message of an object store, not a disk", _AGAIN),
    "html": ("an HTML page, not a disk", _AGAIN),
}
"""Root element → what such an XML or HTML text is, what to do."""

_MARKUP = re.compile(rb"\s*<[!?A-Za-z]")
_PASSED_OVER = re.compile(r"<!--.*?(-->|\Z)|<\?.*?(\?>|\Z)", re.DOTALL)
_ROOT = re.compile(r"<(?:!DOCTYPE\s+)?(?:[A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)[\s>/]", re.IGNORECASE)
_VMX_LINE = re.compile(rb'\.?[A-Za-z][\w.:-]*[ \t]*=[ \t]*"[^"\r\n\0]*"[ \t]*\r?\n')
_MANIFEST_LINE = re.compile(rb"SHA(1|256|384|512) ?\([^()\r\n\0]+\) ?= ?[0-9a-fA-F]{40,128}\r?\n?")
_BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


def foreign_kind(blob: Blob) -> tuple[str, str] | None:
    """What ``blob`` is (``"a VHDX image"``) and what to do about it, or ``None``. At most 34 KiB are read."""
    head = blob.read_at(0, min(_HEAD, blob.size))
    for place, magic, what, remedy in _HEADS:
        if head.startswith(magic, place):
            return what, remedy
    if (text := _text_kind(head[:_TEXT])) is not None:
        return text
    tail = blob.read_at(blob.size - SECTOR, SECTOR) if blob.size > SECTOR else b""
    for place, magic, what, remedy in _TAILS:
        if tail.startswith(magic, place):
            return what, remedy
    return None


def _text_kind(head: bytes) -> tuple[str, str] | None:
    """What a file that begins with the text ``head`` is and what to do, or ``None`` for what is no such text."""
    mark, encoding = next(((m, e) for m, e in _BYTE_ORDER_MARKS if head.startswith(m)), (b"", "utf-8"))
    text = head.removeprefix(mark).decode(encoding, "replace")
    if _MARKUP.match(text.encode("ascii", "replace")) is not None:
        return _markup_kind(text)
    lines = [line for line in text.encode("ascii", "replace").lstrip().splitlines(keepends=True) if line[:1] != b"#"]
    if len(lines) > 1 and all(_VMX_LINE.fullmatch(line) for line in lines[:2]):
        return "a VMware machine's description (.vmx)", _WITH_DISKS
    if lines and _MANIFEST_LINE.fullmatch(lines[0]):
        return "the manifest of an OVF package", _WITH_DISKS
    return None


def _markup_kind(text: str) -> tuple[str, str] | None:
    is_xml = text.lstrip().startswith(("<?xml", "<!DOCTYPE"))
    root = _ROOT.match(_PASSED_OVER.sub("", text).lstrip())
    for name, kind in _ROOTS.items():
        if root is not None and root[1].lower() == name.lower():
            return kind
    return ("an XML text, not a disk", _AGAIN) if is_xml else None
