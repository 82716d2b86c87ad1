"""xz: blocks that can be decoded each for itself, found by the index at the end.

``xz -T`` writes many blocks, which are read at any place; plain ``xz`` before 5.4 writes one, which is read forwards.

Source: "The .xz File Format", version 1.2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from lzma import FORMAT_XZ, LZMADecompressor, LZMAError

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsupportedFeatureError, quote
from vmferry.limits import MAX_UNPACK_WINDOW
from vmferry.registry import About
from vmferry.units import MIB, format_size
from vmferry.wrappers._input import PackedInput
from vmferry.wrappers._streams import read_stream
from vmferry.wrappers._unpacked import Decoder, UnpackedBlob, cut_short
from vmferry.wrappers._xz_index import Blocks, read_blocks

_MAGIC = b"\xfd7zXZ\0"
_LONGEST_BLOCK_HEADER = 1024
_OWN_MEMORY = 2 * MIB
"""What liblzma takes beside the dictionary."""
_WINDOWS = [size for size in (MIB, 4 * MIB, 8 * MIB, 16 * MIB, 32 * MIB, 64 * MIB) if size < MAX_UNPACK_WINDOW]


class XzWrapper:
    """See ``Wrapper``."""

    name = "xz"
    about = About(
        title="xz",
        reads="one stream or several; read anywhere where there are several blocks (`xz -T0`), else forwards",
        writes="",
        refuses="damaged checksums; jumping about in a single long block; a dictionary over the limit",
        limits="each block's checksum is verified when it is read",
    )

    def probe(self, blob: Blob) -> bool:
        return blob.size >= len(_MAGIC) and blob.read_at(0, len(_MAGIC)) == _MAGIC

    def open(self, blob: Blob) -> Blob:
        return UnpackedBlob(blob, _XzPacking(blob), f"{blob.name} (unpacked)")


WRAPPER = XzWrapper()


class _XzPacking:
    """See ``Packing``."""

    lament = "is packed by xz in one block, which cannot be read from the middle: unpack it first (unxz)"

    def __init__(self, blob: Blob) -> None:
        """Raises ``CorruptDiskError``, ``UnsafeDiskError``, ``UnsupportedFeatureError``."""
        self._blob = blob
        self._blocks = read_blocks(blob)
        self.window = self._measure_window()

    @property
    def size(self) -> int:
        return self._blocks.size

    @property
    def starts(self) -> Sequence[int]:
        return self._blocks.starts

    def begin(self, number: int) -> Decoder:
        return _XzDecoder(self._blob, self._blocks, number, self.window)

    def _measure_window(self) -> int:
        """Bytes that the first block of any stream makes a decoder take."""
        window = 0
        seen: set[int] = set()
        for number, header in enumerate(self._blocks.headers):
            if id(header) not in seen:  # each stream has a header object of its own
                seen.add(id(header))
                window = max(window, self._measure_block(number))
        return window

    def _measure_block(self, number: int) -> int:
        length = min(self._blocks.lengths[number], _LONGEST_BLOCK_HEADER)
        head = self._blocks.headers[number] + self._blob.read_at(self._blocks.places[number], length)
        for window in (*_WINDOWS, MAX_UNPACK_WINDOW):
            decompressor = LZMADecompressor(FORMAT_XZ, window + _OWN_MEMORY)
            try:
                decompressor.decompress(head, 1)
            except LZMAError as error:
                if not _asks_for_more(error):
                    raise _damaged(self._blob.name, self._blocks.places[number]) from error
            else:
                return window
        raise _too_large(self._blob.name)


class _XzDecoder:
    """See ``Decoder``. Each block is decoded as if it were the first of its stream; the index is never reached."""

    def __init__(self, blob: Blob, blocks: Blocks, number: int, window: int) -> None:
        self._blob = blob
        self._blocks = blocks
        self._number = number
        self._window = window
        self._left = 0
        """Unpacked bytes of the present block that were not read yet."""
        self._feed = PackedInput(blob)
        self._block: LZMADecompressor | None = None

    def read(self, limit: int) -> bytes:
        if not self._left:
            if self._number == len(self._blocks.places):
                return b""
            self._begin_block()
        assert self._block is not None
        name = self._blob.name
        try:
            data = read_stream(name, self._feed, self._block, min(limit, self._left))
            self._left -= len(data)
            # Behind the last byte stands the block's checksum: what is left is fed for it to be verified.
            if not self._left and _read_rest(self._feed, self._block):
                raise _damaged(name, self._feed.position)
        except LZMAError as error:
            raise _too_large(name) if _asks_for_more(error) else _damaged(name, self._feed.position) from error
        if not data:
            raise cut_short(name)
        return data

    def _begin_block(self) -> None:
        blocks, number = self._blocks, self._number
        following = blocks.starts[number + 1] if number + 1 < len(blocks.starts) else blocks.size
        self._left = following - blocks.starts[number]
        self._feed = PackedInput(self._blob, blocks.places[number], blocks.places[number] + blocks.lengths[number])
        self._block = LZMADecompressor(FORMAT_XZ, self._window + _OWN_MEMORY)
        self._block.decompress(blocks.headers[number])
        self._number += 1


def _read_rest(feed: PackedInput, block: LZMADecompressor) -> bytes:
    """What comes out of the rest of a block: nothing, where it is sound. Raises ``LZMAError``."""
    while feed.left or not block.needs_input:
        data = bytes(feed.peek()) if block.needs_input else b""
        feed.skip(len(data))
        if more := block.decompress(data, 1):
            return more
    return b""


def _asks_for_more(error: LZMAError) -> bool:
    return "limit" in str(error).lower()


def _too_large(name: str) -> UnsupportedFeatureError:
    return UnsupportedFeatureError(
        f"{quote(name)} was packed by xz with a dictionary of more than {format_size(MAX_UNPACK_WINDOW)}: "
        "unpack it first (unxz)."
    )


def _damaged(name: str, place: int) -> CorruptDiskError:
    return CorruptDiskError(f"{quote(name)}: the xz data before offset {place:,} is damaged: pack or upload it again.")
