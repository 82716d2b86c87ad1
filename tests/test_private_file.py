"""Small files of ours are whole, and nobody else's."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vmferry.private_file import make_private_file, replace_private_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_first_who_makes_it_wins(tmp_path: Path) -> None:
    path = tmp_path / "data" / "key"
    contents = [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda content: make_private_file(path, content), contents))
    assert path.read_bytes() in contents
    assert names(path.parent) == ["key"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_replaced_whatever_was_there_and_whoever_could_read_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"old")
    path.chmod(0o644)
    replace_private_file(path, b"new")
    assert (path.read_bytes(), names(tmp_path)) == (b"new", ["key"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_private_file(tmp_path / "key", os.urandom(10))
    assert names(tmp_path) == ["key"]


def test_a_file_that_is_made_is_found_again_after_a_power_cut(tmp_path: Path, synced: list[Path]) -> None:
    make_private_file(tmp_path / "key", b"first")
    assert synced[-1] == tmp_path
    make_private_file(tmp_path / "key", b"second")  # who has lost relies on it, too
    assert synced.count(tmp_path) == 2
    replace_private_file(tmp_path / "key", b"third")
    assert synced[-1] == tmp_path
