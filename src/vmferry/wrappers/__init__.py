"""A packed file around a disk image or an appliance. ``unwrap`` is the way in; ``WRAPPERS`` says what there is."""

from __future__ import annotations

from typing import Protocol

from vmferry.blob import Blob
from vmferry.errors import UnsafeDiskError, quote
from vmferry.limits import MAX_WRAPPERS
from vmferry.registry import About, Registry


class Wrapper(Protocol):
    """How one kind of packed file is named, recognised and read."""

    @property
    def name(self) -> str:
        """Our name, which is the module's: ``gzip``."""

    @property
    def about(self) -> About:
        """For the documentation."""

    def probe(self, blob: Blob) -> bool:
        """Whether the first bytes say so. Never raises for strange content."""

    def open(self, blob: Blob) -> Blob:
        """What is packed in ``blob``, which it then owns, readable at any offset.

        Raises ``CorruptDiskError``, ``UnsupportedFeatureError``, ``UnsafeDiskError``; ``blob`` is left open then.
        """


_BEGINNINGS = frozenset(
    {b"\x1f\x8b", b"\xfd7", b"\x28\xb5", b"BZ", b"PK"} | {bytes((first, 0x2A)) for first in range(0x50, 0x60)}
)
"""The two bytes that packed files begin with, the last those of zstd's skippable frames. For any other file the modules
below are not even imported."""
WRAPPERS: Registry[Wrapper] = Registry("vmferry.wrappers", "WRAPPER", ["gzip", "xz", "zstd", "bzip2", "zip"])


def detect(blob: Blob) -> Wrapper | None:
    """The packing that the first bytes of ``blob`` show, or ``None``."""
    if blob.size < 2 or blob.read_at(0, 2) not in _BEGINNINGS:
        return None
    return next((candidate for candidate in WRAPPERS.values() if candidate.probe(blob)), None)


def unwrap(blob: Blob) -> tuple[Blob, Wrapper | None]:
    """What is packed in ``blob`` and how; ``blob`` itself and ``None`` where it is not packed.

    What came out of a packing is never unpacked again: ``UnsafeDiskError`` when it is packed itself. ``blob`` is owned
    by what is answered; it is left open when this raises, as ``Wrapper.open`` does.
    """
    wrapper = detect(blob)
    if wrapper is None:
        return blob, None
    unpacked = wrapper.open(blob)
    if (nested := detect(unpacked)) is not None:
        raise UnsafeDiskError(
            f"{quote(blob.name)} is a {wrapper.name} file with a {nested.name} file nested in it; "
            f"{MAX_WRAPPERS} packing is read: unpack the outer one first.",
            wrapper=wrapper.name,
        )
    return unpacked, wrapper
