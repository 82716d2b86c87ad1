"""Header extensions (qcow2.rst, "Header extensions"): the names that an image calls other files and formats by."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, quote

_END, _BACKING_FORMAT, _DATA_FILE = 0, 0xE2792ACA, 0x44415441
_HEAD = struct.Struct(">II")
_MAX_EXTENSIONS = 256
"""Six kinds exist today, each stands there once at most."""


@dataclass(frozen=True, slots=True)
class Extensions:
    """Those that a reader needs; a stranger's words, to be shown and compared only."""

    backing_format: str | None = None
    data_file: str | None = None


def read_extensions(blob: Blob, head: bytes, start: int) -> Extensions:
    """The extensions in ``head``, the image's first bytes, from ``start`` on: up to the one that ends them, or the end.

    Unknown ones are passed over. Raises ``CorruptDiskError`` for one that goes past the end of ``head``.
    """
    texts: dict[int, str] = {}
    for _ in range(_MAX_EXTENSIONS):
        if start + _HEAD.size > len(head):
            break
        kind, length = _HEAD.unpack_from(head, start)
        if kind == _END:
            break
        start += _HEAD.size
        if start + length > len(head):
            raise CorruptDiskError(
                f"{quote(blob.name)}: damaged qcow2: a header extension of {length:,} bytes at host offset "
                f"{start - _HEAD.size:#x} goes past the end of the header. Export or upload it again."
            )
        if kind in (_BACKING_FORMAT, _DATA_FILE):
            texts[kind] = head[start : start + length].decode("utf-8", "replace")
        start += -(-length // 8) * 8
    else:
        raise CorruptDiskError(
            f"{quote(blob.name)}: damaged qcow2: more than {_MAX_EXTENSIONS} header extensions. "
            "Export or upload it again."
        )
    return Extensions(texts.get(_BACKING_FORMAT), texts.get(_DATA_FILE))
