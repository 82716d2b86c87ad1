"""An image in a local file that shows a larger disk from now on: a few bytes of its header and its L1 table.

qcow2.rst, "Header": ``size`` is at byte 24, ``l1_size`` at byte 36, and the L1 table lies in whole clusters, so that a
table of few entries has room for as many as fill its last one: with clusters of 64 KiB, for a disk of 4 TiB.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from vmferry.blob import FileBlob
from vmferry.formats.qcow2.header import read_header
from vmferry.units import round_up

_SIZE_TO_L1_SIZE = struct.Struct(">QII")
"""``size``, ``crypt_method``, ``l1_size``: within one sector, so they are written together or not at all."""
_SIZE_AT = 24
_ENTRY = 8


def grow_image(path: Path, size: int) -> bool:
    """Let the qcow2 at ``path``, which nobody has open, show a disk of ``size`` bytes, zeros behind what it has.

    ``False``, and nothing is changed, where it has that many already, where it is no plain image of its own (internal
    snapshots, bitmaps, a backing or data file, a dirty one), or where its L1 table would have to move, or is not there:
    ``qemu-img resize`` does that. Raises ``FormatError``, ``OSError``.
    """
    blob = FileBlob(path)
    try:
        header = read_header(blob)
    finally:
        blob.close()
    active = header.active
    plain = not (header.snapshot_count or header.dirty or header.extended_l2 or header.bitmaps)
    if not plain or header.backing_name is not None or header.data_file is not None or active.size >= size:
        return False
    if not active.l1_table_offset:  # a disk without a byte has no table
        return False
    wanted = -(-size // (header.cluster_size << header.l2_bits))
    if wanted * _ENTRY > round_up(max(active.l1_size, 1) * _ENTRY, header.cluster_size):
        return False
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(file, bytes((wanted - active.l1_size) * _ENTRY), active.l1_table_offset + active.l1_size * _ENTRY)
        os.fsync(file)
        os.pwrite(file, _SIZE_TO_L1_SIZE.pack(size, 0, wanted), _SIZE_AT)
        os.fsync(file)
    finally:
        os.close(file)
    return True
