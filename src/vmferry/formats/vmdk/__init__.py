"""VMDK: hosted sparse disks in one file, monolithicSparse and streamOptimized.

``header`` → ``descriptor`` → ``directory`` → ``tables`` → ``grains`` → ``disk``: each takes what
the one before it gives.
Disks whose data lies in other files (flat, split, snapshot deltas) are recognised and refused by name.

Source: VMware, *Virtual Disk Format 5.0*; where the files in the field differ from it, the comments say so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from vmferry.blob import Blob, BlobWriter
from vmferry.disk import Disk, OrderedDiskWriter
from vmferry.errors import CorruptDiskError, UnsupportedFeatureError, quote
from vmferry.extent import Extent
from vmferry.folder import ALONE, Companions
from vmferry.formats import DEFAULTS, WriteOptions
from vmferry.formats.vmdk.descriptor import (
    MAX_DESCRIPTOR_FILE,
    check_embedded,
    looks_like_descriptor,
    parse_descriptor,
    refuse_descriptor_file,
)
from vmferry.formats.vmdk.directory import read_directory
from vmferry.formats.vmdk.disk import VmdkDisk
from vmferry.formats.vmdk.header import MAGIC, SparseHeader, read_header
from vmferry.formats.vmdk.sparse_writer import MonolithicSparseWriter
from vmferry.formats.vmdk.stream_writer import StreamOptimizedWriter
from vmferry.registry import About
from vmferry.units import SECTOR

_PROBE_LENGTH = 1024
_ESX_SPARSE = b"COWD"
_SE_SPARSE = b"\xbe\xba\xfe\xca\x00\x00\x00\x00"


class VmdkFormat:
    """The way in. Stateless, so safe from any thread."""

    name = "vmdk"
    ec2_name = "VMDK"
    qemu_name = "vmdk"
    subformats = ("streamOptimized", "monolithicSparse")
    about = About(
        title="VMDK (VMware, VirtualBox)",
        reads="monolithicSparse, streamOptimized",
        writes="streamOptimized as ESXi exports it, monolithicSparse; the size is rounded up to 1 MiB",
        refuses="disks in several files, snapshot deltas, devices",
        limits="64 TiB; grain directory of 128 MiB",
    )

    def probe(self, blob: Blob) -> bool:
        """Whether ``blob`` is any kind of VMDK, those that ``open`` refuses included: none of them is a raw disk."""
        return _kind(blob) is not None

    def open(self, blob: Blob, companions: Companions = ALONE) -> Disk:
        """The disk in ``blob``; reads the header, the descriptor and the grain directory, no grain table.

        Raises ``CorruptDiskError``, ``UnsupportedFeatureError`` or ``UnsafeDiskError``.
        """
        kind = _kind(blob)
        if kind != MAGIC:
            _refuse(blob, kind)
        header = read_header(blob)
        check_embedded(parse_descriptor(_embedded_descriptor(blob, header)), header, blob.name)
        return VmdkDisk(blob, header, read_directory(blob, header))

    def create(
        self, target: BlobWriter, size: int, extents: Iterable[Extent], options: WriteOptions = DEFAULTS
    ) -> OrderedDiskWriter:
        """A writer whose layout follows from what it is given; ``extents`` change nothing."""
        match options.subformat or self.subformats[0]:
            case "streamOptimized":
                return StreamOptimizedWriter(target, size, options.compression)
            case "monolithicSparse":
                return MonolithicSparseWriter(target, size)
            case other:
                raise ValueError(f"vmdk has no subformat {other!r}; use one of {', '.join(self.subformats)}")


def _kind(blob: Blob) -> bytes | None:
    """The magic that ``blob`` begins with, ``b"#"`` for a descriptor in text, or ``None``."""
    head = blob.read_at(0, min(_PROBE_LENGTH, blob.size))
    for magic in (MAGIC, _ESX_SPARSE, _SE_SPARSE):
        if head.startswith(magic):
            return magic
    # A disk that is larger than any descriptor and begins with such text is a raw disk on which somebody wrote it.
    return b"#" if blob.size <= MAX_DESCRIPTOR_FILE and looks_like_descriptor(head) else None


def _refuse(blob: Blob, kind: bytes | None) -> NoReturn:
    """Say what ``blob`` is, when it is not a hosted sparse extent, and what to do about it."""
    if kind == b"#":
        refuse_descriptor_file(parse_descriptor(blob.read_at(0, blob.size)), blob.name)
    if kind in (_ESX_SPARSE, _SE_SPARSE):
        what = "an ESX sparse extent (COWD)" if kind == _ESX_SPARSE else "a space-efficient sparse extent (seSparse)"
        raise UnsupportedFeatureError(
            f"vmdk: {quote(blob.name)} is {what}: one piece of a snapshot that lies on a datastore. "
            "Consolidate the machine's snapshots and export it again as an OVA or as a streamOptimized VMDK."
        )
    raise CorruptDiskError(f"vmdk: {quote(blob.name)} does not begin as any VMDK does. Name the format that it is.")


def _embedded_descriptor(blob: Blob, header: SparseHeader) -> bytes:
    """The bytes set aside for the descriptor, 1 MiB at the most; none where there is no descriptor."""
    if not header.descriptor_offset:
        return b""
    return blob.read_at(header.descriptor_offset * SECTOR, header.descriptor_size * SECTOR)


FORMAT = VmdkFormat()
