"""One hostile file: what it is called, its bytes, and what is evil about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

HOST_FILE = "/etc/passwd"
"""A file that is there on every host and that no image may name with success."""
NEIGHBOUR = "canary.raw"
"""A file that lies beside the image, and another of the same name in the folder above; neither is the image's."""


@dataclass(frozen=True, slots=True)
class Evil:
    """A file of at most a few MiB, made when it is asked for."""

    name: str
    """``qcow2-backing-file.qcow2``: also the name that it gets on disk."""
    about: str
    """What is evil about it."""
    build: Callable[[], bytes]
    refused: bool = True
    """Whether it must be refused. Else it may be read, at little cost: legal claims, and bytes that only look evil."""


def patched(base: bytes | bytearray, *changes: tuple[int, bytes]) -> bytes:
    """``base`` with other bytes at some offsets; it grows where it must."""
    data = bytearray(base)
    for offset, content in changes:
        if offset + len(content) > len(data):
            data = data.ljust(offset + len(content), b"\0")
        data[offset : offset + len(content)] = content
    return bytes(data)
