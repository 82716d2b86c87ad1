"""``convert`` and ``inspect`` from and to a real S3: SeaweedFS, reached as a user reaches it, by AWS_* variables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.material import ROOT as REPOSITORY
from tests.cli.material import VMFERRY, left_over, make_raw, make_stream, qemu_img
from tests.stores.running_s3 import ROOT, RunningS3, running_s3
from tests.stores.test_s3 import uploads
from vmferry.stores.s3 import STORE
from vmferry.units import MIB, TIB

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningS3]:
    with running_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


def upload(s3: RunningS3, path: Path, key: str) -> str:
    writer = STORE.connect(s3.options()).create("bucket", key)
    content = path.read_bytes()
    for start in range(0, len(content), 8 * MIB):
        writer.write_at(start, content[start : start + 8 * MIB])
    writer.finish()
    return f"s3://bucket/{key}"


def fetch(s3: RunningS3, key: str, path: Path) -> Path:
    """The object as a file, sparse where it holds zeros."""
    blob = STORE.connect(s3.options()).open("bucket", key)
    with path.open("wb") as file:
        for start in range(0, blob.size, MIB):
            block = blob.read_at(start, min(MIB, blob.size - start))
            if block.count(0) < len(block):
                file.seek(start)
                file.write(block)
        file.truncate(blob.size)
    return path


def run_with_s3(s3: RunningS3, *words: str | Path, secret: str | None = None) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    env = {
        **kept,
        "AWS_ENDPOINT_URL_S3": s3.endpoint,
        "AWS_ACCESS_KEY_ID": ROOT.access_key_id,
        "AWS_SECRET_ACCESS_KEY": secret or ROOT.secret_access_key,
        "AWS_REGION": "us-east-1",
    }
    return subprocess.run([VMFERRY, *map(str, words)], env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["out.raw", "out.qcow2"])
def test_a_vmdk_in_s3_becomes_what_it_holds(s3: RunningS3, target: str, tmp_path: Path) -> None:
    stream = make_stream(make_raw(tmp_path / "disk.raw"), tmp_path / "disk.vmdk")
    done = run_with_s3(s3, "convert", upload(s3, stream, "folder/disk.vmdk"), tmp_path / target)
    assert done.returncode == 0, done.stderr
    kind = target.partition(".")[2]
    assert "identical" in qemu_img("compare", "-f", "vmdk", "-F", kind, stream, tmp_path / target)


def test_a_disk_of_an_ova_in_s3_is_read_in_place_and_checked(s3: RunningS3, tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "disk.raw", 40 * MIB, bootable=True)
    out = tmp_path / "machine.ova"
    tool: list[str | Path] = [sys.executable, REPOSITORY / "tools" / "wrap_ova.py", out, raw]
    subprocess.run(tool, check=True, capture_output=True, timeout=60)
    empty = tmp_path / "empty"
    empty.mkdir()
    done = run_with_s3(s3, "convert", upload(s3, out, "machine.ova"), empty / "out.raw", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["manifest_verified"] is True
    assert left_over(empty) == {"out.raw"}
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "raw", raw, empty / "out.raw")
    progress = [json.loads(line) for line in done.stderr.splitlines()]
    assert progress[-1]["done"] == progress[-1]["total"] == document["data"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vmdk", "qcow2"])
def test_a_terabyte_in_s3_is_inspected_by_few_reads(s3: RunningS3, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"big.{kind}"
    options = ["-o", "subformat=monolithicSparse"] if kind == "vmdk" else []
    qemu_img("create", "-f", kind, *options, path, "1T")
    location = upload(s3, path, path.name)
    begun = time.monotonic()
    done = run_with_s3(s3, "inspect", location, "--json")
    seconds = time.monotonic() - begun
    document = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert document["disks"][0]["virtual_size"] == TIB
    assert document["bytes_read"] < 16 * MIB
    assert seconds < 20  # a second on a machine with nothing else to do; here only that nobody reads all of it


@pytest.mark.slow
@pytest.mark.parametrize(
    ("location", "secret", "said"),
    [
        ("s3://bucket/nothing", None, "nothing"),
        ("s3://no-such-bucket/key", None, "no-such-bucket"),
        ("s3://bucket/nothing", "wrong", "refuse"),
        ("s3://bucket", None, "a key has 1 to 1,024 bytes"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(
    s3: RunningS3, location: str, secret: str | None, said: str, tmp_path: Path
) -> None:
    for words in (["inspect", location], ["convert", location, str(tmp_path / "out.raw")]):
        done = run_with_s3(s3, *words, secret=secret)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("vmferry: ")
        assert said in line
    assert left_over(tmp_path) == set()


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("out.raw", []),
        ("out.qcow2", []),
        ("out.qcow2", ["--subformat", "zstd"]),
        ("out.vmdk", []),
        ("out.vmdk", ["--subformat", "monolithicSparse"]),
        ("out.vhd", []),
        ("out.vhd", ["--subformat", "fixed"]),
        ("out.vhdx", []),
        ("out.vdi", []),
    ],
)
def test_every_format_is_written_to_s3(s3: RunningS3, target: str, options: list[str], tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "disk.raw")
    done = run_with_s3(s3, "convert", raw, f"s3://bucket/targets/{target}", *options)
    assert done.returncode == 0, done.stderr
    assert f"s3://bucket/targets/{target}: " in done.stdout
    assert " stored; " in done.stdout
    kind = target.partition(".")[2]
    made = fetch(s3, f"targets/{target}", tmp_path / target)
    if kind == "qcow2":
        qemu_img("check", "-f", "qcow2", made)
    judge = {"vhd": "vpc"}.get(kind, kind)
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", judge, raw, made)
    assert left_over(tmp_path) == {"disk.raw", target}


def test_a_qcow2_in_s3_has_no_room_for_zeros(s3: RunningS3, tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    raw.write_bytes(bytes(64 * MIB) + b"data" * 1000 + bytes(64 * MIB))  # no holes: the map says all of it is data
    done = run_with_s3(s3, "convert", raw, "s3://bucket/targets/dense.qcow2", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["allocated"] < MIB


def test_two_disks_become_an_appliance_in_s3(s3: RunningS3, tmp_path: Path) -> None:
    disks = [make_raw(tmp_path / f"disk{seed}.raw", 40 * MIB + seed * 512, seed) for seed in (1, 2)]
    for kind in ("ova", "xva"):
        there = f"s3://bucket/targets/machine.{kind}"
        done = run_with_s3(s3, "convert", *disks, there)
        assert done.returncode == 0, done.stderr
        for number, disk in enumerate(disks, 1):
            compared = run_with_s3(s3, "convert", there, tmp_path / "again.raw", "--disk", str(number))
            assert compared.returncode == 0, compared.stderr
            head = disk.read_bytes()
            assert (tmp_path / "again.raw").read_bytes()[: len(head)] == head


def test_what_ends_early_leaves_no_object_and_no_upload(s3: RunningS3, tmp_path: Path) -> None:
    stream = make_stream(make_raw(tmp_path / "disk.raw"), tmp_path / "disk.vmdk")
    content = bytearray(stream.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    stream.write_bytes(content)
    for target in ("broken.qcow2", "broken.raw"):
        done = run_with_s3(s3, "convert", stream, f"s3://bucket/{target}", "--from", "vmdk")
        assert done.returncode == 1
    assert uploads(s3) == []
    assert list(STORE.connect(s3.options()).keys("bucket", "broken")) == []


def test_a_raw_disk_that_is_too_large_for_s3_is_refused_before_the_work(s3: RunningS3, tmp_path: Path) -> None:
    raw = tmp_path / "huge.raw"
    with raw.open("wb") as file:
        file.truncate(TIB)
    done = run_with_s3(s3, "convert", raw, "s3://bucket/huge.raw")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "would be larger than 148" in line
    assert uploads(s3) == []


def test_a_bucket_that_is_not_there_is_said(s3: RunningS3, tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "disk.raw")
    done = run_with_s3(s3, "convert", raw, "s3://no-such-bucket/out.qcow2")
    assert done.returncode == 1
    assert "no bucket no-such-bucket" in done.stderr
