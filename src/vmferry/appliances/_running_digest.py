"""A digest that another process can go on with: OpenSSL's state in bytes, which ``hashlib`` keeps to itself."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Mapping
from functools import cache

import numpy as np

from vmferry.blob import Buffer

_CONTEXTS: Mapping[str, tuple[str, int]] = {
    "sha1": ("SHA1", 96),
    "sha256": ("SHA256", 112),
    "sha384": ("SHA384", 216),
    "sha512": ("SHA512", 216),
}
"""Algorithm → OpenSSL's name for it, and the bytes of its context: ``SHA_CTX`` and its like, openssl/sha.h.

The contexts hold numbers and no pointers, so they may be copied from one process into another of the same machine type.
"""

_LIBRARIES = ("libcrypto.so.3", "libcrypto.so.1.1")


class RunningDigest:
    """The digest of bytes that come piece by piece. Not thread-safe; ``update`` lets other threads run."""

    def __init__(self, algorithm: str, saved: bytes | None = None) -> None:
        """Of nothing yet, or of what the one had seen that ``saved`` is of. Raises ``ValueError`` where that cannot be
        gone on with: check with ``can_resume``."""
        self.algorithm = algorithm
        self._library = _find_library() if algorithm in _CONTEXTS else None
        if self._library is None:
            if saved is not None:
                raise ValueError(f"no {algorithm} here that can be gone on with")
            self._hash = hashlib.new(algorithm, usedforsecurity=False)
            return
        name, size = _CONTEXTS[algorithm]
        self._context = ctypes.create_string_buffer(size)
        self._update = self._library[f"{name}_Update"]
        self._final = self._library[f"{name}_Final"]
        if saved is None:
            self._library[f"{name}_Init"](self._context)
        elif len(saved) == size:
            self._context.raw = saved
        else:
            raise ValueError(f"{len(saved)} bytes are no state of {algorithm}")

    @staticmethod
    def can_resume(algorithm: str, saved: bytes) -> bool:
        """Whether a digest can go on here from what ``save`` answered elsewhere."""
        return algorithm in _CONTEXTS and len(saved) == _CONTEXTS[algorithm][1] and _find_library() is not None

    def update(self, data: Buffer) -> None:
        if self._library is None:
            self._hash.update(data)
            return
        if not len(data):
            return
        view = np.frombuffer(data, np.uint8)
        self._update(self._context, ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(view.size))

    def digest(self) -> bytes:
        """Of all that came; more may follow."""
        if self._library is None:
            return self._hash.digest()
        found = ctypes.create_string_buffer(hashlib.new(self.algorithm, usedforsecurity=False).digest_size)
        self._final(found, ctypes.create_string_buffer(self._context.raw, len(self._context)))
        return found.raw

    def save(self) -> bytes | None:
        """The state, to go on from; ``None`` where OpenSSL's library is not to be found."""
        return None if self._library is None else self._context.raw


@cache
def _find_library() -> ctypes.CDLL | None:
    """OpenSSL's library of algorithms, in which the functions of openssl/sha.h were not left out."""
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
            for prefix, _ in _CONTEXTS.values():
                for suffix in ("Init", "Update", "Final"):
                    library[f"{prefix}_{suffix}"]
        except (OSError, AttributeError):
            continue
        return library
    return None
