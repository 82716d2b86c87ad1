"""Folders that become file systems of guests, and what is compared with what was put in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from vmferry.blob import FileBlob
from vmferry.disk import Disk
from vmferry.formats import FORMATS, open_disk
from vmferry.guest.filesystems import FileSystem, NodeKind
from vmferry.units import KIB, MIB

OS_RELEASE = b'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="A guest"\n'


def run(*command: str | Path) -> None:
    """Run a tool that makes file systems; what it says is shown where it fails."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert done.returncode == 0, done.stderr + done.stdout


def make_tree(root: Path, *, odd_names: bool = True) -> Path:
    """A small system with what readers stumble over: links, deep and crowded folders, large, sparse and empty files."""
    files: dict[str, bytes] = {
        "etc/os-release": OS_RELEASE,
        "etc/hostname": b"web\n",
        "boot/vmlinuz-6.1": os.urandom(3 * MIB + 17),
        "empty/nothing": b"",
        "many/text": b"line of a text that is the same again and again\n" * 5000,
        "/".join(f"deep{level}" for level in range(24)) + "/end": b"found",
        "usr/" + "n" * 200: b"a long name",
    }
    files |= {f"many/file-{number:04}": b"%d" % number for number in range(700)}
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with (root / "boot/sparse").open("wb") as sparse:
        sparse.seek(5 * MIB)
        sparse.write(b"end")
    (root / "bin").symlink_to("usr/bin")
    (root / "etc/long-link").symlink_to("/" + "l" * 300)
    (root / "empty/folder").mkdir()
    if odd_names:
        for odd in (b"escape\x1b[31m", b"line\nfeed", b"back\\slash", "ünïcödé".encode(), b"latin\xff\xfe"):
            Path(os.fsdecode(os.fsencode(root) + b"/etc/" + odd)).write_bytes(odd)
    return root


def walk(root: Path) -> Iterator[tuple[str, Path]]:
    """Every path below ``root`` as a guest has it, with the file it is."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder) / name
            yield "/" + str(path.relative_to(root)), path


def compare(system: FileSystem, root: Path, *, times: bool = True) -> int:
    """Assert that ``system`` holds what is below ``root``, file by file; answers how many there are.

    ``times``: of files, too.
    """
    count = 0
    for name, path in walk(root):
        node = system.node(name)
        assert node is not None, name
        count += 1
        if path.is_symlink():
            assert (node.kind, node.target) == (NodeKind.LINK, str(path.readlink())), name
        elif path.is_dir():
            assert node.kind is NodeKind.FOLDER, name
            assert set(system.names(name)) == {child.name for child in path.iterdir()}, name
        else:
            content = path.read_bytes()
            assert (node.kind, node.size) == (NodeKind.FILE, len(content)), name
            assert read_all(system, name, node.size) == content, name
            assert not times or node.changed == int(path.stat().st_mtime), name
    assert set(system.names("/")) - {"lost+found"} == {child.name for child in root.iterdir()}
    return count


def read_all(system: FileSystem, name: str, size: int) -> bytes:
    """The file in odd pieces, as nobody else reads it."""
    piece = 700 * KIB + 13
    return b"".join(system.read_at(name, at, piece) for at in range(0, size, piece))


def check_what_is_not_there(system: FileSystem) -> None:
    """Assert the rest of the contract of ``FileSystem``: about what is missing, and what is no folder."""
    assert system.node("/nope") is None
    assert system.node("/etc/os-release/below") is None
    assert system.node("/nope/below") is None
    assert list(system.names("/nope")) == []
    assert list(system.names("/etc/os-release")) == []
    assert system.read_at("/etc", 0, 10) == b""
    assert system.read_at("/nope", 0, 10) == b""
    assert system.read_at("/etc/os-release", len(OS_RELEASE) - 2, 10) == OS_RELEASE[-2:]
    assert system.read_at("/etc/os-release", 1 << 40, 10) == b""
    root = system.node("/")
    assert root is not None
    assert root.kind is NodeKind.FOLDER


def open_raw(path: Path) -> Disk:
    """The raw disk at ``path``."""
    return open_disk(FileBlob(path), FORMATS["raw"])
