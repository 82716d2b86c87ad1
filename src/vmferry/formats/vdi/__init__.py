"""VDI, the disk image of VirtualBox.

``header`` holds the structures and their checks, ``disk`` reads, ``writer`` writes.

Source: VirtualBox, ``include/VBox/vd.h`` and its description of the format, version 1.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vmferry.blob import Blob, BlobWriter
from vmferry.extent import Extent
from vmferry.folder import ALONE, Companions
from vmferry.formats import DEFAULTS, WriteOptions
from vmferry.registry import About

if TYPE_CHECKING:
    from vmferry.formats._image import ImageDisk
    from vmferry.formats.vdi.writer import VdiWriter

SIGNATURE = b"\x7f\x10\xda\xbe"
SIGNATURE_OFFSET = 64


class VdiFormat:
    """The ``Format`` of VDI, which EC2 does not know; it ``SupportsCreate``. Stateless, so safe from any thread."""

    name = "vdi"
    ec2_name: str | None = None
    qemu_name = "vdi"
    subformats = ("dynamic", "fixed")
    compressed: tuple[str, ...] = ()
    about = About(
        title="VDI (VirtualBox)",
        reads="dynamic, fixed, differencing with its parent",
        writes="dynamic, fixed; blocks of 1 MiB",
        refuses="undo images, versions before 1.0, a differencing disk without its parent",
        limits="blocks of 4 KiB to 256 MiB, block map of 32 MiB (8 TiB of disk)",
    )

    def probe(self, blob: Blob) -> bool:
        end = SIGNATURE_OFFSET + len(SIGNATURE)
        return blob.size >= end and blob.read_at(SIGNATURE_OFFSET, len(SIGNATURE)) == SIGNATURE

    def open(self, blob: Blob, companions: Companions = ALONE) -> ImageDisk:
        """The disk in ``blob``; reads the header and the block map."""
        from vmferry.formats.vdi.disk import open_image

        return open_image(blob, companions)

    def create(
        self, target: BlobWriter, size: int, extents: Iterable[Extent], options: WriteOptions = DEFAULTS
    ) -> VdiWriter:
        """A writer whose layout follows from what it is given; ``extents`` change nothing."""
        from vmferry.formats.vdi.header import DYNAMIC, FIXED
        from vmferry.formats.vdi.writer import VdiWriter

        is_fixed = options.choose(self.name, self.subformats) == "fixed"
        return VdiWriter(target, size, FIXED if is_fixed else DYNAMIC)


FORMAT = VdiFormat()
