"""Headers of a tar being written: ustar, and GNU's where a member is too large for that.

Sources: POSIX.1-2008, *pax* (ustar); GNU tar manual, "Basic Tar Format" (base-256 sizes). No pax headers: vSphere
refuses them.
"""

from __future__ import annotations

from vmferry.units import GIB, round_up

BLOCK = 512
RECORD = 20 * BLOCK
"""What the length of a tar is a multiple of."""
MAX_USTAR_SIZE = 8 * GIB - 1
"""Bytes of the largest member whose size fits into eleven octal digits."""
MAX_NAME = 99
"""Bytes of a member's name that need no extension header."""
_MODIFIED = 946_684_800
"""2000-01-01: the same package has the same bytes, whenever it is written."""


def tar_header(name: str, size: int, *, gnu: bool) -> bytes:
    """The header block of a plain file of ``size`` bytes, owned by root, mode 0644.

    ``gnu`` writes GNU's dialect, where a size may take any number of bytes. ``ValueError`` for a name that is not ASCII
    of 1 to 99 bytes, and for a size that ustar cannot hold.
    """
    if not name.isascii() or not 0 < len(name) <= MAX_NAME:
        raise ValueError(f"{name!r} is no name of 1 to {MAX_NAME} ASCII characters")
    if size > MAX_USTAR_SIZE and not gnu:
        raise ValueError(f"{size} bytes do not fit into a ustar header")
    header = bytearray(BLOCK)
    header[: len(name)] = name.encode("ascii")
    header[100:124] = b"%07o\0%07o\0%07o\0" % (0o644, 0, 0)
    header[124:136] = b"%011o\0" % size if size <= MAX_USTAR_SIZE else b"\x80" + size.to_bytes(11, "big")
    header[136:148] = b"%011o\0" % _MODIFIED
    header[148:157] = b" " * 8 + b"0"
    header[257:265] = b"ustar  \0" if gnu else b"ustar\x0000"
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def tar_size(end: int) -> int:
    """Bytes of a tar whose last member ends at ``end``: two blocks of zeros behind it, then whole records."""
    return round_up(round_up(end, BLOCK) + 2 * BLOCK, RECORD)
