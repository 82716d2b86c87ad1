"""From a blob and what was supplied beside it to a Disk: which layer, which data file, which parent.

The names inside an image are shown and compared, never opened.
"""

from __future__ import annotations

import re

from vmferry.blob import Blob
from vmferry.disk import Disk, DiskFacts
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.folder import Companions
from vmferry.formats import FORMATS, open_parent
from vmferry.formats._image import ImageDisk
from vmferry.formats.qcow2.disk import Qcow2Layer
from vmferry.formats.qcow2.header import Header, read_header
from vmferry.formats.qcow2.snapshots import Snapshot, find_layer, read_snapshots

_FLATTEN = "or flatten the image where it was made: qemu-img convert -O qcow2 OLD NEW."
_OUR_NAMES = {"raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhdx": "vhdx", "vpc": "vhd"}
"""By QEMU's names, which a backing format is stored as."""


def open_image(blob: Blob, companions: Companions) -> ImageDisk:
    """The disk in ``blob``; reads its header, its table of snapshots and one L1 table.

    Raises ``FormatError`` and ``UnsafeDiskError``, then with all blobs left open.
    """
    header = read_header(blob)
    warnings = ["It was not closed properly; its data is read as it stands."] if header.dirty else []
    snapshots = _list_snapshots(blob, header, companions.snapshot, warnings)
    wanted = companions.snapshot
    layer = header.active if wanted is None else find_layer(blob, header, snapshots, wanted)
    data = _find_data(blob, header, companions)
    parent = _find_parent(blob, header, companions)
    names = [snapshot.name or snapshot.id for snapshot in snapshots]
    if wanted is not None and wanted not in names:
        names.append(wanted)  # asked for by its id
    if names:
        count = f"{len(snapshots):,} internal snapshot" + ("s" if len(snapshots) > 1 else "")
        warnings.append(f"It has {count}; one state of the disk is carried over, the others are not.")
    facts = DiskFacts(
        header.subformat,
        parent=parent,
        extent_files=() if data is blob else (data.name,),
        snapshots=tuple(names),
        warnings=tuple(warnings),
    )
    return ImageDisk(Qcow2Layer(blob, header, layer, data), facts, [blob, data])


def _list_snapshots(blob: Blob, header: Header, wanted: str | None, warnings: list[str]) -> list[Snapshot]:
    try:
        return read_snapshots(blob, header)
    except CorruptDiskError as error:
        if wanted is not None:
            raise
        warnings.append(f"Its internal snapshots cannot be listed: {error}")
        return []


def _find_data(blob: Blob, header: Header, companions: Companions) -> Blob:
    """The blob that standard clusters lie in: ``blob``, or the data file among ``companions``."""
    name = header.data_file
    if name is None:
        return blob
    supplied = companions.extent_files
    plain = re.split(r"[/\\:]", name)[-1]
    if plain in supplied:
        return supplied[plain]
    if len(supplied) == 1:
        return next(iter(supplied.values()))
    raise UnsafeDiskError(
        f"{quote(blob.name)}: qcow2 whose data lies in another file, {_shown(name)}, which is not opened by "
        f"name. Give it with --extent, {_FLATTEN}"
    )


def _find_parent(blob: Blob, header: Header, companions: Companions) -> Disk | None:
    """The backing file's disk, which was supplied, or ``None`` where the image has none."""
    name, declared = header.backing_name, header.backing_format
    if name is None:
        return None
    if not companions.parents:
        raise UnsafeDiskError(
            f"{quote(blob.name)} is a qcow2 overlay of another file, {_shown(name)}, which is not opened by "
            f"name. Give it with --parent, {_FLATTEN}"
        )
    if declared is not None and _OUR_NAMES.get(declared) not in FORMATS:
        raise UnsupportedFeatureError(
            f"{quote(blob.name)} is a qcow2 overlay of a {quote(declared)} file; {', '.join(_OUR_NAMES)} are read. "
            "Flatten it where it was made: qemu-img convert -O qcow2 OLD NEW."
        )
    return open_parent(companions, None if declared is None else _OUR_NAMES[declared])


def _shown(name: str) -> str:
    return quote(name) if name else "without a name"
