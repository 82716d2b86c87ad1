"""qcow2, the disk image of QEMU: versions 2 and 3 are read, version 3 is written.

Source: QEMU, ``docs/interop/qcow2.rst``. ``header`` (with ``extensions``) and ``snapshots`` hold the structures and
their checks. Reading: ``entries`` says what L2 entries mean, ``tables`` loads them, ``claims`` keeps them apart,
``clusters`` (with ``compression``) gets what they point to, ``disk`` is the whole, which ``opening`` puts together with
what was supplied beside it. Writing: ``layout`` says where each cluster of a plain image lies and ``writer`` puts it
there; ``packed_writer`` packs clusters as they come, compressed or for S3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vmferry.blob import Blob, BlobWriter, SupportsReserve
from vmferry.extent import Extent
from vmferry.folder import ALONE, Companions
from vmferry.formats import DEFAULTS, WriteOptions
from vmferry.registry import About

if TYPE_CHECKING:
    from vmferry.formats._image import ImageDisk
    from vmferry.formats.qcow2.packed_writer import PackedQcow2Writer
    from vmferry.formats.qcow2.writer import Qcow2Writer

MAGIC = b"QFI\xfb"
_VERSION_1 = b"\0\0\0\1"
"""What follows the magic in qcow, the format before qcow2, which shares nothing else with it."""


class Qcow2Format:
    """The ``Format`` of qcow2, which EC2 does not know; it ``SupportsCreate``. Stateless, so safe from any thread."""

    name = "qcow2"
    ec2_name: str | None = None
    qemu_name = "qcow2"
    subformats = ("plain", "zlib", "zstd")
    compressed = ("zlib", "zstd")
    about = About(
        title="qcow2 (QEMU, KVM)",
        reads="versions 2 and 3; zlib and zstd; extended L2; internal snapshots by name; "
        "backing and data files that are supplied",
        writes="version 3, clusters of 64 KiB: plain, zlib or zstd",
        refuses="encryption; backing and data files that only the image names; images marked corrupt",
        limits="64 TiB; L1 table of 32 MiB; 65,536 internal snapshots",
    )

    def probe(self, blob: Blob) -> bool:
        head = blob.read_at(0, min(blob.size, len(MAGIC) + len(_VERSION_1)))
        return head.startswith(MAGIC) and not head.startswith(MAGIC + _VERSION_1)

    def open(self, blob: Blob, companions: Companions = ALONE) -> ImageDisk:
        from vmferry.formats.qcow2.opening import open_image

        return open_image(blob, companions)

    def create(
        self, target: BlobWriter, size: int, extents: Iterable[Extent], options: WriteOptions = DEFAULTS
    ) -> Qcow2Writer | PackedQcow2Writer:
        subformat = options.choose(self.name, self.subformats)
        if subformat != "plain" or isinstance(target, SupportsReserve):
            from vmferry.formats.qcow2.header import ZLIB, ZSTD
            from vmferry.formats.qcow2.packed_writer import PackedQcow2Writer

            kind = {"plain": None, "zlib": ZLIB, "zstd": ZSTD}[subformat]
            return PackedQcow2Writer(target, size, kind, options.compression)
        from vmferry.formats.qcow2.layout import Layout
        from vmferry.formats.qcow2.writer import Qcow2Writer

        return Qcow2Writer(target, Layout(size, extents))


FORMAT = Qcow2Format()
