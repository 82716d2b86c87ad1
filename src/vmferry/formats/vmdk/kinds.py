"""How each kind of VMDK begins."""

from __future__ import annotations

import re

from vmferry.blob import Blob
from vmferry.limits import MAX_VMDK_DESCRIPTOR

HOSTED = b"KDMV"
COWD = b"COWD"
SESPARSE = b"\xbe\xba\xfe\xca\x00\x00\x00\x00"
DESCRIPTOR = b"#"
"""Stands for a descriptor in text, which may begin with more than this."""

BOM = b"\xef\xbb\xbf"
_SIGNATURE = re.compile(rb"^[ \t]*#[ \t]*disk[ \t]+descriptorfile[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_BINARY = re.compile(rb"[\x01-\x08\x0e-\x1f]")
_PROBED = 1024


def find_kind(blob: Blob) -> bytes | None:
    """One of the constants above, or ``None`` for what is no VMDK."""
    head = blob.read_at(0, min(_PROBED, blob.size))
    for magic in (HOSTED, COWD, SESPARSE):
        if head.startswith(magic):
            return magic
    # A disk that is larger than any descriptor and begins with such text is a raw disk on which somebody wrote it.
    return DESCRIPTOR if blob.size <= MAX_VMDK_DESCRIPTOR and _is_descriptor(head) else None


def _is_descriptor(head: bytes) -> bool:
    """Whether the first KiB of a file is text with the line that marks a descriptor.

    The text ends at the first NUL. Behind it there may be text again: where qemu-img writes a shorter CID over a longer
    one, as for one image of 256, the end of the old text stays there.
    """
    text = head.removeprefix(BOM)
    return _SIGNATURE.search(text.partition(b"\0")[0]) is not None and _BINARY.search(text) is None
