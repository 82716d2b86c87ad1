"""zip: one file in it, stored or deflated.

A stored file is read where it lies. A deflated one is decoded once when it is opened, which verifies its length and
its checksum, and then read from checkpoints.

Source: PKWARE's APPNOTE.TXT 6.3.10.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmferry.blob import Blob, SliceBlob
from vmferry.errors import CorruptDiskError, UnknownFormatError, UnsupportedFeatureError, quote
from vmferry.registry import About
from vmferry.wrappers._deflate import Checkpoints, DeflateStream, measure, new_inflate
from vmferry.wrappers._input import PackedInput
from vmferry.wrappers._unpacked import Decoder, UnpackedBlob, check_size
from vmferry.wrappers._zip_directory import ZipMember, corrupt, find_data, read_members

_STORED, _DEFLATED = 0, 8
_METHODS = {9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz", 98: "PPMd", 99: "AES"}


class ZipWrapper:
    """See ``Wrapper``."""

    name = "zip"
    about = About(
        title="zip",
        reads="one file in it, stored or deflated; folders and macOS's `__MACOSX` do not count",
        writes="",
        refuses="several files; encryption; other methods; parts of a split file; damaged checksums",
        limits="a deflated file is decoded twice: once to measure and check it, once to read it",
    )

    def probe(self, blob: Blob) -> bool:
        return blob.size >= 4 and blob.read_at(0, 4) == b"PK\3\4"

    def open(self, blob: Blob) -> Blob:
        member = _only_member(blob)
        name = f"{blob.name}:{member.name}"
        start = find_data(blob, member)
        if member.method == _STORED:
            if member.packed != member.size:
                raise corrupt(blob, member.header)
            return _StoredBlob(blob, start, member.size, name)
        return UnpackedBlob(blob, _ZipPacking(blob, member, start), name)


WRAPPER = ZipWrapper()


class _StoredBlob(SliceBlob):
    """A stored file, which owns the zip file that it lies in."""

    def close(self) -> None:
        self._blob.close()


def _only_member(blob: Blob) -> ZipMember:
    """The one file in the zip file. Raises as ``Wrapper.open`` does."""
    members = [member for member in read_members(blob) if not _is_accessory(member.name)]
    if not members:
        raise UnknownFormatError(f"{quote(blob.name)} is a zip file without any file in it.")
    if len(members) > 1:
        listed = ", ".join(quote(member.name) for member in members[:4]) + (" …" if len(members) > 4 else "")
        raise UnsupportedFeatureError(
            f"{quote(blob.name)} is a zip file of {len(members):,} files ({listed}): unpack it first (unzip), "
            "and name the one that is meant."
        )
    [member] = members
    if member.encrypted:
        raise UnsupportedFeatureError(f"{quote(blob.name)} is encrypted: unpack it first (7z x).")
    if member.method not in (_STORED, _DEFLATED):
        method = _METHODS.get(member.method, f"method {member.method}")
        raise UnsupportedFeatureError(f"{quote(blob.name)} is packed by zip with {method}: unpack it first (7z x).")
    check_size(blob.name, member.size)
    return member


def _is_accessory(name: str) -> bool:
    """What macOS puts beside the files."""
    *folders, last = name.split("/")
    return "__MACOSX" in folders or last == ".DS_Store" or last.startswith("._")


class _ZipPacking:
    """See ``Packing``."""

    window = 128 * 1024
    lament = "is packed by zip, which is slow to read out of order: unpack it first (unzip)"

    def __init__(self, blob: Blob, member: ZipMember, start: int) -> None:
        """Decode all of it, from offset ``start`` of the file. Raises ``CorruptDiskError``, ``UnsafeDiskError``."""
        self._blob = blob
        self._end = start + member.packed
        self._checkpoints = Checkpoints(start)
        stream = DeflateStream(blob.name, PackedInput(blob, start, self._end), new_inflate())
        self.size, checksum = measure(
            blob.name, stream, 0, lambda offset: self._checkpoints.offer(offset, stream.snapshot)
        )
        if (self.size, checksum) != (member.size, member.checksum):
            raise CorruptDiskError(
                f"{quote(blob.name)}: the length or checksum of {quote(member.name)} does not match. "
                "It is damaged: pack or upload it again."
            )

    @property
    def starts(self) -> Sequence[int]:
        return self._checkpoints.starts

    def begin(self, number: int) -> Decoder:
        position, inflate = self._checkpoints.state(number)
        return DeflateStream(self._blob.name, PackedInput(self._blob, position, self._end), inflate or new_inflate())
