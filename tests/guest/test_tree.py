"""The files of a guest: links lead nowhere outside, mounts are crossed, and what is too much is refused."""

from __future__ import annotations

import pytest

from vmferry.errors import GuestError
from vmferry.guest.filesystems.memory import MemoryFileSystem
from vmferry.guest.tree import Tree


def test_a_link_is_followed_inside_the_guest() -> None:
    tree = Tree({"/": MemoryFileSystem({"/etc/os-release": "../usr/lib/os-release", "/usr/lib/os-release": b"ID=x\n"})})
    assert tree.read("/etc/os-release") == b"ID=x\n"
    assert tree.find("/etc/os-release") == "/usr/lib/os-release"
    assert tree.link("/etc/os-release") == "../usr/lib/os-release"


def test_a_link_leads_nowhere_outside() -> None:
    tree = Tree({"/": MemoryFileSystem({"/a": "../../../../etc/passwd", "/etc/passwd": b"the guest's"})})
    assert tree.read("/a") == b"the guest's"


def test_a_link_in_the_middle_of_a_path_is_followed() -> None:
    tree = Tree({"/": MemoryFileSystem({"/lib": "usr/lib", "/usr/lib/modules/6.1/modules.dep": b"x"})})
    assert tree.read("/lib/modules/6.1/modules.dep") == b"x"
    assert tree.names("/lib/modules") == ["6.1"]
    assert list(tree.glob("/lib/modules/*/modules.*")) == ["/lib/modules/6.1/modules.dep"]


@pytest.mark.parametrize("files", [{"/a": "a"}, {"/a": "b", "/b": "a"}, {"/a": "a/a"}])
def test_links_in_a_circle_are_a_finding(files: dict[str, bytes | str | None]) -> None:
    with pytest.raises(GuestError, match="40 links"):
        Tree({"/": MemoryFileSystem(files)}).read("/a")


def test_a_link_that_leads_to_nothing_is_nothing() -> None:
    tree = Tree({"/": MemoryFileSystem({"/a": "/b/c"})})
    assert tree.node("/a") is None
    assert tree.read("/a") is None
    assert tree.find("/a") is None
    assert tree.names("/a") == []


def test_another_file_system_begins_where_it_is_mounted() -> None:
    boot = MemoryFileSystem({"/vmlinuz": b"kernel", "/root": "/etc/os-release"})
    root = MemoryFileSystem({"/boot/vmlinuz": b"hidden", "/etc/os-release": b"root's", "/bootx": b"beside"})
    tree = Tree({"/": root, "/boot": boot})
    assert tree.read("/boot/vmlinuz") == b"kernel"
    assert tree.read("/boot/root") == b"root's"
    assert tree.read("/boot/../bootx") == b"beside"


def test_a_system_that_ignores_case_finds_every_spelling() -> None:
    files = {"/Windows/System32/config/SYSTEM": b"regf"}
    tree = Tree({"/": MemoryFileSystem(files, kind="ntfs", ignores_case=True)})
    assert tree.read("/windows/SYSTEM32/Config/system") == b"regf"
    assert tree.names("/WINDOWS") == ["System32"]


def test_a_file_that_is_too_large_is_refused_with_both_numbers() -> None:
    tree = Tree({"/": MemoryFileSystem({"/etc/fstab": bytes(2048)})})
    with pytest.raises(GuestError, match=r"2 KiB; at most 1 KiB"):
        tree.read("/etc/fstab", 1024)


def test_a_file_is_no_folder_and_a_folder_no_file() -> None:
    tree = Tree({"/": MemoryFileSystem({"/etc/fstab": b"", "/empty": None})})
    assert tree.is_file("/etc/fstab")
    assert not tree.is_folder("/etc/fstab")
    assert tree.is_folder("/etc")
    assert tree.is_folder("/empty")
    assert tree.size("/etc") is None
    assert tree.names("/etc/fstab") == []
