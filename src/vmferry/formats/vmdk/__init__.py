"""VMDK: the disks of VMware and VirtualBox, in one file or in many.

``opening`` leads from a blob to a disk. A hosted sparse extent is read by ``header`` → ``directory`` → ``tables`` →
``grains`` → ``hosted``, ESX's snapshot deltas by ``cowd`` or ``sesparse`` → ``delta``, raw pieces by ``flat``;
``descriptor`` and ``extent_files`` say which files a disk lies in, ``composite`` puts the pieces together.

Source: VMware, *Virtual Disk Format 5.0*; where the files in the field differ from it, the comments say so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vmferry.blob import Blob, BlobWriter
from vmferry.disk import OrderedDiskWriter
from vmferry.extent import Extent
from vmferry.folder import ALONE, Companions
from vmferry.formats import DEFAULTS, WriteOptions
from vmferry.formats.vmdk.kinds import find_kind
from vmferry.registry import About

if TYPE_CHECKING:
    from vmferry.formats._image import ImageDisk


class VmdkFormat:
    """The way in. Stateless, so safe from any thread."""

    name = "vmdk"
    ec2_name = "VMDK"
    qemu_name = "vmdk"
    subformats = ("streamOptimized", "monolithicSparse")
    compressed = ("streamOptimized",)
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

    def open(self, blob: Blob, companions: Companions = ALONE) -> ImageDisk:
        """The disk in ``blob``; reads headers, descriptors and grain directories, no grain table.

        Extent files come from ``companions``: those supplied by their plain names, and beside the descriptor those
        that have its stem and ``-….vmdk``. Raises ``CorruptDiskError``, ``UnsupportedFeatureError``,
        ``UnsafeDiskError``, ``StoreError``.
        """
        from vmferry.formats.vmdk.opening import open_image

        return open_image(blob, companions)

    def create(
        self, target: BlobWriter, size: int, extents: Iterable[Extent], options: WriteOptions = DEFAULTS
    ) -> OrderedDiskWriter:
        """A writer whose layout follows from what it is given; ``extents`` change nothing."""
        if options.choose(self.name, self.subformats) == "streamOptimized":
            from vmferry.formats.vmdk.stream_writer import StreamOptimizedWriter

            return StreamOptimizedWriter(target, size, options.compression)
        from vmferry.formats.vmdk.sparse_writer import MonolithicSparseWriter

        return MonolithicSparseWriter(target, size)


FORMAT = VmdkFormat()
