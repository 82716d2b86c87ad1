"""No call of a QEMU program leaves it to the program to guess what a file is: a guest could have written the answer.

A call is a list, a tuple or the arguments of a function that begin with the program's name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_WORD = "qemu-"
FILES = sorted(
    path
    for room in ("src", "tools")
    for path in (ROOT / room).rglob("*.py")
    if _WORD in path.read_text(encoding="utf-8")  # most do not have it, and to parse all takes seconds
)
_PROGRAMS = tuple(_WORD + name for name in ("img", "nbd", "io", "storage"))
_HARMLESS = {"--version", "--help"}
_DECLARES = ("-f", "-F", "--format", "-if", "driver=", "format=", "raw:")


def calls(source: str) -> Iterator[tuple[int, list[str]]]:
    """Each call of a QEMU program: its line, and the literal parts of its arguments."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call | ast.List | ast.Tuple):
            continue
        parts = node.args if isinstance(node, ast.Call) else node.elts
        if len(parts) > 1 and isinstance(first := parts[0], ast.Constant) and _is_qemu(first.value):
            yield node.lineno, [text for part in parts for text in _texts(part)]


def _is_qemu(value: object) -> bool:
    return isinstance(value, str) and Path(value).name.startswith(_PROGRAMS)


def _texts(part: ast.expr) -> Iterator[str]:
    """The literal texts in an argument; those of an f-string too."""
    for node in ast.walk(part):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def guesses(words: list[str]) -> bool:
    """Whether a call makes the program look at a file to find out what it is."""
    if len(words) > 1 and words[1] in _HARMLESS:
        return False
    declared = [word for word in words if word.startswith(_DECLARES)]
    if "compare" in words or ("create" in words and "-b" in words):
        return not {"-f", "-F"} <= set(declared)
    return not declared


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_every_call_of_a_qemu_program_names_the_format(path: Path) -> None:
    for line, words in calls(path.read_text(encoding="utf-8")):
        assert not guesses(words), f"{path.name}:{line}: {' '.join(words)} lets QEMU guess the format; pass -f"


def test_there_are_calls_to_look_at() -> None:
    assert sum(1 for path in FILES for _ in calls(path.read_text(encoding="utf-8"))) > 3


@pytest.mark.parametrize(
    ("source", "bad"),
    [
        ('run("qemu-img", "info", path)', True),
        ('run("qemu-img", "info", "-f", "qcow2", path)', False),
        ('run(["/usr/bin/qemu-img", "convert", "-O", "raw", a, b])', True),
        ('run("qemu-img", "compare", "-f", "raw", a, b)', True),
        ('run("qemu-img", "create", "-f", "qcow2", "-b", a, b)', True),
        ('run("qemu-nbd", "-r", path)', True),
        ('run("qemu-img", "--version")', False),
    ],
)
def test_a_call_that_guesses_is_found(source: str, bad: bool) -> None:
    [(_, words)] = calls(source)
    assert guesses(words) is bad


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_every_drive_of_a_virtual_machine_names_its_format(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant | ast.JoinedStr):
            text = "".join(_texts(node))
            if "file=" in text and "if=" in text:
                assert "format=" in text or "driver=" in text, f"{path.name}:{node.lineno}: {text} names no format"
