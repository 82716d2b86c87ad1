"""The room of file systems: which kinds are read, and what is said where a reader is not installed."""

from __future__ import annotations

import sys

import pytest

from tests.guest.tables import raw_disk
from vmferry.errors import GuestError
from vmferry.guest.filesystems import FILE_SYSTEMS, open_file_system


def test_a_kind_that_is_not_read_is_none() -> None:
    assert open_file_system(raw_disk(b""), "zfs") is None
    assert open_file_system(raw_disk(b""), "swap") is None


@pytest.mark.parametrize("kind", ["ext4", "xfs", "fat32", "exfat", "ntfs", "btrfs"])
def test_what_is_none_of_its_kind_is_refused_when_it_is_opened(kind: str) -> None:
    with pytest.raises(GuestError, match=kind[:3] if kind != "btrfs" else "Btrfs"):
        open_file_system(raw_disk(b""), kind)


@pytest.mark.parametrize(
    ("name", "library", "kind"), [("ext", "pyfsext", "ext4"), ("xfs", "pyfsxfs", "xfs"), ("fat", "pyfsfat", "exfat")]
)
def test_what_is_missing_to_read_a_kind_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, library: str, kind: str
) -> None:
    monkeypatch.delitem(sys.modules, f"vmferry.guest.filesystems.{name}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(GuestError, match=rf"{kind} is read by {library}, which is not installed: pip install"):
        open_file_system(raw_disk(b""), kind)


def test_every_reader_is_installed_with_the_tests() -> None:
    assert len(list(FILE_SYSTEMS.values())) == len(FILE_SYSTEMS)
