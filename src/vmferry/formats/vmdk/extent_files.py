"""The files that a descriptor's extent lines name: which of them may be opened, and from where.

A name is compared with what the caller supplied, and with the names that a disk's own extent files have beside it. It
is never a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import pairwise

from vmferry.blob import Blob
from vmferry.errors import BlobNotFoundError, CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.folder import Companions, Folder
from vmferry.formats.vmdk.descriptor import Descriptor, ExtentLine
from vmferry.limits import MAX_DISK_SIZE, MAX_EXTENT_FILES
from vmferry.units import SECTOR, format_size

FLAT_KINDS = ("FLAT", "VMFS")
SPARSE_KINDS = ("SPARSE", "VMFSSPARSE", "SESPARSE")
_DEVICE_KINDS = ("VMFSRDM", "VMFSRAW")
_DEVICE_TYPES = {"fulldevice", "partitioneddevice", "vmfsrdm", "vmfsrdmp", "vmfsraw", "vmfspassthroughrawdevicemap"}
_NO_PLAIN_NAME = re.compile(r".*[/\\:\x00-\x1f\x7f].*|\.{0,2}", re.DOTALL)
"""A path, a drive, a URL, a protocol (``json:``), a folder, or nothing at all."""
_EXPORT = "Export the disk as an OVA or as a streamOptimized VMDK instead."


def check_lines(descriptor: Descriptor, name: str) -> None:
    """Raise unless every extent line of the stand-alone ``descriptor``, the file ``name``, is one that may be read.

    Opens nothing. Raises ``UnsafeDiskError`` for paths, devices, and claims over the limits, else
    ``UnsupportedFeatureError`` or ``CorruptDiskError``.
    """
    lines = descriptor.extent_lines
    if len(lines) > MAX_EXTENT_FILES:
        raise UnsafeDiskError(
            f"vmdk: {quote(name)} lists {len(lines):,} extents; at most {MAX_EXTENT_FILES:,} are read. {_EXPORT}"
        )
    for line in lines:
        _check_line(line, name)
    if descriptor.create_type.lower() in _DEVICE_TYPES:
        raise UnsafeDiskError(
            f"vmdk: {quote(name)} stands for a device ({quote(descriptor.create_type)}), which is never opened. "
            f"{_EXPORT}"
        )
    if descriptor.unread_line is not None:
        raise CorruptDiskError(
            f"vmdk: {quote(name)} has an extent line that cannot be read: {quote(descriptor.unread_line)}. {_EXPORT}"
        )
    if not lines:
        kind = f" ({quote(descriptor.create_type)})" if descriptor.create_type else ""
        raise UnsupportedFeatureError(
            f"vmdk: {quote(name)} is only the descriptor of a disk{kind}, and it names no file that holds data. "
            f"{_EXPORT}"
        )
    size = sum(line.sectors for line in lines) * SECTOR
    if size > MAX_DISK_SIZE:
        raise UnsafeDiskError(
            f"vmdk: {quote(name)} claims a disk of {size:,} bytes; at most {format_size(MAX_DISK_SIZE)} are accepted. "
            "The file is damaged or made to do harm: export it again."
        )
    _check_repeats(lines, name)


def _check_line(line: ExtentLine, name: str) -> None:
    is_nowhere = line.kind == "ZERO" and not line.name
    if line.kind in _DEVICE_KINDS or (_NO_PLAIN_NAME.fullmatch(line.name) is not None and not is_nowhere):
        raise UnsafeDiskError(
            f"vmdk: {quote(name)} is a descriptor that points to {quote(line.name) or 'nothing'} ({quote(line.kind)}): "
            f"a path or a device inside a disk image is never opened. {_EXPORT}"
        )
    if line.access == "NOACCESS":
        raise UnsupportedFeatureError(
            f"vmdk: {quote(name)} has an extent that may not be read (NOACCESS {quote(line.kind)}). {_EXPORT}"
        )
    if line.kind not in (*FLAT_KINDS, *SPARSE_KINDS, "ZERO"):
        raise UnsupportedFeatureError(
            f"vmdk: {quote(name)} has an extent of the kind {quote(line.kind)}, which is not read. {_EXPORT}"
        )
    if not line.sectors or (line.kind == "FLAT" and line.offset is None):
        what = "no length" if not line.sectors else "no place in its file"
        raise CorruptDiskError(
            f"vmdk: {quote(name)} gives the extent {quote(line.name or line.kind)} {what}. "
            "It is damaged: export it again."
        )


def _check_repeats(lines: Iterable[ExtentLine], name: str) -> None:
    """A file may hold several pieces only where they are raw and lie apart."""
    taken: dict[str, list[tuple[int, int]]] = {}
    kinds: dict[str, str] = {}
    for line in lines:
        if line.kind == "ZERO":
            continue
        if line.name == _last_component(name):
            raise UnsafeDiskError(f"vmdk: {quote(name)} names itself as the file that holds its data. {_EXPORT}")
        first = kinds.setdefault(line.name, line.kind)
        start = line.offset or 0
        taken.setdefault(line.name, []).append((start, start + line.sectors))
        if len(taken[line.name]) > 1 and not {first, line.kind} <= set(FLAT_KINDS):
            raise UnsafeDiskError(f"vmdk: {quote(name)} names the sparse file {quote(line.name)} twice. {_EXPORT}")
    for file, ranges in taken.items():
        ranges.sort()
        if any(low < end for (_, end), (low, _) in pairwise(ranges)):
            raise UnsafeDiskError(
                f"vmdk: {quote(name)} takes the same bytes of {quote(file)} for two parts of the disk. {_EXPORT}"
            )


class ExtentFiles:
    """The files of one descriptor, each opened once. Not safe for threads: it lives while the disk is opened."""

    def __init__(self, descriptor_blob: Blob, companions: Companions) -> None:
        self._descriptor = descriptor_blob
        self._companions = companions
        self._stem = _last_component(descriptor_blob.name).removesuffix(".vmdk")
        self._found: dict[str, Blob] = {}
        self.opened: list[Blob] = []
        """What was found beside the descriptor: the disk's to close."""

    def open_all(self, lines: Sequence[ExtentLine], cleanup: ExitStack) -> None:
        """Find every file that ``lines``, which were checked, name; ``cleanup`` closes what is opened here.

        Raises ``UnsupportedFeatureError`` for one that was not supplied, ``UnsafeDiskError``, ``StoreError``.
        """
        names = list(dict.fromkeys(line.name for line in lines if line.kind != "ZERO"))
        places = {name: self._place(name) for name in names}
        for name, folder in places.items():
            self._found[name] = self._open(folder, name, cleanup)
        if any(blob is self._descriptor for blob in self._found.values()):
            raise UnsafeDiskError(
                f"vmdk: {quote(self._descriptor.name)} is given as the file that holds its own data. {_EXPORT}"
            )
        seen: dict[int, str] = {}
        for name, blob in self._found.items():
            if seen.setdefault(id(blob), name) != name:
                raise UnsafeDiskError(
                    f"vmdk: {quote(self._descriptor.name)} takes {quote(blob.name)} for two of its files, "
                    f"{quote(seen[id(blob)])} and {quote(name)}. Give each file once."
                )

    def __getitem__(self, name: str) -> Blob:
        return self._found[name]

    @property
    def supplied(self) -> list[Blob]:
        """What the caller supplied of all that was found."""
        return [blob for blob in self._found.values() if all(blob is not other for other in self.opened)]

    def _place(self, name: str) -> Folder | None:
        """The folder that the file ``name`` may be taken from; ``None``: it was supplied by name."""
        if name in self._companions.extent_files:
            return None
        is_own = bool(self._stem) and name.startswith(f"{self._stem}-") and name.endswith(".vmdk")
        if self._companions.beside is None or not is_own or len(name) <= len(self._stem) + len("-.vmdk"):
            raise self._missing(name)
        return self._companions.beside

    def _open(self, folder: Folder | None, name: str, cleanup: ExitStack) -> Blob:
        if folder is None:
            return self._companions.extent_files[name]
        try:
            # As good as looking for it among ``names()`` first, which walks through everything below the folder.
            blob = folder.open(name)
        except BlobNotFoundError as error:
            raise self._missing(name) from error
        self.opened.append(blob)
        cleanup.callback(blob.close)
        return blob

    def _missing(self, name: str) -> UnsupportedFeatureError:
        return UnsupportedFeatureError(
            f"vmdk: {quote(self._descriptor.name)} is only the descriptor of a disk; the data lies in another file, "
            f"{quote(name)}, which is not opened by its name: give it with --extent FILE."
        )


def _last_component(name: str) -> str:
    return name.rpartition("/")[2]
