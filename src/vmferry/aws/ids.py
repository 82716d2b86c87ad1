"""Ids of resources, as every service makes them."""

from __future__ import annotations

import secrets


def new_id(prefix: str) -> str:
    """``new_id("ami-")`` → ``ami-`` and 17 random hexadecimal digits (68 bits)."""
    return f"{prefix}{secrets.randbits(68):017x}"
