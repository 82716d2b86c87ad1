"""A packed file around a disk image or an appliance. ``unwrap`` is the way in; ``WRAPPERS`` says what there is."""

from __future__ import annotations

from typing import Protocol

from vmferry.blob import Blob
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


WRAPPERS: Registry[Wrapper] = Registry("vmferry.wrappers", "WRAPPER", [])


def detect(blob: Blob) -> Wrapper | None:
    """The packing that the first bytes of ``blob`` show, or ``None``."""
    return next((candidate for candidate in WRAPPERS.values() if candidate.probe(blob)), None)
