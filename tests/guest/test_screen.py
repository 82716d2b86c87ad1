"""Screens as QEMU dumps them: read as text, told apart, written as PNG."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.guest.boot_check import screen as module
from vmferry.guest.boot_check.screen import Screen


def ppm(pixels: np.typing.NDArray[np.uint8]) -> bytes:
    height, width, _ = pixels.shape
    return b"P6\n%d %d\n255\n" % (width, height) + pixels.tobytes()


def draw(text: str, *, cell: int = 8, width: int = 720, height: int = 400) -> Screen:
    """``text`` in the VGA font, light grey on black, as a text mode shows it."""
    font, characters = module._font()
    wide = dict(zip(characters[:95], font, strict=False))
    glyphs = wide if cell == 9 else dict(zip(characters, font, strict=True))
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    for row, line in enumerate(text.split("\n")):
        for column, character in enumerate(line):
            bits = np.unpackbits(glyphs[character]).reshape(16, 8)
            place = pixels[row * 16 : row * 16 + 16, column * cell : column * cell + 8]
            place[bits == 1] = 170
    return Screen.from_ppm(ppm(pixels))


@pytest.mark.parametrize(("cell", "width", "height"), [(9, 720, 400), (8, 800, 600), (8, 1024, 768)])
def test_text_is_read_in_every_mode(cell: int, width: int, height: int) -> None:
    text = "GRUB loading.\nerror: no such device: 7AE3-01.\ngrub rescue> _"
    assert draw(text, cell=cell, width=width, height=height).text() == text


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4, max_size=70))
def test_any_ascii_line_is_read(line: str) -> None:
    assert draw(line, cell=9).text() == line


def test_a_picture_is_no_text() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    assert Screen(noise).text() == ""


def test_a_cursor_is_no_change_but_a_line_is() -> None:
    before, cursor, line = draw("login"), draw("login_"), draw("login\nPassword: and much more than that")
    assert not before.differs(cursor)
    assert before.differs(line)
    assert before.differs(draw("login", width=640, height=480, cell=8))


@pytest.mark.parametrize(("colour", "expected"), [((0, 120, 215), True), ((0, 0, 170), True), ((0, 0, 0), False)])
def test_a_bug_check_is_known_by_its_colour(colour: tuple[int, int, int], expected: bool) -> None:
    pixels = np.empty((480, 640, 3), dtype=np.uint8)
    pixels[:] = colour
    pixels[100:150, 50:300] = 255
    assert Screen(pixels).is_bug_check is expected


def test_an_empty_screen_is_blank() -> None:
    assert Screen(np.zeros((400, 720, 3), dtype=np.uint8)).is_blank
    assert not draw("x").is_blank


def test_the_png_holds_the_pixels() -> None:
    screen = draw("picture", width=16 * 9, height=32, cell=9)
    data = screen.png()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack_from(">II", data, 16)
    (length,) = struct.unpack_from(">I", data, 33)
    rows = np.frombuffer(zlib.decompress(data[41 : 41 + length]), dtype=np.uint8).reshape(height, 1 + 3 * width)
    assert np.array_equal(rows[:, 1:].reshape(height, width, 3), screen.pixels)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"P5\n1 1\n255\n\0",
        b"P6\n9999 1\n255\n",
        b"P6\n2 2\n255\n\0",
        b"P6\n-1 2\n255\n" + bytes(9),
        b"P6\n1 1\n65535\n" + bytes(6),
    ],
)
def test_what_is_no_screen_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="PPM"):
        Screen.from_ppm(data)
