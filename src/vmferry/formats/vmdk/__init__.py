"""VMDK: the disks of VMware and VirtualBox, in one file or in many.

``opening`` leads from a blob to a disk. A hosted sparse extent is read by ``header`` → ``directory`` → ``tables`` →
``grains`` → ``hosted``, ESX's snapshot deltas by ``cowd`` or ``sesparse`` → ``delta``, raw pieces by ``flat``;
``descriptor`` and ``extent_files`` say which files a disk lies in, ``composite`` puts the pieces together.

Source: VMware, *Virtual Disk Format 5.0*; where the files in the field differ from it, the comments say so.
"""

from __future__ import annotations

from collections.abc import Iterable

from vmferry.blob import Blob, BlobWriter
from vmferry.disk import Disk, OrderedDiskWriter
from vmferry.extent import Extent
from vmferry.folder import ALONE, Companions
from vmferry.formats import DEFAULTS, WriteOptions
from vmferry.formats.vmdk.opening import find_kind, open_image
from vmferry.formats.vmdk.sparse_writer import MonolithicSparseWriter
from vmferry.formats.vmdk.stream_writer import StreamOptimizedWriter
from vmferry.registry import About


class VmdkFormat:
    """The way in. Stateless, so safe from any thread."""

    name = "vmdk"
    ec2_name = "VMDK"
    qemu_name = "vmdk"
    subformats = ("streamOptimized", "monolithicSparse")
    about = About(
        title="VMDK (VMware, VirtualBox)",
        reads=(
            "monolithicSparse, streamOptimized, twoGbMaxExtentSparse, monolithicFlat, twoGbMaxExtentFlat, vmfs and its "
            "kinds, vmfsSparse (COWD) and seSparse deltas; snapshots with their parents"
        ),
        writes="streamOptimized as ESXi exports it, monolithicSparse; the size is rounded up to 1 MiB",
        refuses="devices and raw device mappings, snapshots without their parents, extent files that were not supplied",
        limits="64 TiB; grain directory of 128 MiB; 4096 extent files",
    )

    def probe(self, blob: Blob) -> bool:
        """Whether ``blob`` is any kind of VMDK, those that ``open`` refuses included: none of them is a raw disk."""
        return find_kind(blob) is not None

    def open(self, blob: Blob, companions: Companions = ALONE) -> Disk:
        """The disk in ``blob``; reads headers, descriptors and grain directories, no grain table.

        Extent files come from ``companions``: those supplied by their plain names, and beside the descriptor those
        that have its stem and ``-….vmdk``. Raises ``CorruptDiskError``, ``UnsupportedFeatureError``,
        ``UnsafeDiskError``, ``StoreError``.
        """
        return open_image(blob, companions)

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


FORMAT = VmdkFormat()
