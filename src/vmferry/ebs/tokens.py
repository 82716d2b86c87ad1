"""Tokens: what a client was told of blocks and pages, and hands back. Opaque, expiring, and nobody can make one up.

A token is base64 of the time of its end (seconds since 1970, 8 bytes), a number (8 bytes: the place of a page, for
blocks nothing) and the HMAC-SHA256 of both with what the token is for. So there is no record of any: whoever has the
key knows its own.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

from vmferry.ebs.errors import EbsError, invalid
from vmferry.errors import ConfigError, quote
from vmferry.private_file import make_private_file

BLOCK_TOKEN_LIFE = timedelta(days=7)
PAGE_TOKEN_LIFE = timedelta(hours=1)

_HEAD = struct.Struct(">QQ")
_KEY_SIZE = 32


class TokenKey:
    """Makes tokens, and knows its own. Immutable."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def block_token(self, snapshot_id: str, index: int, ends_at: datetime) -> str:
        """That of one block of one snapshot; good until ``ends_at``."""
        return self._make(_block_purpose(snapshot_id, index), 0, ends_at)

    def check_block_token(self, token: str, snapshot_id: str, index: int, now: datetime) -> None:
        """Raise ``EbsError`` unless ``token`` is that of this block, and not too old."""
        self._read(token, _block_purpose(snapshot_id, index), now, "BlockToken", "INVALID_BLOCK_TOKEN")

    def page_token(self, listing: str, place: int, now: datetime) -> str:
        """That of the page of ``listing`` which begins at ``place``."""
        return self._make(f"page:{listing}", place, now + PAGE_TOKEN_LIFE)

    def read_page_token(self, token: str, listing: str, now: datetime) -> int:
        """Where the page begins. Raises ``EbsError``."""
        return self._read(token, f"page:{listing}", now, "NextToken", "INVALID_PAGE_TOKEN")

    def _make(self, purpose: str, number: int, ends_at: datetime) -> str:
        head = _HEAD.pack(int(ends_at.timestamp()), number)
        return base64.b64encode(head + self._mac(head, purpose)).decode()

    def _read(self, token: str, purpose: str, now: datetime, name: str, reason: str) -> int:
        try:
            raw = base64.b64decode(token, validate=True)
        except binascii.Error as error:
            raise _foreign(name, reason) from error
        head, mac = raw[: _HEAD.size], raw[_HEAD.size :]
        if len(head) != _HEAD.size or not hmac.compare_digest(mac, self._mac(head, purpose)):
            raise _foreign(name, reason)
        seconds, number = _HEAD.unpack(head)
        ended = datetime.fromtimestamp(seconds, UTC)
        if ended <= now:
            raise invalid(f"The {name} expired at {ended:%Y-%m-%dT%H:%M:%SZ}: list the blocks again.", reason)
        return int(number)

    def _mac(self, head: bytes, purpose: str) -> bytes:
        return hmac.digest(self._key, head + purpose.encode(), "sha256")


def load_token_key(path: Path) -> TokenKey:
    """The key in the file ``path``; a new one is made there, for its owner's eyes only, where there is none.

    Safe among processes. Raises ``ConfigError`` for a file that holds no such key.
    """
    if not path.exists():
        make_private_file(path, os.urandom(_KEY_SIZE))
    try:
        key = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{quote(path)} cannot be read: {error.strerror}. Check its owner and mode.") from error
    if len(key) != _KEY_SIZE:
        raise ConfigError(f"{quote(path)} holds no key of {_KEY_SIZE} bytes: remove it, and clients list blocks anew.")
    return TokenKey(key)


def _block_purpose(snapshot_id: str, index: int) -> str:
    return f"block:{snapshot_id}:{index}"


def _foreign(name: str, reason: str) -> EbsError:
    return invalid(f"The {name} is invalid | It was not made here for this request: list the blocks again.", reason)
