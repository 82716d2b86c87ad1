"""What is in a package: its files by name, and those that a descriptor refers to, found among them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from contextlib import ExitStack
from urllib.parse import unquote

from vmferry import wrappers
from vmferry.appliances._chunks import ConcatBlob
from vmferry.appliances._digests import UnpackedFile
from vmferry.appliances._ovf import OvfFile
from vmferry.blob import Blob, MemoryBlob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.folder import Folder
from vmferry.units import format_size

_FIRST_CHUNK = ".000000000"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PACKED = ("gzip", "bzip2", "xz", "zstd")
"""What a file that is not said to be packed may be packed with all the same."""
_HEAD = 512
"""Bytes that tell what a file is packed with, read once for all packings."""


class Contents:
    """The files of one package. Names are compared in Unicode's composed form (NFC)."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._names = {nfc(name): name for name in folder.names()}
        self._last: dict[str, list[str]] = {}
        for composed, name in self._names.items():
            self._last.setdefault(composed.rpartition("/")[2], []).append(name)

    @property
    def folder(self) -> Folder:
        return self._folder

    def __contains__(self, name: str) -> bool:
        return nfc(name) in self._names

    def ending(self, suffix: str) -> list[str]:
        """Names that end in ``suffix``, in any case."""
        return [name for name in self._names.values() if name.lower().endswith(suffix)]

    def read(self, name: str, most: int) -> bytes:
        """All of a small file. Raises ``UnsafeDiskError`` when it is longer than ``most`` bytes."""
        blob = self._folder.open(name)
        try:
            return read_small(blob, most, f"{quote(self._folder.name)}: {quote(name)}")
        finally:
            blob.close()

    def find(self, name: str, base: str) -> str | None:
        """The file ``base`` + ``name``; else the only one with the same last component."""
        wanted = nfc(base + name)
        if wanted in self._names:
            return self._names[wanted]
        alike = self._last.get(wanted.rpartition("/")[2], [])
        return alike[0] if len(alike) == 1 else None

    def open(self, file: OvfFile, base: str) -> tuple[str, Blob]:
        """The name and the bytes of a file that a descriptor in ``base`` refers to.

        Chunks are put together; what is packed is read through its wrapper, as an ``UnpackedFile``. Raises
        ``UnsafeDiskError`` for a reference that leads outside, ``CorruptDiskError`` when there is no such file,
        ``UnsupportedFeatureError`` for packings that are not known, and what the wrapper raises.
        """
        href = self._inside(file.href)
        found = self._whole_or_chunks(href, base) or self._whole_or_chunks(unquote(href), base)
        if not found:
            raise CorruptDiskError(
                f"{quote(self._folder.name)}: the file {quote(href)}, which the descriptor refers to, is not in the "
                "package. It is cut short or was packed without it: export or upload it again."
            )
        with ExitStack() as opened:
            blobs = []
            for name in found:
                blobs.append(self._folder.open(name))
                opened.callback(blobs[-1].close)
            name, blob = found[0], blobs[0]
            if name.endswith(_FIRST_CHUNK):
                self._check_chunks(found, blobs, file)
            if len(blobs) > 1:
                name = name.removesuffix(_FIRST_CHUNK)
                blob = ConcatBlob(blobs, blob.name.removesuffix(_FIRST_CHUNK))
            blob = self._unpacked(blob, file)
            opened.pop_all()
        return name, blob

    def _inside(self, href: str) -> str:
        """``href`` as a name inside the package: no path and no address is ever opened."""
        for spelling in (href, unquote(href)):
            outside = spelling.startswith("/") or _SCHEME.match(spelling) or re.search(r"[\0\\]", spelling)
            if outside or ".." in spelling.split("/"):
                raise UnsafeDiskError(
                    f"{quote(self._folder.name)}: the descriptor refers to {quote(href)}, which is outside of the "
                    "package: export the machine as one OVA with its disks inside."
                )
        return href.removeprefix("./")

    def _whole_or_chunks(self, name: str, base: str) -> list[str]:
        """The file ``name``, else its chunks ``name.000000000``, ``name.000000001``, … as far as they go on."""
        whole = self.find(name, base)
        if whole is not None:
            return [whole]
        chunks: list[str] = []
        while (chunk := self.find(f"{name}.{len(chunks):09d}", base)) is not None:
            chunks.append(chunk)
        return chunks

    def _check_chunks(self, names: Sequence[str], blobs: Sequence[Blob], file: OvfFile) -> None:
        """All chunks but the last have the size that the descriptor says, and so have all together."""
        for name, chunk in zip(names[:-1], blobs, strict=False):
            if file.chunk_size is not None and chunk.size != file.chunk_size:
                raise CorruptDiskError(
                    f"{quote(self._folder.name)}: the chunk {quote(name)} has {chunk.size:,} bytes, "
                    f"but the descriptor says {file.chunk_size:,}: export the machine again."
                )
        total = sum(chunk.size for chunk in blobs)
        if file.size is not None and total != file.size:
            raise CorruptDiskError(
                f"{quote(self._folder.name)}: the {len(blobs)} chunks of {quote(file.href)} have {total:,} bytes, but "
                f"the descriptor says {file.size:,}: one is missing or cut short. Export or upload it again."
            )

    def _unpacked(self, blob: Blob, file: OvfFile) -> Blob:
        """What is in ``blob``: the descriptor's word counts, and where it has none the first bytes."""
        said = (file.compression or "").strip().lower()
        if said in ("", "identity"):
            wrapper = wrappers.detect(MemoryBlob(blob.read_at(0, min(blob.size, _HEAD)), blob.name))
            return blob if wrapper is None or wrapper.name not in _PACKED else UnpackedFile(blob, wrapper.open(blob))
        known = wrappers.WRAPPERS.get(said) if said in _PACKED else None
        if known is None:
            raise UnsupportedFeatureError(
                f"{quote(self._folder.name)}: the file {quote(file.href)} is compressed with "
                f"{quote(file.compression)}, which is not supported: export without file "
                "compression; streamOptimized disks are compressed already."
            )
        return UnpackedFile(blob, known.open(blob))


class Subfolder:
    """Those files of a folder whose names begin with ``prefix`` (which ends in ``/``), by the rest of their names."""

    def __init__(self, folder: Folder, prefix: str) -> None:
        self._folder = folder
        self._prefix = prefix

    @property
    def name(self) -> str:
        return f"{self._folder.name}/{self._prefix}".rstrip("/")

    def names(self) -> Sequence[str]:
        return [n.removeprefix(self._prefix) for n in self._folder.names() if n.startswith(self._prefix)]

    def open(self, name: str) -> Blob:
        return self._folder.open(self._prefix + name)


def around(folder: Folder, name: str) -> Folder:
    """The folder that the file ``name`` of ``folder`` lies in."""
    base = name[: name.rfind("/") + 1]
    return Subfolder(folder, base) if base else folder


def read_small(blob: Blob, most: int, what: str) -> bytes:
    """All of ``blob``. Raises ``UnsafeDiskError`` when it is longer than ``most`` bytes."""
    if blob.size > most:
        raise UnsafeDiskError(
            f"{what} has {format_size(blob.size)}; at most {format_size(most)} is read. Export again."
        )
    return blob.read_at(0, blob.size)


def nfc(name: str) -> str:
    """``name`` in the form in which names are compared."""
    return unicodedata.normalize("NFC", name)
