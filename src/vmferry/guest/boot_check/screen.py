"""A screen as QEMU dumps it: read as text where it is text, told apart from another, written as PNG.

Text is read by comparing each cell with the glyphs of the VGA font, which firmware, boot loaders and Linux's first
console have in common; it is taken from QEMU's own VGA BIOS.

Sources: netpbm's ppm(5); PNG specification, sections 5 and 11.
"""

from __future__ import annotations

import functools
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

_VGA_BIOS = ("/usr/share/seabios/vgabios-stdvga.bin", "/usr/share/qemu/vgabios-stdvga.bin")
_GLYPH_A = bytes.fromhex("000010386cc6c6fec6c6c6c600000000")
_GLYPH_HEIGHT = 16
_PPM = re.compile(rb"P6\s+(\d{1,6})\s+(\d{1,6})\s+(\d{1,6})\s")
_MAX_SIDE = 8192
_BLUE = ((0, 120, 215), (16, 120, 214), (0, 0, 170), (0, 0, 128), (10, 106, 180))
"""The colours of Windows' bug check, by release."""

_NEAR = 6
"""Pixels of 128 in which a glyph may differ: an underlined cursor, another version of the font."""
_NARROW = {
    "0": "0000386cc6c6d6d6c6c66c3800000000",
    "M": "0000c6eefefed6c6c6c6c6c600000000",
    "T": "00007e7e5a1818181818183c00000000",
    "V": "0000c6c6c6c6c6c6c66c381000000000",
    "W": "0000c6c6c6c6d6d6d6feee6c00000000",
    "X": "0000c6c66c7c38387c6cc6c600000000",
    "Y": "0000666666663c181818183c00000000",
    "Z": "0000fec6860c183060c2c6fe00000000",
    "f": "00001c36323078303030307800000000",
    "m": "0000000000ecfed6d6d6d6c600000000",
    "v": "0000000000c6c6c6c6c66c3800000000",
    "w": "0000000000c6c6d6d6d6fe6c00000000",
    "x": "0000000000c66c3838386cc600000000",
}
"""The glyphs that are drawn otherwise where a cell is 8 pixels wide, as in a framebuffer, and not 9."""
_BITS = np.array([byte.bit_count() for byte in range(256)], dtype=np.uint8)

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Screen:
    """A dumped screen: ``pixels`` have the shape (height, width, 3), red first."""

    pixels: Pixels

    @classmethod
    def from_ppm(cls, data: bytes) -> Screen:
        """Raises ``ValueError`` for what is no binary PPM of 8 bits with sides up to 8192."""
        header = _PPM.match(data)
        if header is None:
            raise ValueError("this is no binary PPM")
        width, height, depth = (int(field) for field in header.groups())
        pixels = data[header.end() :]
        if (
            not 0 < width <= _MAX_SIDE
            or not 0 < height <= _MAX_SIDE
            or depth != 255
            or len(pixels) != 3 * width * height
        ):
            raise ValueError(f"a PPM of {width} by {height} by {depth} is none of a screen")
        return cls(np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, 3))

    @property
    def is_bug_check(self) -> bool:
        """Whether most of it has a colour of Windows' bug checks."""
        return any(float(np.mean(np.all(self.pixels == np.array(colour), axis=2))) > 0.6 for colour in _BLUE)

    @property
    def is_blank(self) -> bool:
        """Whether all of it has one colour."""
        return bool(np.all(self.pixels == self.pixels[0, 0]))

    def differs(self, other: Screen) -> bool:
        """Whether more has changed than a cursor: over a thousandth of the pixels, or the size."""
        if self.pixels.shape != other.pixels.shape:
            return True
        return float(np.mean(np.any(self.pixels != other.pixels, axis=2))) > 0.001

    def text(self) -> str:
        """Its lines, as far as they stand in the VGA font; empty lines and unknown glyphs left out."""
        cell = 9 if self.pixels.shape[1] % 9 == 0 and self.pixels.shape[1] // 9 == 80 else 8
        rows, columns = self.pixels.shape[0] // _GLYPH_HEIGHT, self.pixels.shape[1] // cell
        if not rows or not columns:
            return ""
        grey = self.pixels[: rows * _GLYPH_HEIGHT, : columns * cell].max(axis=2)
        cells = grey.reshape(rows, _GLYPH_HEIGHT, columns, cell)[:, :, :, :8].transpose(0, 2, 1, 3)
        # The first row of nearly every glyph is empty: its first pixel has the background's colour.
        bits = cells != cells[:, :, :1, :1]
        packed = np.packbits(bits, axis=3).reshape(rows, columns, _GLYPH_HEIGHT)
        return "\n".join(line for line in map(_read_line, packed) if line)

    def png(self) -> bytes:
        """The picture as a PNG file."""
        height, width, _ = self.pixels.shape
        rows = np.zeros((height, 1 + 3 * width), dtype=np.uint8)
        rows[:, 1:] = self.pixels.reshape(height, 3 * width)
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _read_line(row: Pixels) -> str:
    """The text of one line of cells, of the shape (columns, 16); nothing where it is in another font, or a picture."""
    font, characters = _font()
    if not characters:
        return ""
    distances = _BITS[row[:, None, :] ^ font[None, :, :]].sum(axis=2)
    nearest = distances.argmin(axis=1)
    known = distances[np.arange(len(row)), nearest] <= _NEAR
    read = [characters[index] if sure else None for index, sure in zip(nearest.tolist(), known.tolist(), strict=True)]
    unknown, shown = read.count(None), sum(1 for character in read if character not in (None, " "))
    return "" if unknown > shown / 4 else "".join(character or "?" for character in read).rstrip()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@functools.cache
def _font() -> tuple[Pixels, str]:
    """The glyphs, of the shape (count, 16), and the characters that they show; none where there is no VGA BIOS."""
    rom = next((Path(path).read_bytes() for path in _VGA_BIOS if Path(path).exists()), b"")
    place = rom.find(_GLYPH_A) - ord("A") * _GLYPH_HEIGHT
    if place < 0 or place + 127 * _GLYPH_HEIGHT > len(rom):
        return np.zeros((0, _GLYPH_HEIGHT), dtype=np.uint8), ""
    font = np.frombuffer(rom, dtype=np.uint8, count=127 * _GLYPH_HEIGHT, offset=place).reshape(127, _GLYPH_HEIGHT)
    narrow = np.frombuffer(bytes.fromhex("".join(_NARROW.values())), dtype=np.uint8).reshape(-1, _GLYPH_HEIGHT)
    return np.concatenate([font[32:], narrow]), "".join(map(chr, range(32, 127))) + "".join(_NARROW)
