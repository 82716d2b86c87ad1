"""Deflate by ISA-L, the same bytes for the same data: in any thread, process and x86-64 processor with SSE 4.2.

ISA-L 2.32 alone does not give that. Levels 0 to 2 hash the third byte of a stream from the address of the stream's own
state instead of from the data (``write_first_byte`` in ``igzip_icf_body_h1_gr_bt.asm``): now and then a match with one
of the first bytes is found or not, which changes with the thread and the process. What is flushed before the main loop
begins never comes there. Level 3 differs between processors with and without AVX-512, so it is not used.
"""

from __future__ import annotations

import zlib

from isal import isal_zlib

from vmferry.blob import Buffer
from vmferry.formats import Compression

LEVELS = {Compression.FAST: 1, Compression.BALANCED: 2}
"""Level 0 is no faster than 1, and lets random bytes grow by a quarter."""
_HEAD = 4
"""Bytes that are flushed first: three are never hashed, so with four there is a history. They cost some 10 bytes."""


def deflate(data: Buffer, level: int, window_bits: int = zlib.MAX_WBITS) -> bytes:
    """``data`` as one stream; ``level`` 1 or 2, ``window_bits`` as zlib's. Releases the GIL, safe from any thread."""
    view = memoryview(data)
    packer = isal_zlib.compressobj(level, isal_zlib.DEFLATED, window_bits)
    head = packer.compress(view[:_HEAD]) + packer.flush(isal_zlib.Z_SYNC_FLUSH)
    return head + packer.compress(view[_HEAD:]) + packer.flush()
