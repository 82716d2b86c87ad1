"""NOUN Receipt: what an import read, what it made, and what it changed, signed with the server's key.

A receipt is a JSON document. Its member ``signature`` holds an Ed25519 signature (RFC 8032) over all other members, as
canonical JSON: UTF-8, keys in the order of their code points, no spaces. ``docs/receipts.md`` has the members.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmferry.errors import ConfigError, CorruptDiskError, quote
from vmferry.private_file import make_private_file

if TYPE_CHECKING:  # else imported where it is needed: `vmferry verify` of disks does without
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ALGORITHM = "ed25519"
KIND = "vmferry receipt 1"
MAX_SIZE = 4 * 1024 * 1024
"""Bytes that a receipt has at most."""
_MAX_BITS = 63
"""Of a size in it."""

_MEMBERS: Mapping[str, Any] = {
    "task": str,
    "image": str | None,
    "completed_at": str,
    "sources": [{"bucket": str | None, "key": str | None, "size": int, "etag": str | None}],
    "disks": [{"snapshot": str, "device": str, "virtual_size": int, "guest_digest": str | None}],
    "changes": [{"path": str, "what": str, "after": int, "why": str}],
}
"""What a receipt says at least: a list has any number of what it shows one of."""


def load_key(path: Path) -> Ed25519PrivateKey:
    """The key in the file ``path``; a new one is made there, for its owner's eyes only, where there is none.

    Safe among processes. Raises ``ConfigError`` for a file that holds no such key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not path.exists():
        _make_key(path)
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError(
            f"{quote(path)} holds no key to sign receipts with: {quote(error)}. Restore it from a backup."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{quote(path)} holds a key of another kind than Ed25519. Restore it from a backup.")
    return key


def sign(facts: Mapping[str, Any], key: Ed25519PrivateKey) -> str:
    """``facts`` as a receipt, in text."""
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    signature = base64.b64encode(key.sign(_canonical({**facts, "kind": KIND}))).decode()
    signed = {"kind": KIND, **facts, "signature": {"algorithm": _ALGORITHM, "public_key": public, "value": signature}}
    return json.dumps(signed, indent=2, ensure_ascii=False) + "\n"


def read(text: bytes, name: str) -> dict[str, Any]:
    """The receipt ``text``, from the file ``name``, whose signature is right.

    Raises ``CorruptDiskError`` where it is not, as anything in it may have been changed since, and where the members
    are missing, or make no sense, that every receipt has.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        found = json.loads(text)
        signature = found.pop("signature")
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(signature["public_key"], validate=True))
        if found["kind"] != KIND:
            raise ValueError("of another kind")
        public.verify(base64.b64decode(signature["value"], validate=True), _canonical(found))
    except InvalidSignature as error:
        raise CorruptDiskError(
            f"{quote(name)}: the signature is wrong: the receipt was changed after it was signed. Do not trust it."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptDiskError(f"{quote(name)} is no receipt of vmferry, or a damaged one: {error!r}.") from error
    if not _fits(found, _MEMBERS):
        raise CorruptDiskError(
            f"{quote(name)} is signed, and is no receipt of vmferry: members of it are missing, or make no sense."
        )
    return {**found, "signed_by": fingerprint(public)}


def fingerprint(key: Ed25519PublicKey) -> str:
    """What to compare keys by: ``SHA256:`` and the digest of the key's 32 bytes, as OpenSSH writes it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.public_bytes_raw()).digest()).decode().rstrip("=")


def _fits(value: object, wanted: Any) -> bool:
    """Whether ``value`` is built as ``wanted``, which is like ``_MEMBERS``."""
    if isinstance(wanted, Mapping):
        return isinstance(value, dict) and all(key in value and _fits(value[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return isinstance(value, list) and all(_fits(item, wanted[0]) for item in value)
    return isinstance(value, wanted) and not (isinstance(value, int) and value.bit_length() > _MAX_BITS)


def _make_key(path: Path) -> None:
    """A new key at ``path``, whole or not at all; the first of several processes wins."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    make_private_file(path, private)


def _canonical(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
