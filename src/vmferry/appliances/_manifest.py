"""The manifest of an appliance: a digest for each file. Source: OVF specification (DSP0243), section 5.1.

Real writers differ: ``SHA1(f)= h``, ``SHA256 (f) = h``, ``SHA2-256(f)= h``, CRLF, upper-case digits, blank lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vmferry.errors import CorruptDiskError, UnsafeDiskError, quote
from vmferry.limits import MAX_MANIFEST_FILES
from vmferry.machine import Digest

_MAX_NOTES = 3
_LINE = re.compile(r"([A-Za-z0-9/-]+)\s*\((.+)\)\s*=\s*([0-9A-Fa-f]+)")
_ALGORITHM = re.compile(r"SHA-?(?:2-)?(1|256|384|512)", re.IGNORECASE)
_DIGITS = {"1": 40, "256": 64, "384": 96, "512": 128}


def parse_manifest(content: bytes, name: str) -> tuple[dict[str, Digest], list[str]]:
    """File name → its digest, the longest where there are several; and notes on lines that are not understood.

    ``content`` is UTF-8, or Latin-1 where it is not. Raises ``CorruptDiskError`` for two different digests of one file,
    ``UnsafeDiskError`` for more than 20,000 files.
    """
    digests: dict[tuple[str, str], Digest] = {}
    notes: list[str] = []
    strange = 0
    for line in _lines(content):
        match = _LINE.fullmatch(line)
        digest = _digest(match[1], match[3]) if match else None
        if match is None or digest is None:
            strange += 1
            if strange <= _MAX_NOTES:
                notes.append(f"The manifest's line {quote(line)} is not understood and was passed over.")
            continue
        file = match[2].strip().removeprefix("./")
        known = digests.setdefault((file, digest.algorithm), digest)
        if known != digest:
            raise CorruptDiskError(
                f"{quote(name)} has two digests for {quote(file)}, {known.value.hex()} and {digest.value.hex()}: "
                "export the machine again."
            )
        if len(digests) > MAX_MANIFEST_FILES:
            raise UnsafeDiskError(f"{quote(name)} lists more than {MAX_MANIFEST_FILES:,} digests; it is no manifest.")
    best: dict[str, Digest] = {}
    for (file, _), digest in digests.items():
        if file not in best or len(digest.value) > len(best[file].value):
            best[file] = digest
    if strange > _MAX_NOTES:
        notes.append(f"{strange - _MAX_NOTES:,} more lines of the manifest are not understood and were passed over.")
    return best, notes


def _lines(content: bytes) -> Iterator[str]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return (line for raw in re.split(r"[\r\n]+", text) if (line := raw.strip()))


def _digest(spelling: str, hexadecimal: str) -> Digest | None:
    wanted = _ALGORITHM.fullmatch(spelling)
    if wanted is None or len(hexadecimal) != _DIGITS[wanted[1]]:
        return None
    return Digest(f"sha{wanted[1]}", bytes.fromhex(hexadecimal))
