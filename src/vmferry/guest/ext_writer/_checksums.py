"""The checksums of ext4's metadata."""

from __future__ import annotations

import google_crc32c

from vmferry.blob import Buffer

_INVERT = 0xFFFFFFFF


def crc32c(crc: int, data: Buffer) -> int:
    """Castagnoli's CRC of ``data`` after ``crc``, neither of them inverted, as the kernel has it."""
    return int(google_crc32c.extend(crc ^ _INVERT, bytes(data))) ^ _INVERT


def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
        table.append(value)
    return table


_CRC16 = _table()


def crc16(crc: int, data: Buffer) -> int:
    """ANSI's CRC-16 (reflected polynomial 0xA001) of ``data`` after ``crc``."""
    for byte in data:
        crc = crc >> 8 ^ _CRC16[(crc ^ byte) & 0xFF]
    return crc
