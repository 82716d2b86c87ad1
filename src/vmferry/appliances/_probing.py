"""Whether a blob is the description of a machine whose disks are files beside it, and which file of a folder it is.

The name counts as much as the bytes. A raw disk may begin with anything, and what a guest wrote into its own first
sector must never be taken for a description: it could name its neighbours' disks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from vmferry.blob import Blob, WrappedBlob
from vmferry.errors import UnsupportedFeatureError, quote
from vmferry.folder import Folder
from vmferry.units import KIB

_PROBED = 16 * KIB
_START_TAG = re.compile(r"<(?:!DOCTYPE\s+)?([^\s/>!?]{1,200})[\s/>]", re.IGNORECASE)
"""The root's own, or what a DOCTYPE says of it: that is refused later, for what it is."""
_PASSED_OVER = (("<?", "?>"), ("<!--", "-->"))


class Head(WrappedBlob):
    """A blob whose first 16 KiB are read once, however many ask whether it is theirs. Leaves the blob open."""

    def __init__(self, blob: Blob) -> None:
        super().__init__(blob)
        self._content = read_head(blob)

    def read_at(self, offset: int, length: int) -> bytes:
        if 0 <= offset <= offset + length <= len(self._content):
            return self._content[offset : offset + length]
        return self._blob.read_at(offset, length)

    def close(self) -> None:
        pass


def is_called(blob: Blob, suffixes: tuple[str, ...]) -> bool:
    """Whether the name of ``blob`` ends in one of ``suffixes``, in any case."""
    return blob.name.lower().endswith(suffixes)


def read_head(blob: Blob) -> bytes:
    """The first 16 KiB."""
    return blob.read_at(0, min(blob.size, _PROBED))


def has_root(blob: Blob, suffixes: tuple[str, ...], root: str) -> bool:
    """Whether ``blob`` is called like a description and is XML with this root element, whatever its namespace."""
    return is_called(blob, suffixes) and root_name(read_head(blob)) == root


def root_name(head: bytes) -> str | None:
    """The local name of the first element of the XML that begins with ``head``; ``None`` where none is seen."""
    text = _decode(head).lstrip()
    while True:
        closing = next((end for start, end in _PASSED_OVER if text.startswith(start)), None)
        if closing is None:
            break
        place = text.find(closing)
        if place < 0:
            return None
        text = text[place + len(closing) :].lstrip()
    match = _START_TAG.match(text)
    return match[1].rpartition(":")[2] if match else None


def _decode(head: bytes) -> str:
    if head.startswith((b"\xff\xfe", b"<\0")):
        return head.decode("utf-16-le", "replace").removeprefix("\ufeff")
    if head.startswith((b"\xfe\xff", b"\0<")):
        return head.decode("utf-16-be", "replace").removeprefix("\ufeff")
    return head.decode("utf-8", "replace").removeprefix("\ufeff")


def need_folder(blob: Blob, folder: Folder | None) -> Folder:
    """``folder``. Raises ``UnsupportedFeatureError`` where there is none."""
    if folder is None:
        raise UnsupportedFeatureError(
            f"{quote(blob.name)} describes a machine whose disks are files beside it: "
            "name it, or its folder, on a local file system; or pack all of it into one OVA."
        )
    return folder


def name_in(names: Iterable[str], blob: Blob) -> str:
    """Which of a folder's ``names`` is ``blob``'s own: the longest that its name ends in, else its last component."""
    own = [name for name in names if blob.name == name or blob.name.endswith("/" + name)]
    return max(own, key=len, default=blob.name.rpartition("/")[2])
