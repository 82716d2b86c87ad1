"""A directory as a folder: plain files of its own, and nothing that a link or a name leads to."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmferry import folder as folder_module
from vmferry.errors import BlobNotFoundError, StoreError, UnsafeDiskError
from vmferry.folder import Folder, LocalFolder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with files, and beside it a secret."""
    (tmp_path / "secret.vmdk").write_bytes(b"secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/disk.vmdk").write_bytes(b"secret")
    inside = tmp_path / "vm"
    (inside / "a/b/c/d").mkdir(parents=True)
    for name in ("vm.vmx", "disk.vmdk", "a/x.vmdk", "a/b/c/deep.vmdk", "a/b/c/d/too-deep.vmdk", "ünï.vmdk"):
        (inside / name).write_bytes(name.encode())
    return inside


def test_names_are_those_of_plain_files_sorted_and_three_folders_deep(root: Path) -> None:
    folder: Folder = LocalFolder(root)
    assert folder.name == str(root)
    assert folder.names() == ["a/b/c/deep.vmdk", "a/x.vmdk", "disk.vmdk", "vm.vmx", "ünï.vmdk"]
    for name in folder.names():
        blob = folder.open(name)
        assert blob.read_at(0, blob.size) == name.encode()
        assert blob.name == f"{root}/{name}"
        blob.close()


def test_links_are_neither_seen_nor_followed(root: Path) -> None:
    (root / "link.vmdk").symlink_to(root.parent / "secret.vmdk")
    (root / "own-link.vmdk").symlink_to("disk.vmdk")
    (root / "folder-link").symlink_to(root.parent / "outside")
    (root / "dangling").symlink_to("nowhere")
    folder = LocalFolder(root)
    assert folder.names() == ["a/b/c/deep.vmdk", "a/x.vmdk", "disk.vmdk", "vm.vmx", "ünï.vmdk"]
    for name in ("link.vmdk", "own-link.vmdk", "folder-link/disk.vmdk", "dangling"):
        with pytest.raises(BlobNotFoundError):
            folder.open(name)


def test_a_folder_that_the_caller_names_by_a_link_is_his_own_choice(root: Path) -> None:
    (root.parent / "link").symlink_to(root)
    assert "disk.vmdk" in LocalFolder(root.parent / "link").names()


@pytest.mark.parametrize(
    "name",
    ["../secret.vmdk", "a/../../secret.vmdk", "/etc/passwd", "", ".", "..", "a//x.vmdk", "./disk.vmdk", "a/", "a\0b",
     "a/b/c/d/too-deep.vmdk", "nothing", "disk.vmdk/x", "\udcff", "n" * 300],
)  # fmt: skip
def test_names_that_are_no_names_lead_nowhere(root: Path, name: str) -> None:
    with pytest.raises(StoreError):
        LocalFolder(root).open(name)


def test_devices_and_pipes_are_not_files(root: Path) -> None:
    os.mkfifo(root / "pipe.vmdk")
    folder = LocalFolder(root)
    assert "pipe.vmdk" not in folder.names()
    done = threading.Event()

    def open_it() -> None:
        with pytest.raises(StoreError, match="not a regular file"):
            folder.open("pipe.vmdk")
        done.set()

    threading.Thread(target=open_it, daemon=True).start()
    assert done.wait(5)


def test_a_folder_that_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(BlobNotFoundError, match="does not exist"):
        LocalFolder(tmp_path / "nothing").names()
    (tmp_path / "file").write_bytes(b"")
    for name in ("file", "nothing"):
        with pytest.raises(StoreError):
            LocalFolder(tmp_path / name).open("x")


def test_too_many_files_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "MAX_FOLDER_FILES", 4)
    with pytest.raises(UnsafeDiskError, match="more than 4 files and folders"):
        LocalFolder(root).names()


def test_a_name_that_is_not_utf_8_is_left_out(root: Path) -> None:
    (Path(os.fsencode(root).decode()) / "latin.vmdk").touch()
    Path(os.fsdecode(os.fsencode(root) + b"/\xe9.vmdk")).touch()
    assert "latin.vmdk" in LocalFolder(root).names()
    assert all("\udce9" not in name for name in LocalFolder(root).names())


def test_nothing_stays_open(root: Path) -> None:
    folder = LocalFolder(root)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        folder.names()
        folder.open("a/x.vmdk").close()
        for name in ("a/nothing", "a", "../x"):
            with pytest.raises(StoreError):
                folder.open(name)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["..", ".", "", "a", "b", "x.vmdk", "secret.vmdk", "link", "\0", "disk.vmdk"]), max_size=6)
)
def test_no_name_leads_outside(root: Path, parts: list[str]) -> None:
    if not (root / "link").is_symlink():
        (root / "link").symlink_to("..")
    name = "/".join(parts)
    try:
        blob = LocalFolder(root).open(name)
    except StoreError:
        return
    assert blob.read_at(0, blob.size) == name.encode()
    blob.close()
