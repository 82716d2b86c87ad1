"""VHDX, the disk image of Hyper-V: dynamic, fixed, and snapshots with the parent that is supplied.

``structures`` → ``header`` → ``log`` → ``metadata`` → ``blocks`` → ``disk``: each takes what the one before it gives.
``writer`` makes one. Source: Microsoft, [MS-VHDX] 7.0; where files in the field differ from it, the comments say so.
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
    from vmferry.formats.vhdx.writer import VhdxWriter

MAGIC = b"vhdxfile"


class VhdxFormat:
    """The way in. Stateless, so safe from any thread."""

    name = "vhdx"
    ec2_name = "VHDX"
    qemu_name = "vhdx"
    subformats = ("dynamic", "fixed")
    compressed: tuple[str, ...] = ()
    about = About(
        title="VHDX (Hyper-V)",
        reads="dynamic, fixed, differencing with its parent; sectors of 512 and 4096 bytes; the log replayed in memory",
        writes="dynamic, fixed; blocks of 1 MiB, of 32 MiB above 4 TiB",
        refuses="a differencing disk without its parent, regions and metadata of unknown kinds that are required",
        limits="64 TiB; log of 16 MiB",
    )

    def probe(self, blob: Blob) -> bool:
        """Whether the file identifier says so."""
        return blob.size >= len(MAGIC) and blob.read_at(0, len(MAGIC)) == MAGIC

    def open(self, blob: Blob, companions: Companions = ALONE) -> ImageDisk:
        """The disk in ``blob``; reads headers, log and metadata, and no entry of the block allocation table."""
        from vmferry.formats.vhdx.disk import open_image

        return open_image(blob, companions)

    def create(
        self, target: BlobWriter, size: int, extents: Iterable[Extent], options: WriteOptions = DEFAULTS
    ) -> VhdxWriter:
        """A writer whose layout follows from what it is given; ``extents`` change nothing."""
        from vmferry.formats.vhdx.writer import VhdxWriter

        return VhdxWriter(target, size, is_fixed=options.choose(self.name, self.subformats) == "fixed")


FORMAT = VhdxFormat()
