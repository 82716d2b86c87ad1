"""The local store: the contract of stores, and what is a file system's own."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.stores.contract import ResumeContract, get, letters, put
from tests.stores.interleaving import before_the_next_lock
from vmferry.errors import (
    BlobChangedError,
    BlobNotFoundError,
    ConfigError,
    OutOfSpaceError,
    StoreError,
    StoreUnavailableError,
)
from vmferry.stores import STORES, Pin, Store, copy_blob, local
from vmferry.stores.local import LocalStore, SharedFileWriter, create_file, resume_file
from vmferry.units import GIB, KIB, MIB


class TestLocalStore(ResumeContract):
    @pytest.fixture
    def store(self, tmp_path: Path, bucket: str) -> Store:
        (tmp_path / "root" / bucket).mkdir(parents=True)
        return STORES["local"].connect({"root": str(tmp_path / "root")})


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def files(directory: Path) -> list[str]:
    """The names of all files below ``directory``, hidden ones too."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


# --- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../up",
        "a/../../up",
        "a//b",
        "a/",
        "./a",
        "a/.",
        "nul\0",
        ".a.partial",
        "k" * 1025,
    ],
)
def test_a_key_never_leaves_its_bucket(store: LocalStore, tmp_path: Path, key: str) -> None:
    for act in (store.create, store.open, store.resume, store.locate, store.delete):
        with pytest.raises(StoreError, match="cannot name anything in a local store"):
            act("bucket", key)
    assert files(tmp_path) == []


@pytest.mark.parametrize("bucket", ["", "..", ".", "a/b", "/", "nul\0"])
def test_a_bucket_is_one_directory(store: LocalStore, bucket: str) -> None:
    for act in (store.create, store.open):
        with pytest.raises(StoreError, match="cannot name anything in a local store"):
            act(bucket, "key")
    with pytest.raises(StoreError):
        list(store.keys(bucket))


def test_a_name_too_long_for_the_file_system_is_an_error_of_ours(store: LocalStore) -> None:
    for act in (store.create, store.open, store.resume, store.locate, store.delete):
        with pytest.raises(StoreError, match="too long"):
            act("bucket", "n" * 300)


def test_a_key_below_a_blob_is_an_error_of_ours(store: LocalStore) -> None:
    put(store, "bucket", "a", b"x")
    with pytest.raises(StoreError):
        store.create("bucket", "a/b")
    with pytest.raises(BlobNotFoundError):
        store.open("bucket", "a/b")
    store.delete("bucket", "a/b")
    assert get(store, "bucket", "a") == b"x"


def test_a_directory_is_no_blob(store: LocalStore) -> None:
    put(store, "bucket", "a/b", b"x")
    for act in (store.open, store.locate):
        with pytest.raises(BlobNotFoundError, match="There is no key a in bucket bucket"):
            act("bucket", "a")
    store.delete("bucket", "a")
    writer = store.create("bucket", "a")
    with pytest.raises(StoreError):
        writer.finish()
    writer.abort()
    assert files(store._root) == ["bucket/a/b"]


