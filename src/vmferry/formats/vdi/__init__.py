"""VDI, the disk image of VirtualBox.

``header`` holds the structures and their checks, ``disk`` reads, ``writer`` writes.

Source: VirtualBox, ``include/VBox/vd.h`` and its description of the format, version 1.1.
"""

from __future__ import annotations

from collections.abc import Iterable

from vmferry.blob import Blob, BlobWriter
from vmferry.disk import Disk
from vmferry.extent import Extent
from vmferry.folder import ALONE, Companions
from vmferry.formats import DEFAULTS, WriteOptions
from vmferry.formats.vdi.disk import VdiDisk
from vmferry.formats.vdi.header import DYNAMIC, FIXED, SIGNATURE, SIGNATURE_OFFSET
from vmferry.formats.vdi.writer import VdiWriter
from vmferry.registry import About

_TYPES = {"dynamic": DYNAMIC, "fixed": FIXED}


class VdiFormat:
    """The ``Format`` of VDI, which EC2 does not know; it ``SupportsCreate``. Stateless, so safe from any thread."""

    name = "vdi"
    ec2_name: str | None = None
    qemu_name = "vdi"
    subformats = tuple(_TYPES)
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

    def open(self, blob: Blob, companions: Companions = ALONE) -> Disk:
        """The disk in ``blob``; reads the header and the block map."""
        return VdiDisk(blob, companions)

    def create(
        self, target: BlobWriter, size: int, extents: Iterable[Extent], options: WriteOptions = DEFAULTS
    ) -> VdiWriter:
        """A writer whose layout follows from what it is given; ``extents`` change nothing."""
        subformat = options.subformat or self.subformats[0]
        if subformat not in _TYPES:
            raise ValueError(f"vdi has no subformat {subformat!r}; use one of {', '.join(_TYPES)}")
        return VdiWriter(target, size, _TYPES[subformat])


FORMAT = VdiFormat()
