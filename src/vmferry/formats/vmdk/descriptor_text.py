"""The descriptor of a VMDK that is written: what VMware, VirtualBox and QEMU ask of it, in VMware's own order."""

from __future__ import annotations

import hashlib
import re

from vmferry.errors import quote
from vmferry.units import SECTOR

DESCRIPTOR_OFFSET = 1
"""Sector of the file where an embedded descriptor begins."""
DESCRIPTOR_SECTORS = 20
"""Room that VMware leaves for it, and that VirtualBox needs: it adds lines in place when it imports a disk."""

_HEADS, _SECTORS_PER_TRACK = 255, 63
_MAX_CYLINDERS = 65535
_NO_CONTENT = {0, 0xFFFF_FFFE, 0xFFFF_FFFF}
"""Content ids that mean something else: none, not known yet, no parent."""
_PLAIN_NAME = re.compile(r'[^\x00-\x1f"/\\\x7f-\U0010ffff]{1,255}')


def content_id(*facts: object) -> tuple[int, str]:
    """The CID that follows from ``facts``, and the longContentID, which ends in it.

    A CID tells parents of snapshots apart; it need not, and in a stream it cannot, be made from all of the content.
    """
    long = hashlib.sha256(repr(("vmferry vmdk", *facts)).encode()).hexdigest()[:32]
    if int(long[-8:], 16) in _NO_CONTENT:
        long = long[:-8] + "00000001"
    return int(long[-8:], 16), long


def check_name(name: str) -> str:
    """``name``, if it can stand in a descriptor: plain ASCII, no quotation mark, no folder. ``ValueError`` if not."""
    if _PLAIN_NAME.fullmatch(name) is None:
        raise ValueError(f"{quote(name)} cannot be the file's name in a descriptor")
    return name


def render_descriptor(create_type: str, capacity_sectors: int, name: str, ids: tuple[int, str]) -> bytes:
    """The descriptor, with zeros up to its 20 sectors. ``name``, which ``check_name`` has passed, is the file's own;
    every sound reader ignores it."""
    cid, long = ids
    cylinders = min(max(-(-capacity_sectors // (_HEADS * _SECTORS_PER_TRACK)), 1), _MAX_CYLINDERS)
    lines = (
        "# Disk DescriptorFile",
        "version=1",
        f"CID={cid:08x}",
        "parentCID=ffffffff",
        f'createType="{create_type}"',
        "",
        "# Extent description",
        f'RW {capacity_sectors} SPARSE "{name}"',
        "",
        "# The Disk Data Base",
        "#DDB",
        "",
        'ddb.adapterType = "lsilogic"',
        f'ddb.geometry.cylinders = "{cylinders}"',
        f'ddb.geometry.heads = "{_HEADS}"',
        f'ddb.geometry.sectors = "{_SECTORS_PER_TRACK}"',
        f'ddb.longContentID = "{long}"',
        'ddb.virtualHWVersion = "10"',
        "",
    )
    return "\n".join(lines).encode("ascii").ljust(DESCRIPTOR_SECTORS * SECTOR, b"\0")
