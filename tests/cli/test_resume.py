"""``convert --resume``: killed at any moment, it goes on where it was, and what comes of it is what was wanted."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.material import VMFERRY, call_vmferry, left_over, make_raw, make_stream, qemu_img
from tests.cli.test_s3_objects import fetch
from tests.stores.running_s3 import ROOT, RunningS3, running_s3
from tests.stores.test_s3 import judge, uploads
from vmferry.units import MIB

pytestmark = pytest.mark.slow

SIZE = 640 * MIB


def make_disk(path: Path, size: int) -> Path:
    """A disk with half of its MiB full of what deflates and inflates slowly enough to be killed over."""
    words = [random.Random(seed).randbytes(40) for seed in range(400)]
    chance = random.Random(1)
    with path.open("wb") as disk:
        disk.truncate(size)
        for place in range(0, size, 2 * MIB):
            disk.seek(place)
            disk.write(b"".join(chance.choices(words, k=MIB // 40)))
    return path


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_disk(tmp_path_factory.mktemp("resume") / "disk.raw", SIZE)


@pytest.fixture(scope="module")
def stream(raw: Path) -> Path:
    return make_stream(raw, raw.with_suffix(".vmdk"))


def kill_at(share: float, *words: str | Path, number: signal.Signals = signal.SIGKILL) -> tuple[int, int, str]:
    """Begin a conversion and end it when ``share`` of it is done; answers what it said was done, and of how much.

    It runs at the lowest priority: it could otherwise be done before this process is woken to kill it.
    """
    command = ["nice", "-n", "19", str(VMFERRY), "convert", *map(str, words), "--workers", "1", "--json"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    done, total, rest = 0, 1, ""
    for line in process.stderr:
        if not line.startswith("{"):
            rest += line
            continue
        facts = json.loads(line)
        done, total = facts["done"], facts["total"]
        if done >= share * total:
            process.send_signal(number)
            number = signal.SIGKILL
            rest += process.stderr.read()
            break
    process.wait(timeout=60)
    process.stderr.close()
    assert process.returncode != 0, "it was done before it was killed"
    return done, total, rest


@pytest.mark.parametrize("target", ["out.qcow2", "out.raw"])
def test_killed_again_and_again_it_reads_little_twice(stream: Path, raw: Path, target: str, tmp_path: Path) -> None:
    out = tmp_path / target
    done = total = 0
    for share in (0.15, 0.35, 0.55):  # what is left gives a busy machine time to kill
        done, total, _ = kill_at(share, stream, out, "--resume", "--digest")
        assert not out.exists()
        kept = {f".{target}.partial", f".{target}.resume"}
        assert left_over(tmp_path) - {f".{target}.resume.new"} == kept  # it may have died while it noted how far it was
    last = json.loads(call_vmferry("convert", stream, out, "--resume", "--digest", "--json").stdout)
    assert last["resumed_at"] > 0
    assert last["data"] <= total - done + 0.02 * total + 8 * MIB
    assert left_over(tmp_path) == {target}
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", out.suffix[1:], raw, out)
    assert last["digest"] == call_vmferry("verify", raw).stdout.strip()


def test_ctrl_c_keeps_what_is_done_and_says_so(stream: Path, raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.qcow2"
    _, _, said = kill_at(0.3, stream, out, "--resume", number=signal.SIGINT)
    assert "the same command goes on from there" in said
    done = call_vmferry("convert", stream, out, "--resume")
    assert done.returncode == 0
    assert "the rest of it, from " in done.stdout
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "qcow2", raw, out)


def test_what_was_begun_with_something_else_is_not_gone_on_with(stream: Path, raw: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out.raw", tmp_path / "other.vmdk"
    other.write_bytes(stream.read_bytes())
    kill_at(0.3, other, out, "--resume")
    before = left_over(tmp_path)
    for words in ((raw, out), (stream, out), (other, out, "--digest"), (other, out, "--to", "qcow2")):
        done = call_vmferry("convert", *words, "--resume")
        assert done.returncode == 1
        assert "unfinished conversion into" in done.stderr
        assert left_over(tmp_path) == before
    os.utime(other, ns=(0, 0))
    assert "unfinished conversion into" in call_vmferry("convert", other, out, "--resume").stderr
    assert call_vmferry("convert", other, out).returncode == 0  # without --resume it is another matter
    (tmp_path / ".out.raw.resume").unlink()
    assert json.loads(call_vmferry("convert", raw, out, "--resume", "--json").stdout)["resumed_at"] is None
    assert left_over(tmp_path) == {"out.raw", "other.vmdk"}
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "raw", raw, out)


def test_what_an_older_conversion_left_never_shows_through(tmp_path: Path) -> None:
    empty, out = tmp_path / "empty.raw", tmp_path / "out.raw"
    with empty.open("wb") as file:
        file.truncate(MIB)
    (tmp_path / ".out.raw.partial").write_bytes(b"old" * MIB)
    (tmp_path / ".out.raw.resume").write_text('{"facts": ')
    assert call_vmferry("convert", empty, out, "--resume").returncode == 0
    assert out.read_bytes() == bytes(MIB)


@pytest.mark.parametrize("way", ["moved", "removed", "cut"])
def test_notes_of_a_file_that_is_gone_are_not_believed(way: str, stream: Path, raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.raw"
    kill_at(0.3, stream, out, "--resume")
    partial = tmp_path / ".out.raw.partial"
    match way:
        case "moved":
            partial.rename(tmp_path / "moved")
        case "removed":
            partial.unlink()  # the next file may well get its inode
        case _:
            os.truncate(partial, 1000)
    assert json.loads(call_vmferry("convert", stream, out, "--resume", "--json").stdout)["resumed_at"] is None
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "raw", raw, out)


def test_two_at_once_do_not_write_one_file(tmp_path: Path) -> None:
    source = make_raw(tmp_path / "in.raw", 32 * MIB, 2)
    holder = subprocess.Popen(["flock", "--no-fork", "--exclusive", str(tmp_path / ".out.raw.partial"), "sleep", "30"])
    try:
        time.sleep(0.3)
        done = call_vmferry("convert", source, tmp_path / "out.raw", "--resume")
        assert done.returncode == 1
        assert "Another process writes" in done.stderr
    finally:
        holder.kill()
        holder.wait()


PACKED = {
    "out.vmdk": [],
    "sparse.vmdk": ["--subformat", "monolithicSparse"],
    "out.vhdx": [],
    "out.vhd": [],
    "out.vdi": [],
    "out.qcow2": ["--subformat", "zlib"],
}


@pytest.mark.parametrize("target", PACKED)
def test_what_is_packed_is_the_same_file_killed_or_not(stream: Path, target: str, tmp_path: Path) -> None:
    out, whole = tmp_path / target, tmp_path / "whole" / target  # a VMDK says its own name
    whole.parent.mkdir()
    assert call_vmferry("convert", stream, whole, *PACKED[target]).returncode == 0
    done = total = 0
    for share in (0.2, 0.5):
        done, total, _ = kill_at(share, stream, out, "--resume", *PACKED[target])
    last = json.loads(call_vmferry("convert", stream, out, "--resume", "--json", *PACKED[target]).stdout)
    assert last["resumed_at"] > 0
    assert last["data"] <= total - done + 0.02 * total + 8 * MIB
    assert left_over(tmp_path) == {target, "whole"}
    assert out.read_bytes() == whole.read_bytes()


def test_damaged_notes_of_what_was_packed_are_said(stream: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.vhd"
    kill_at(0.5, stream, out, "--resume")
    os.truncate(tmp_path / ".out.vhd.placed", 20)
    done = call_vmferry("convert", stream, out, "--resume")
    assert done.returncode == 1
    assert "Remove " in done.stderr
    (tmp_path / ".out.vhd.resume").unlink()
    assert json.loads(call_vmferry("convert", stream, out, "--resume", "--json").stdout)["resumed_at"] is None
    assert left_over(tmp_path) == {"out.vhd"}


def test_a_damaged_source_leaves_nothing_to_go_on_with(stream: Path, tmp_path: Path) -> None:
    bad, whole = tmp_path / "bad.vmdk", stream.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2] + bytes(4096) + whole[len(whole) // 2 + 4096 :])
    done = call_vmferry("convert", bad, tmp_path / "out.qcow2", "--resume")
    assert done.returncode == 1
    assert left_over(tmp_path) == {"bad.vmdk"}


# --- into S3 ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningS3]:
    with running_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of it: what goes to S3 takes longer."""
    return make_disk(tmp_path_factory.mktemp("small") / "disk.raw", SIZE // 4)


@pytest.fixture(scope="module")
def small_stream(small: Path) -> Path:
    return make_stream(small, small.with_suffix(".vmdk"))


@pytest.fixture
def s3(running: RunningS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunningS3:
    """A running S3 as the environment names it; what is kept beside it lies in ``tmp_path / "state"``."""
    settings = {
        "AWS_ENDPOINT_URL_S3": running.endpoint,
        "AWS_ACCESS_KEY_ID": ROOT.access_key_id,
        "AWS_SECRET_ACCESS_KEY": ROOT.secret_access_key,
        "AWS_REGION": "us-east-1",
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return running


def kept(tmp_path: Path) -> set[str]:
    """The names of all that is kept beside an upload, or was."""
    return {path.name for path in (tmp_path / "state").rglob("*") if path.is_file()}


@pytest.mark.parametrize("target", ["out.qcow2", "out.vmdk", "out.vhd"])
def test_killed_again_and_again_an_upload_goes_on(
    s3: RunningS3, small_stream: Path, small: Path, target: str, tmp_path: Path
) -> None:
    url = f"s3://bucket/resumed/{target}"
    done = total = 0
    for share in (0.3, 0.6):
        done, total, _ = kill_at(share, small_stream, url, "--resume", "--digest")
        assert uploads(s3) == [f"resumed/{target}"]
    last = json.loads(call_vmferry("convert", small_stream, url, "--resume", "--digest", "--json").stdout)
    assert last["resumed_at"] > 0
    assert last["data"] <= total - done + 0.02 * total + 8 * MIB
    assert uploads(s3) == []
    assert kept(tmp_path) == set()
    kind = {"vhd": "vpc"}.get(target[4:], target[4:])
    assert "identical" in qemu_img(
        "compare", "-f", "raw", "-F", kind, small, fetch(s3, f"resumed/{target}", tmp_path / target)
    )
    assert last["digest"] == call_vmferry("verify", small).stdout.strip()


def test_an_upload_that_was_removed_meanwhile_begins_anew(
    s3: RunningS3, small_stream: Path, small: Path, tmp_path: Path
) -> None:
    url = "s3://bucket/removed.qcow2"
    _, _, said = kill_at(0.5, small_stream, url, "--resume", number=signal.SIGINT)
    assert "the same command goes on from there" in said
    (upload,) = judge(s3).list_multipart_uploads(Bucket="bucket")["Uploads"]
    judge(s3).abort_multipart_upload(Bucket="bucket", Key="removed.qcow2", UploadId=upload["UploadId"])
    last = json.loads(call_vmferry("convert", small_stream, url, "--resume", "--json").stdout)
    assert last["resumed_at"] is None
    assert uploads(s3) == []
    assert "identical" in qemu_img("compare", small, fetch(s3, "removed.qcow2", tmp_path / "removed.qcow2"))


def test_an_upload_of_another_source_is_not_gone_on_with(
    s3: RunningS3, small_stream: Path, small: Path, tmp_path: Path
) -> None:
    url = "s3://bucket/other.raw"
    kill_at(0.3, small_stream, url, "--resume")
    done = call_vmferry("convert", small, url, "--resume")
    assert done.returncode == 1
    assert "unfinished conversion into" in done.stderr
    assert uploads(s3) == ["other.raw"]
    for path in (tmp_path / "state").rglob("part-*"):
        path.unlink()
    last = json.loads(call_vmferry("convert", small, url, "--resume", "--json").stdout)
    assert last["resumed_at"] is None
    assert uploads(s3) == []
    assert kept(tmp_path) == set()
    assert fetch(s3, "other.raw", tmp_path / "other.raw").read_bytes() == small.read_bytes()
