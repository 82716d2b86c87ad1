"""The manifest of an appliance: a digest for each file. Source: OVF specification (DSP0243), section 5.1.

Real writers differ: ``SHA1(f)= h``, ``SHA256 (f) = h``, ``SHA2-256(f)= h``, CRLF, upper-case digits, blank lines.
"""

from __future__ import annotations

import re

from vmferry.errors import CorruptDiskError, quote
from vmferry.machine import Digest

MAX_MANIFEST = 1 << 20
_LINE = re.compile(r"\s*([A-Za-z0-9-]+)\s*\((.+)\)\s*=\s*([0-9A-Fa-f]+)\s*")
_ALGORITHMS = {"1": "sha1", "256": "sha256", "384": "sha384", "512": "sha512"}
_DIGEST_SIZES = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}


def parse_manifest(content: bytes, name: str) -> tuple[dict[str, Digest], list[str]]:
    """File name → digest, and notes on lines that say nothing to us.

    Raises ``CorruptDiskError`` for two different digests of one file.
    """
    digests: dict[str, Digest] = {}
    notes: list[str] = []
    for line in content.decode("utf-8", "surrogateescape").splitlines():
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        digest = _digest(match[1], match[3]) if match else None
        if match is None or digest is None:
            notes.append(f"The manifest's line {quote(line)} is not understood and was passed over.")
            continue
        file = match[2].removeprefix("./")
        if digests.setdefault(file, digest) != digest and digests[file].algorithm == digest.algorithm:
            raise CorruptDiskError(
                f"{quote(name)} has two different digests for {quote(file)}: export the machine again."
            )
    return digests, notes


def _digest(spelling: str, hexadecimal: str) -> Digest | None:
    wanted = re.fullmatch(r"SHA-?2?-?(1|256|384|512)", spelling.upper())
    algorithm = _ALGORITHMS[wanted[1]] if wanted else None
    if algorithm is None or len(hexadecimal) != 2 * _DIGEST_SIZES[algorithm]:
        return None
    return Digest(algorithm, bytes.fromhex(hexadecimal))
