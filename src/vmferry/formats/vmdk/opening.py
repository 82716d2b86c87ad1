"""From a blob and what was supplied beside it to a disk: which kind of VMDK, which files, which parent."""

from __future__ import annotations

from contextlib import ExitStack

from vmferry.blob import Blob
from vmferry.disk import DiskFacts
from vmferry.errors import CorruptDiskError, UnsupportedFeatureError, quote
from vmferry.folder import Companions
from vmferry.formats import open_parent
from vmferry.formats._image import ImageDisk
from vmferry.formats.vmdk import cowd, sesparse
from vmferry.formats.vmdk.composite import Composite, Piece
from vmferry.formats.vmdk.descriptor import (
    Descriptor,
    ExtentLine,
    check_embedded,
    parse_descriptor,
    same_content,
)
from vmferry.formats.vmdk.directory import compare_copies, read_directory
from vmferry.formats.vmdk.extent_files import FLAT_KINDS, ExtentFiles, check_lines
from vmferry.formats.vmdk.flat import FlatExtent, ZeroExtent
from vmferry.formats.vmdk.header import SparseHeader, read_header
from vmferry.formats.vmdk.hosted import HostedExtent
from vmferry.formats.vmdk.kinds import COWD, DESCRIPTOR, HOSTED, SESPARSE, find_kind
from vmferry.units import SECTOR

_KINDS = {"SPARSE": HOSTED, "VMFSSPARSE": COWD, "SESPARSE": SESPARSE}
_LONE = {COWD: "an ESX sparse extent (COWD)", SESPARSE: "a space-efficient sparse extent (seSparse)"}
_CREATE_TYPES = {
    name.lower(): name
    for name in (
        "monolithicSparse", "streamOptimized", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "vmfs",
        "vmfsThin", "vmfsPreallocated", "vmfsEagerZeroedThick", "vmfsSparse", "seSparse", "custom",
    )
} | {"2gbmaxextentsparse": "twoGbMaxExtentSparse", "2gbmaxextentflat": "twoGbMaxExtentFlat"}  # fmt: skip


def open_image(blob: Blob, companions: Companions) -> ImageDisk:
    """The disk in ``blob``. Raises ``FormatError``, ``UnsafeDiskError``, ``StoreError``; then with all that the caller
    supplied left open, and all that was opened beside it closed."""
    kind = find_kind(blob)
    if kind == HOSTED:
        return _open_single(blob, companions)
    if kind == DESCRIPTOR:
        return _open_described(blob, companions)
    if kind is not None:
        raise UnsupportedFeatureError(
            f"vmdk: {quote(blob.name)} is {_LONE[kind]}: one piece of a snapshot that lies on a datastore. "
            "Name the descriptor, the small VMDK that names this file, and give the snapshot's parent with --parent; "
            "or consolidate the machine's snapshots, and export it again."
        )
    raise CorruptDiskError(f"vmdk: {quote(blob.name)} does not begin as any VMDK does. Name the format that it is.")


def _open_single(blob: Blob, companions: Companions) -> ImageDisk:
    header = read_header(blob)
    descriptor = parse_descriptor(_embedded_descriptor(blob, header))
    check_embedded(descriptor, header, blob.name)
    _need_parent(blob, descriptor, companions)
    piece, warnings = _open_hosted(blob, header)
    line = descriptor.extent_lines[0] if descriptor.extent_lines else None
    if line is not None and line.sectors != header.capacity_sectors:
        warnings.append(_disagreement(line.sectors, header.capacity_sectors))
    parent = _open_parent(blob, descriptor, companions)
    subformat = "streamOptimized" if header.compressed else "monolithicSparse"
    facts = DiskFacts(subformat, descriptor.creator, parent=parent, warnings=tuple(warnings))
    return ImageDisk(piece, facts, [blob], identity=descriptor.content_id)


def _open_described(blob: Blob, companions: Companions) -> ImageDisk:
    descriptor = parse_descriptor(blob.read_at(0, blob.size))
    _check_described(blob, descriptor, companions)
    lines = descriptor.extent_lines
    files = ExtentFiles(blob, companions)
    warnings: list[str] = []
    with ExitStack() as cleanup:
        files.open_all(lines, cleanup)
        pieces: list[Piece] = []
        for index, line in enumerate(lines):
            piece, odd = _open_piece(files, line, hides_parent=descriptor.parent is not None)
            odd += _check_length(blob, line, piece.size, is_last=index == len(lines) - 1)
            pieces.append(piece)
            warnings += [sentence for sentence in odd if sentence not in warnings]
        parent = _open_parent(blob, descriptor, companions)
        cleanup.pop_all()
    layer = pieces[0] if len(pieces) == 1 else Composite(pieces)
    written = descriptor.create_type
    subformat = _CREATE_TYPES.get(written.lower(), written) or None
    supplied = files.supplied
    facts = DiskFacts(
        subformat,
        descriptor.creator,
        parent=parent,
        extent_files=tuple(file.name for file in supplied),
        found_files=tuple(file.name for file in files.opened),
        warnings=tuple(warnings),
    )
    return ImageDisk(layer, facts, [blob, *supplied], identity=descriptor.content_id, opened=files.opened)


