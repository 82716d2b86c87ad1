"""VHD, the disk image of Virtual PC, Hyper-V (Generation 1), Azure and XenServer.

``footer`` says what kind of disk it is, ``header`` reads the tables of dynamic and differencing ones, ``sectors`` tells
what a differencing one holds itself, ``disk`` reads; ``writer`` makes dynamic and fixed ones.

Source: Microsoft, *Virtual Hard Disk Image Format Specification* 1.0; where the files in the field differ from it, the
comments say so.
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
    from vmferry.formats.vhd.writer import VhdWriter

COOKIE = b"conectix"
FOOTER_LENGTH = 512


class VhdFormat:
    """The ``Format`` of VHD; it ``SupportsCreate``. Stateless, so safe from any thread."""

    name = "vhd"
    ec2_name = "VHD"
    qemu_name = "vpc"
    subformats = ("dynamic", "fixed")
    compressed: tuple[str, ...] = ()
    about = About(
        title="VHD (Hyper-V, Azure, Virtual PC, XenServer)",
        reads="fixed (also with a footer of 511 bytes), dynamic, differencing with its parent",
        writes="dynamic, fixed; the size is rounded up to 1 MiB, as Azure wants it",
        refuses="wrong checksums, a differencing disk without its parent",
        limits="2040 GiB written; blocks of 4 KiB to 256 MiB, block allocation table of 32 MiB",
    )

    def probe(self, blob: Blob) -> bool:
        """Whether a footer's cookie stands at the start, or a sound footer at the end."""
        if blob.size < len(COOKIE):
            return False
        if blob.read_at(0, len(COOKIE)) == COOKIE:
            return True
        length = min(blob.size, FOOTER_LENGTH)
        if COOKIE not in blob.read_at(blob.size - length, length):
            return False
        from vmferry.formats.vhd.footer import ends_in_footer

        return ends_in_footer(blob)

    def open(self, blob: Blob, companions: Companions = ALONE) -> ImageDisk:
        """The disk in ``blob``; reads the footer and, where there is one, the block allocation table."""
        from vmferry.formats.vhd.disk import open_image

        return open_image(blob, companions)

    def create(
        self, target: BlobWriter, size: int, extents: Iterable[Extent], options: WriteOptions = DEFAULTS
    ) -> VhdWriter:
        """A writer whose layout follows from what it is given; ``extents`` change nothing."""
        from vmferry.formats.vhd.footer import DYNAMIC, FIXED
        from vmferry.formats.vhd.writer import VhdWriter

        is_fixed = options.choose(self.name, self.subformats) == "fixed"
        return VhdWriter(target, size, FIXED if is_fixed else DYNAMIC)


FORMAT = VhdFormat()
