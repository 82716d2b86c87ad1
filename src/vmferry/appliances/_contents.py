"""What is in a package: its members by name, and the files that a descriptor refers to, found among them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from urllib.parse import unquote

from vmferry.appliances._chunks import ConcatBlob
from vmferry.appliances._ovf import OvfFile
from vmferry.appliances._tar import Member
from vmferry.blob import Blob, SliceBlob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.units import format_size

_FIRST_CHUNK = ".000000000"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class Contents:
    """The members of one package. Names are compared in Unicode's composed form (NFC)."""

    def __init__(self, blob: Blob, members: Sequence[Member]) -> None:
        self._blob = blob
        self._names = {_nfc(member.name): member for member in members}
        self._last: dict[str, list[Member]] = {}
        for name, member in self._names.items():
            self._last.setdefault(name.rpartition("/")[2], []).append(member)

    def __contains__(self, name: str) -> bool:
        return _nfc(name) in self._names

    def ending(self, suffix: str) -> list[Member]:
        """Members whose name ends in ``suffix``, in any case."""
        return [member for member in self._names.values() if member.name.lower().endswith(suffix)]

    def read(self, member: Member, most: int) -> bytes:
        """All of a small member. Raises ``UnsafeDiskError`` when it is longer than ``most`` bytes."""
        if member.size > most:
            raise UnsafeDiskError(
                f"{quote(self._blob.name)}: {quote(member.name)} has {format_size(member.size)}; "
                f"at most {format_size(most)} is read."
            )
        return self._blob.read_at(member.offset, member.size)

    def find(self, name: str, folder: str) -> Member | None:
        """The member ``folder/name``; else the only one with the same last component."""
        wanted = _nfc(folder + name)
        if wanted in self._names:
            return self._names[wanted]
        alike = self._last.get(wanted.rpartition("/")[2], [])
        return alike[0] if len(alike) == 1 else None

    def open(self, file: OvfFile, folder: str) -> tuple[str, Blob]:
        """The name and the bytes of a file that a descriptor in ``folder`` refers to; chunks are put together.

        Raises ``UnsafeDiskError`` for a reference that leads outside, ``CorruptDiskError`` when there is no such
        member, ``UnsupportedFeatureError`` for compressed files.
        """
        href = self._inside(file.href)
        if (file.compression or "").lower() not in ("", "identity"):
            raise UnsupportedFeatureError(
                f"{quote(self._blob.name)}: the file {quote(href)} is compressed as a whole "
                f"({quote(file.compression)}), which is not supported: export without file "
                "compression; streamOptimized disks are compressed already."
            )
        members = self._members(href, folder) or self._members(unquote(href), folder)
        if not members:
            raise CorruptDiskError(
                f"{quote(self._blob.name)}: the file {quote(href)}, which the descriptor refers to, is not in the "
                "package. It is cut short or was packed without it: export or upload it again."
            )
        if members[0].name.endswith(_FIRST_CHUNK):
            self._check_chunks(members, file)
        if len(members) == 1:
            return members[0].name, self._slice(members[0])
        name = members[0].name.removesuffix(_FIRST_CHUNK)
        return name, ConcatBlob([self._slice(member) for member in members], f"{self._blob.name}:{name}")

    def _inside(self, href: str) -> str:
        """``href`` as a name inside the package: no path and no address is ever opened."""
        for spelling in (href, unquote(href)):
            outside = spelling.startswith("/") or _SCHEME.match(spelling) or re.search(r"[\0\\]", spelling)
            if outside or ".." in spelling.split("/"):
                raise UnsafeDiskError(
                    f"{quote(self._blob.name)}: the descriptor refers to {quote(href)}, which is outside of the "
                    "package: export the machine as one OVA with its disks inside."
                )
        return href.removeprefix("./")

    def _members(self, name: str, folder: str) -> list[Member]:
        """The member ``name``, else its chunks ``name.000000000``, ``name.000000001``, … as far as they go on."""
        whole = self.find(name, folder)
        if whole is not None:
            return [whole]
        chunks: list[Member] = []
        while (chunk := self.find(f"{name}.{len(chunks):09d}", folder)) is not None:
            chunks.append(chunk)
        return chunks

    def _check_chunks(self, chunks: list[Member], file: OvfFile) -> None:
        """All chunks but the last have the size that the descriptor says, and so have all together."""
        for chunk in chunks[:-1]:
            if file.chunk_size is not None and chunk.size != file.chunk_size:
                raise CorruptDiskError(
                    f"{quote(self._blob.name)}: the chunk {quote(chunk.name)} has {chunk.size:,} bytes, "
                    f"but the descriptor says {file.chunk_size:,}: export the machine again."
                )
        total = sum(chunk.size for chunk in chunks)
        if file.size is not None and total != file.size:
            raise CorruptDiskError(
                f"{quote(self._blob.name)}: the {len(chunks)} chunks of {quote(file.href)} have {total:,} bytes, but "
                f"the descriptor says {file.size:,}: one is missing or cut short. Export or upload it again."
            )

    def _slice(self, member: Member) -> SliceBlob:
        return SliceBlob(self._blob, member.offset, member.size, f"{self._blob.name}:{member.name}")


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)