def test_connect_wants_a_root(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'root'"):
        STORES["local"].connect({})
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be made"):
        STORES["local"].connect({"root": str(tmp_path / "file" / "root")})


def test_a_key_is_unicode_text(store: LocalStore) -> None:
    with pytest.raises(StoreError, match="not Unicode text"):
        store.create("bucket", "\ud800")


# --- whole, or not at all ----------------------------------------------------------------------------------------


def test_a_blob_being_made_is_hidden_beside_its_name(store: LocalStore, tmp_path: Path) -> None:
    one, other = store.create("bucket", "d/x"), store.create("bucket", "d/x")
    shared = store.resume("bucket", "d/x")
    names = files(tmp_path)
    assert len(names) == 3
    assert "bucket/d/.x.partial" in names
    assert sum(bool(re.fullmatch(r"bucket/d/\.x\.[0-9a-f]{8}\.partial", name)) for name in names) == 2
    for writer in (one, other, shared):
        writer.abort()
    assert files(tmp_path) == []


def test_locate_gives_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = LocalStore("relative")
    put(store, "bucket", "d/x", b"here")
    assert store.locate("bucket", "d/x") == str(tmp_path / "relative" / "bucket" / "d" / "x")
    assert Path(store.locate("bucket", "d/x")).read_bytes() == b"here"


def test_a_hole_takes_no_room(store: LocalStore) -> None:
    writer = store.create("bucket", "sparse")
    writer.write_at(64 * GIB, b"x")
    writer.set_size(128 * GIB)
    writer.finish()
    status = Path(store.locate("bucket", "sparse")).stat()
    assert status.st_size == 128 * GIB
    assert status.st_blocks * 512 <= MIB


def test_a_blob_changed_in_place_is_not_read_on(store: LocalStore) -> None:
    put(store, "bucket", "x", b"old bytes")
    blob = store.open("bucket", "x")
    assert blob.read_at(0, 3) == b"old"
    path = Path(store.locate("bucket", "x"))
    path.write_bytes(b"NEW BYTES")
    os.utime(path, ns=(0, 0))  # file systems count time in ticks: two writes in one tick look alike
    with pytest.raises(BlobChangedError, match="changed meanwhile"):
        blob.read_at(0, 3)
    with pytest.raises(BlobChangedError, match="changed meanwhile"):
        blob.read_into(0, memoryview(bytearray(3)))
    blob.close()


def test_a_pin_tells_files_of_one_size_and_time_apart(store: LocalStore) -> None:
    put(store, "bucket", "x", b"one")
    blob = store.open("bucket", "x")
    put(store, "bucket", "x", b"two")
    path = Path(store.locate("bucket", "x"))
    os.utime(path, ns=(os.fstat(blob._fd).st_mtime_ns,) * 2)
    with pytest.raises(BlobChangedError):
        store.open("bucket", "x", blob.pin)
    blob.close()
    store.open("bucket", "x", Pin(3)).close()  # a pin may say less


def _write_slices(root: str, process: int) -> int:
    """Every fourth 64 KiB of the shared blob, in a process of its own."""
    writer = LocalStore(root).resume("bucket", "shared")
    data = letters(64)
    for start in range(process * 64 * KIB, len(data), 4 * 64 * KIB):
        writer.write_at(start, data[start : start + 64 * KIB])
    writer.detach()
    return process


def _finish(root: str) -> None:
    LocalStore(root).resume("bucket", "shared").finish()


def test_processes_write_and_finish_one_blob(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        assert list(pool.map(_write_slices, [str(tmp_path)] * 4, range(4))) == [0, 1, 2, 3]
        list(pool.map(_finish, [str(tmp_path)] * 4))
    assert get(LocalStore(tmp_path), "bucket", "shared") == letters(64)
    assert files(tmp_path) == ["bucket/shared"]


def test_a_killed_process_leaves_its_work_to_the_next(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from vmferry.stores.local import LocalStore\n"
        "writer = LocalStore(sys.argv[1]).resume('bucket', 'key'); writer.write_at(0, b'half')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == -9
    store = LocalStore(tmp_path)
    assert list(store.keys("bucket")) == []
    writer = store.resume("bucket", "key")
    assert list(writer.data_ranges(0, MIB)) == [(0, 4)]
    writer.write_at(4, b" and half")
    writer.finish()
    assert get(store, "bucket", "key") == b"half and half"


_FULL_DISK = """
import os, subprocess, sys
from vmferry.errors import OutOfSpaceError
from vmferry.stores import local
from vmferry.stores.local import LocalStore
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", sys.argv[1]], check=True)
store = LocalStore(sys.argv[1])
writer = store.create("bucket", "key")
try:
    writer.write_at(0, b"x" * (4 << 20))
except OutOfSpaceError as error:
    print(error.retryable, error)
writer.abort()
print(os.listdir(sys.argv[1] + "/bucket"))
"""


def test_a_full_file_system_says_so(tmp_path: Path) -> None:
    isolated = ["unshare", "-Urm"]
    if subprocess.run([*isolated, "true"], capture_output=True).returncode != 0:
        pytest.skip("cannot run here: this system lets nobody make a mount namespace")
    done = subprocess.run([*isolated, sys.executable, "-c", _FULL_DISK, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("True No room left while writing")
    assert second == "[]"


# --- create_file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", [True, False])
def test_create_file_leaves_the_old_file_until_finish(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "disk.qcow2"
    path.write_bytes(b"old")
    path.chmod(0o640)
    writer = create_file(path, sync=sync)
    writer.write_at(0, b"new bytes")
    assert path.read_bytes() == b"old"
    writer.finish()
    assert path.read_bytes() == b"new bytes"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert files(tmp_path) == ["disk.qcow2"]


def test_create_file_aborted_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    writer = create_file(path)
    writer.write_at(0, b"x")
    writer.abort()
    assert files(tmp_path) == []


def test_create_file_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    writer = create_file(tmp_path / "link")
    writer.write_at(0, b"new")
    writer.finish()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_create_file_takes_the_place_of_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    writer = create_file(tmp_path / "a")
    writer.write_at(0, b"x")
    writer.finish()
    assert (tmp_path / "a").read_bytes() == b"x"


def test_create_file_refuses_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "fifo")
    for path, why in ((tmp_path, "a directory"), (Path("/dev/null"), "not a regular file")):
        with pytest.raises(StoreError, match=why):
            create_file(path)
    for name in ("null", "fifo"):
        with pytest.raises(StoreError, match="not overwritten"):
            create_file(tmp_path / name)
    with pytest.raises(BlobNotFoundError, match="Make it first"):
        create_file(tmp_path / "no" / "such" / "directory")


@pytest.mark.parametrize("linked", [True, False])
def test_a_copy_lives_and_dies_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool) -> None:
    store = LocalStore(tmp_path)
    writer = store.create("here", "a")
    writer.write_at(0, b"begin")
    writer.write_at(64 * MIB, b"end")
    writer.finish()
    if not linked:
        monkeypatch.setattr(LocalStore, "link", lambda *_, **__: False)
    copy_blob(store, "here", "a", "there", "folder/b")
    store.delete("here", "a")
    blob = store.open("there", "folder/b")
    assert (blob.size, blob.read_at(0, 5), blob.read_at(64 * MIB, 3)) == (64 * MIB + 3, b"begin", b"end")
    assert (tmp_path / "there/folder/b").stat().st_blocks * 512 < MIB  # what was a hole is one
    blob.close()
    store.delete("there", "folder/b")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_copy_never_takes_a_name_that_is_taken(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for key in ("a", "b"):
        writer = store.create("here", key)
        writer.write_at(0, key.encode())
        writer.finish()
    with pytest.raises(StoreError):
        copy_blob(store, "here", "a", "here", "b")
    assert store.open("here", "b").read_at(0, 1) == b"b"
    with pytest.raises(BlobNotFoundError):
        copy_blob(store, "here", "nothing", "here", "c")


# --- what a power cut leaves -------------------------------------------------------------------------------------


def test_what_is_flushed_has_a_name_that_a_power_cut_leaves(
    store: LocalStore, tmp_path: Path, synced: list[Path]
) -> None:
    writer = store.resume("b", "folder/image")
    writer.write_at(0, b"slice")
    writer.flush()
    partial = tmp_path / "b" / "folder" / ".image.partial"
    assert synced == [partial, partial.parent, tmp_path / "b", tmp_path]
    writer.flush()  # no slice waits for it again
    assert synced[4:] == [partial]
    writer.detach()


def test_a_second_name_is_durable_with_the_folders_that_were_made_for_it(
    store: LocalStore, tmp_path: Path, synced: list[Path]
) -> None:
    put(store, "b", "image", b"x")
    synced.clear()
    assert store.link("b", "image", "other", "account/image")
    assert synced == [tmp_path / "other" / "account", tmp_path / "other", tmp_path]


# --- files that several hold -------------------------------------------------------------------------------------


def test_a_file_is_held_together_or_alone(store: LocalStore) -> None:
    one, two, three = (shared(store) for _ in range(3))
    assert one.lock(shared=True)
    assert two.lock(shared=True)
    assert not three.lock(shared=False, wait=False)
    one.close()
    assert not three.lock(shared=False, wait=False)
    two.close()
    assert three.lock(shared=False, wait=False)
    three.abort()


def inode(store: LocalStore, key: str) -> int:
    return Path(store.locate("b", key)).stat().st_ino


def test_nobody_writes_to_what_is_whole_who_wrote_to_it_before(store: LocalStore, tmp_path: Path) -> None:
    frozen, writer = shared(store), shared(store)
    frozen.write_at(0, b"begin")
    writer.write_at(2 * MIB, b"end")
    writer.finish()
    frozen.write_at(0, b"OLD")
    frozen.set_size(1)
    assert files(tmp_path) == ["b/shared"]
    blob = store.open("b", "shared")
    assert (blob.size, blob.read_at(0, 5), blob.read_at(2 * MIB, 3)) == (2 * MIB + 3, b"begin", b"end")
    blob.close()
    frozen.finish()  # somebody was faster
    assert get(store, "b", "shared")[:5] == b"begin"


def test_what_nobody_else_holds_is_renamed_and_not_copied(store: LocalStore) -> None:
    other, writer = shared(store), shared(store)
    other.detach()
    before = os.fstat(writer._fd).st_ino
    writer.finish()
    assert inode(store, "shared") == before


def test_a_copy_for_which_there_is_no_room_leaves_the_work_as_it_is(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen, writer = shared(store), shared(store)
    writer.write_at(0, b"all of it")
    with monkeypatch.context() as patched:
        patched.setattr(os, "copy_file_range", _raiser(errno.ENOSPC))
        with pytest.raises(OutOfSpaceError):
            writer.finish()
    writer.detach()
    assert files(tmp_path) == ["b/.shared.partial"]
    shared(store).finish()
    assert get(store, "b", "shared") == b"all of it"
    frozen.close()


def test_what_was_finished_and_handed_on_meanwhile_is_not_taken_for_unfinished(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shared(store)
    first.write_at(0, b"a volume's bytes")

    def hand_on() -> None:
        first.finish()
        store.link("b", "shared", "b", "volume")
        store.delete("b", "shared")

    before_the_next_lock(monkeypatch, hand_on)
    late = shared(store)
    late.write_at(0, b"OLD")
    assert get(store, "b", "volume") == b"a volume's bytes"
    late.abort()


def test_who_hangs_while_a_file_is_about_to_appear_is_told_of(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_FINISHING_SECONDS", 0.0)
    first = shared(store)
    assert first.lock(shared=False, wait=False)
    with pytest.raises(StoreUnavailableError, match="it is frozen"):
        shared(store)
    first.finish()
    assert not isinstance(store.resume("b", "shared"), SharedFileWriter)


def test_who_asks_for_bytes_of_its_own_while_another_copies_them_gets_the_same(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "b", "snapshot", b"image")
    store.link("b", "snapshot", "b", "volume")

    def copy_and_write() -> None:
        store.unshare("b", "volume")
        Path(store.locate("b", "volume")).write_bytes(b"a guest's")

    before_the_next_lock(monkeypatch, copy_and_write)
    store.unshare("b", "volume")
    assert get(store, "b", "volume") == b"a guest's"
    assert get(store, "b", "snapshot") == b"image"


@pytest.mark.parametrize("broken", [None, errno.EXDEV, errno.EOPNOTSUPP])
def test_bytes_are_copied_whether_the_kernel_can_or_not(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, broken: int | None
) -> None:
    content = os.urandom(3 * MIB + 5)
    put(store, "b", "source", content)
    if broken is not None:
        monkeypatch.setattr(os, "copy_file_range", _raiser(broken))
    source, target = store.open("b", "source"), shared(store)
    target.copy_from(source, 5, 7, 3 * MIB)
    assert target.read_back(0, 7 + 3 * MIB) == bytes(7) + content[5:]
    target.finish()
    source.close()


def test_what_fails_in_the_kernel_is_ours(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "b", "source", b"x")
    monkeypatch.setattr(os, "copy_file_range", _raiser(errno.ENOSPC))
    source, target = store.open("b", "source"), shared(store)
    with pytest.raises(OutOfSpaceError):
        target.copy_from(source, 0, 0, 1)
    target.abort()
    source.close()


def shared(store: LocalStore) -> SharedFileWriter:
    writer = store.resume("b", "shared")
    assert isinstance(writer, SharedFileWriter)
    return writer


def _raiser(number: int) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_new_name_is_a_change(store: LocalStore) -> None:
    put(store, "b", "old", b"image")
    past = datetime.now(UTC) - timedelta(days=30)
    os.utime(store.locate("b", "old"), (past.timestamp(), past.timestamp()))
    store.link("b", "old", "b", "new")
    for key in ("old", "new"):
        assert datetime.now(UTC) - store.changed_at("b", key) < timedelta(hours=1)
    with pytest.raises(BlobNotFoundError):
        store.changed_at("b", "none")


# --- one process alone -------------------------------------------------------------------------------------------


def test_what_another_process_finishes_just_now_is_not_taken_for_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = resume_file(tmp_path / "disk")
    first.write_at(0, b"whole")
    before_the_next_lock(monkeypatch, first.finish)
    second = resume_file(tmp_path / "disk")
    second.begin()
    assert (tmp_path / "disk").read_bytes() == b"whole"
    second.abort()
    assert files(tmp_path) == ["disk"]


def test_what_could_not_be_made_durable_never_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:  # the kernel says so once, and forgets what it could not write
        monkeypatch.undo()
        raise OSError(errno.EIO, "Input/output error")

    writer = resume_file(tmp_path / "disk")
    writer.write_at(0, b"lost")
    monkeypatch.setattr(os, "fdatasync", fail)
    for make_durable in (writer.flush, writer.flush, writer.finish, writer.detach):
        with pytest.raises(StoreError, match="Input/output error"):
            make_durable()
    assert files(tmp_path) == [".disk.partial"]
    resume_file(tmp_path / "disk").abort()
