"""qcow2, the disk image of QEMU: versions 2 and 3 are read, version 3 is written.

Source: QEMU, ``docs/interop/qcow2.rst``. ``header`` holds the one structure and its checks, ``disk`` reads, ``layout``
says where each cluster of a new image lies, ``writer`` puts it there.
"""

from __future__ import annotations

from collections.abc import Iterable

from vmferry.blob import Blob, BlobWriter
from vmferry.extent import Extent
from vmferry.folder import ALONE, Companions
from vmferry.formats import DEFAULTS, WriteOptions
from vmferry.formats.qcow2.disk import Qcow2Disk
from vmferry.formats.qcow2.header import MAGIC
from vmferry.formats.qcow2.layout import Layout
from vmferry.formats.qcow2.writer import Qcow2Writer
from vmferry.registry import About


class Qcow2Format:
    """The ``Format`` of qcow2, which EC2 does not know; it ``SupportsCreate``."""

    name = "qcow2"
    ec2_name: str | None = None
    qemu_name = "qcow2"
    subformats = ("plain",)
    about = About(
        title="qcow2 (QEMU, KVM)",
        reads="versions 2 and 3, standard and zlib clusters",
        writes="version 3, clusters of 64 KiB",
        refuses="encryption, backing files, data files, zstd, extended L2",
        limits="64 TiB; L1 table of 32 MiB",
    )

    def probe(self, blob: Blob) -> bool:
        return blob.size >= len(MAGIC) and blob.read_at(0, len(MAGIC)) == MAGIC

    def open(self, blob: Blob, companions: Companions = ALONE) -> Qcow2Disk:
        return Qcow2Disk(blob)

    def create(
        self, target: BlobWriter, size: int, extents: Iterable[Extent], options: WriteOptions = DEFAULTS
    ) -> Qcow2Writer:
        return Qcow2Writer(target, Layout(size, extents))


FORMAT = Qcow2Format()