def _check_described(blob: Blob, descriptor: Descriptor, companions: Companions) -> None:
    """Raise unless the disk is one that may be read, as far as its descriptor tells. Opens nothing."""
    if descriptor.extent_lines or descriptor.parent is None:
        check_lines(descriptor, blob.name)
    _need_parent(blob, descriptor, companions)
    check_lines(descriptor, blob.name)


def _open_piece(files: ExtentFiles, line: ExtentLine, *, hides_parent: bool) -> tuple[Piece, list[str]]:
    """What the extent ``line``, which was checked, stands for, and what is odd about it."""
    size = line.sectors * SECTOR
    if line.kind == "ZERO":
        return ZeroExtent(size), []
    blob = files[line.name]
    if line.kind in FLAT_KINDS:
        offset = (line.offset or 0) * SECTOR
        if offset + size > blob.size:
            raise _cut_short(blob, f"the descriptor takes {size:,} bytes from {offset:,} on, and it has {blob.size:,}")
        return FlatExtent(blob, offset, size, hides_parent=hides_parent), []
    magic = _KINDS[line.kind]
    if blob.size < len(magic) or blob.read_at(0, len(magic)) != magic:
        raise CorruptDiskError(
            f"vmdk: {quote(blob.name)} does not begin as an extent of the kind {quote(line.kind)} does, which its "
            "descriptor says it is. Give the right file."
        )
    match line.kind:
        case "VMFSSPARSE":
            return cowd.open_extent(blob)
        case "SESPARSE":
            return sesparse.open_extent(blob), []
        case _:
            return _open_hosted(blob, read_header(blob))


def _open_hosted(blob: Blob, header: SparseHeader) -> tuple[HostedExtent, list[str]]:
    directory = read_directory(blob, header)
    odd = compare_copies(blob, header, directory)
    warnings = [] if odd is None else [odd]
    if header.unclean:
        warnings.append("It was not closed properly; its data is read as it stands.")
    return HostedExtent(blob, header, directory), warnings


def _check_length(blob: Blob, line: ExtentLine, size: int, *, is_last: bool) -> list[str]:
    """What is odd about an extent of ``size`` bytes; its own header decides, where nothing lies behind it."""
    sectors = size // SECTOR
    if sectors == line.sectors:
        return []
    if sectors < line.sectors:
        raise CorruptDiskError(
            f"vmdk: {quote(line.name)} is cut short: it holds {sectors:,} sectors, and the descriptor "
            f"{quote(blob.name)} gives it {line.sectors:,}. Export or upload it again."
        )
    if not is_last:
        raise CorruptDiskError(
            f"vmdk: {quote(line.name)} holds {sectors:,} sectors, but the descriptor {quote(blob.name)} lets the next "
            f"extent begin after {line.sectors:,}. One of them is damaged: export the disk again."
        )
    return [_disagreement(line.sectors, sectors)]


def _disagreement(described: int, held: int) -> str:
    return f"Its descriptor gives it {described:,} sectors and its header {held:,}; the header's are read."


def _need_parent(blob: Blob, descriptor: Descriptor, companions: Companions) -> None:
    """Raise ``UnsupportedFeatureError`` for a snapshot whose parent was not supplied."""
    if descriptor.parent is None or companions.parents:
        return
    raise UnsupportedFeatureError(
        f"vmdk: {quote(blob.name)} is a snapshot's delta: it holds only what changed since its parent, "
        f"{_wanted(descriptor)}: give it with --parent, or consolidate the machine's snapshots, and export it again."
    )


def _wanted(descriptor: Descriptor) -> str:
    hint = descriptor.values.get("parentfilenamehint")
    return f"{quote(hint)} (CID {quote(descriptor.parent)})" if hint else f"CID {quote(descriptor.parent)}"


def _open_parent(blob: Blob, descriptor: Descriptor, companions: Companions) -> ImageDisk | None:
    """The parent that was supplied, if it is the one whose content id the child repeats."""
    if descriptor.parent is None:
        return None
    parent = open_parent(companions, "vmdk")
    assert isinstance(parent, ImageDisk)
    assert isinstance(parent.identity, str | None)
    if parent.identity is not None and same_content(parent.identity, descriptor.parent):
        return parent
    parent.abandon()
    raise CorruptDiskError(
        f"vmdk: {quote(companions.parents[0].name)} (CID {quote(parent.identity or 'none')}) is not the parent of "
        f"{quote(blob.name)}, which is {_wanted(descriptor)}: it is another disk, or was changed since. "
        "Give the right one with --parent."
    )


def _embedded_descriptor(blob: Blob, header: SparseHeader) -> bytes:
    """The bytes set aside for the descriptor, 1 MiB at the most; none where there is no descriptor."""
    if not header.descriptor_offset:
        return b""
    return blob.read_at(header.descriptor_offset * SECTOR, header.descriptor_size * SECTOR)


def _cut_short(blob: Blob, what: str) -> CorruptDiskError:
    return CorruptDiskError(f"vmdk: {quote(blob.name)} is cut short: {what}. Export or upload it again.")
