"""``vmferry convert`` as a user runs it: qemu-img compares, and what fails leaves one line and no file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.cli.material import ROOT, VMFERRY, call_vmferry, left_over, make_raw, make_stream, qemu_img, run_vmferry
from vmferry.units import GIB, MIB


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_raw(tmp_path_factory.mktemp("raw") / "disk.raw")


@pytest.fixture(scope="module")
def stream(raw: Path) -> Path:
    return make_stream(raw, raw.with_name("disk.vmdk"))


@pytest.fixture(scope="module")
def ova(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ova")
    first = make_raw(folder / "first.raw", 8 * MIB, 2)
    second = make_raw(folder / "second.raw", 8 * MIB, 3, bootable=True)
    out = folder / "two-disks.ova"
    tool: list[str | Path] = [sys.executable, ROOT / "tools" / "wrap_ova.py", out, first, second]
    done = subprocess.run(tool, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return out


def assert_fails(done: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    *notes, line = done.stderr.splitlines()
    assert all(note.startswith("vmferry: note: ") for note in notes)
    assert line.startswith("vmferry: ")
    assert "Traceback" not in line
    for words in said:
        assert words in line


@pytest.mark.slow
@pytest.mark.parametrize("target", ["out.raw", "out.qcow2"])
@pytest.mark.parametrize("subformat", ["streamOptimized", "monolithicSparse"])
def test_a_vmdk_becomes_what_qemu_img_finds_identical(raw: Path, subformat: str, target: str, tmp_path: Path) -> None:
    source = tmp_path / "in.vmdk"
    qemu_img("convert", "-O", "vmdk", "-o", f"subformat={subformat}", raw, source)
    done = run_vmferry("convert", source, tmp_path / target)
    assert done.returncode == 0, done.stderr
    kind = target.partition(".")[2]
    # qemu-img rounds the size of a VMDK; it is compared with its own reading of the same file.
    assert "identical" in qemu_img("compare", "-f", "vmdk", "-F", kind, source, tmp_path / target)
    if kind == "qcow2":
        assert "No errors" in qemu_img("check", tmp_path / target)
    assert (tmp_path / target).stat().st_blocks * 512 < 40 * MIB


def test_raw_and_qcow2_go_round(raw: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "there.qcow2", tmp_path / "back.img"
    assert call_vmferry("convert", raw, there).returncode == 0
    assert call_vmferry("convert", there, back, "--workers", "3").returncode == 0
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "raw", raw, back)
    assert back.stat().st_size == raw.stat().st_size


def test_the_last_line_says_what_was_made(stream: Path, tmp_path: Path) -> None:
    done = run_vmferry("convert", stream, tmp_path / "out.bin", "--to", "qcow2")
    last = done.stdout.splitlines()[-1]
    assert "out.bin: qcow2, 96 MiB virtual" in last
    assert "allocated" in last
    assert "/s)" in last


def test_json_is_one_document_and_progress_are_lines_on_stderr(stream: Path, tmp_path: Path) -> None:
    done = run_vmferry("convert", stream, tmp_path / "out.raw", "--json")
    document = json.loads(done.stdout)
    assert document["format"] == "raw"
    assert document["source_format"] == "vmdk"
    assert document["virtual_size"] == (tmp_path / "out.raw").stat().st_size
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[-1]["done"] == lines[-1]["total"] == document["data"]


def test_of_an_appliance_the_disk_that_boots_is_converted_and_verified(ova: Path, tmp_path: Path) -> None:
    done = run_vmferry("convert", ova, tmp_path / "out.raw")
    assert done.returncode == 0, done.stderr
    assert "manifest verified" in done.stdout
    assert (tmp_path / "out.raw").read_bytes() == ova.with_name("second.raw").read_bytes()


def test_a_disk_of_an_appliance_can_be_named(ova: Path, tmp_path: Path) -> None:
    assert call_vmferry("convert", ova, tmp_path / "out.raw", "--disk", "1").returncode == 0
    assert (tmp_path / "out.raw").read_bytes() == ova.with_name("first.raw").read_bytes()
    for number in ("0", "3"):
        assert_fails(call_vmferry("convert", ova, tmp_path / "no.raw", "--disk", number), 2, "disks 1 to 2")


def test_a_disk_that_differs_from_its_manifest_is_no_result(ova: Path, tmp_path: Path) -> None:
    """One bit of what no reader of the disk looks at: only the digest can tell."""
    changed = tmp_path / "changed.ova"
    with tarfile.open(ova) as archive:
        member = next(found for found in archive if found.name.endswith("2.vmdk"))
    data = bytearray(ova.read_bytes())
    data[member.offset_data + 510] ^= 1
    changed.write_bytes(data)
    assert_fails(call_vmferry("convert", changed, tmp_path / "out.raw"), 1, "digest")
    assert left_over(tmp_path) == {"changed.ova"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["missing.vmdk", "out.raw"], 1, "does not exist"),
        (["in.vmdk", "nowhere/out.raw"], 1, "Make it first"),
        (["in.vmdk", "folder.raw"], 1, "is a directory"),
        (["folder.raw", "out.raw"], 1, "no description of a machine"),
        (["in.vmdk", "."], 2, "is a directory; name a file in it"),
        (["in.vmdk", "out.raw", "--workers", "two"], 2, "'two' is not a number"),
        (["in.vmdk", "out.xyz"], 2, "say it with --to: raw, qcow2"),
        (["in.vmdk", "out.qcow2", "--subformat", "thick"], 2, "qcow2 has no subformat thick; it has: plain"),
        (["in.vmdk", "in.vmdk", "out.raw"], 2, "2 sources go into an .ova or .xva only"),
        (["in.vmdk", "out.ova", "--subformat", "fixed"], 2, "--for"),
        (["in.vmdk", "out.raw", "--for", "esxi"], 2, "--for is for machines; out.raw is to be a disk image"),
        (["in.vmdk", "out.raw", "--name", "web"], 2, "--name is for machines"),
        (["in.vmdk", "out.xva", "--manifest", "sha1"], 2, "--manifest is for an .ova"),
        (["in.vmdk", "out.xva", "--compress", "best"], 2, "--compress is for an .ova"),
        (["in.vmdk", "out.ova", "--for", "xen", "--compress", "best"], 2, "are vhd, which is not compressed"),
        (["in.vmdk", "out.raw", "--compress", "fast"], 2, "such a raw is not compressed; leave it out"),
        (["in.vmdk", "out.qcow2", "--compress", "fast"], 2, "add --subformat zlib or zstd"),
        (["in.vmdk", "out.raw", "--extent", "empty"], 1, "takes nothing from it"),
        (["in.vmdk", "out.raw", "--parent", "none.vmdk"], 1, "does not exist"),
        (["in.vmdk", "out.raw", "--parent", "in.vmdk"], 1, "has no parent"),
        (["in.vmdk", "out.raw", "--snapshot", "x"], 1, "no internal snapshot"),
        (["in.vmdk", "out.raw", "--to", "floppy"], 2, "no format"),
        (["in.vmdk", "in.vmdk", "--to", "raw"], 2, "source and target"),
        (["in.vmdk", "out.raw", "--disk", "2"], 2, "--disk is for appliances"),
        (["in.vmdk", "out.raw", "--workers", "0"], 2, "--workers"),
        (["in.vmdk"], 2, "DST"),
        (["short.vmdk", "out.raw"], 1, "cut short"),
        (["bad.vmdk", "out.raw"], 1, "export it again"),
        (["empty", "out.raw"], 1, "empty"),
        (["disk.vhd", "out.raw"], 1, "footer is damaged"),
        (["disk.vhdx", "out.raw"], 1, "both headers"),
        (["disk.gz", "out.raw"], 1, "is damaged"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_leaves_nothing(
    words: list[str], code: int, said: str, stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stream.read_bytes()
    (tmp_path / "in.vmdk").write_bytes(whole)
    (tmp_path / "short.vmdk").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bad.vmdk").write_bytes(
        whole[: len(whole) * 2 // 3] + bytes(4096) + whole[len(whole) * 2 // 3 + 4096 :]
    )
    (tmp_path / "empty").touch()
    (tmp_path / "folder.raw").mkdir()
    (tmp_path / "disk.vhd").write_bytes(bytes(MIB) + b"conectix".ljust(512, b"\0"))
    (tmp_path / "disk.vhdx").write_bytes(b"vhdxfile".ljust(MIB, b"\0"))
    (tmp_path / "disk.gz").write_bytes(b"\x1f\x8b\x08".ljust(1024, b"\0"))
    before = left_over(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert_fails(call_vmferry("convert", *words), code, said)
    assert left_over(tmp_path) == before
    assert (tmp_path / "in.vmdk").read_bytes() == whole


def test_names_cannot_give_the_terminal_orders(tmp_path: Path) -> None:
    done = call_vmferry("convert", tmp_path / "\x1b[31mred\nline", tmp_path / "out.raw")
    assert_fails(done, 1, "\\u001b[31mred\\u000aline")


def test_an_old_file_is_kept_until_the_new_one_is_whole(stream: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.raw"
    target.write_bytes(b"precious")
    whole = stream.read_bytes()
    (tmp_path / "short.vmdk").write_bytes(whole[: len(whole) // 2])
    assert call_vmferry("convert", tmp_path / "short.vmdk", target).returncode == 1
    assert target.read_bytes() == b"precious"
    assert call_vmferry("convert", stream, target).returncode == 0
    assert target.stat().st_size > 90 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_conversion_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    source = tmp_path / "big.raw"
    with source.open("wb") as file:
        for _ in range(8):
            file.write(os.urandom(MIB) * 64)
    process = subprocess.Popen(
        [VMFERRY, "convert", source, tmp_path / "out.qcow2"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 30
        while len(left_over(tmp_path)) == 1 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert any(name.endswith(".partial") for name in left_over(tmp_path))
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert said.splitlines()[-1] == "vmferry: interrupted"
    assert left_over(tmp_path) == {"big.raw"}


def test_a_full_disk_is_said_and_leaves_nothing(stream: Path, tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    script = f"""
        mount -t tmpfs -o size=4m none '{mount}' && "$0" convert "$1" '{mount}/out.raw'
        code=$?
        ls -A '{mount}'
        exit $code"""
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    probe = subprocess.run([*alone, "mount", "-t", "tmpfs", "none", mount], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"cannot run here: no user namespaces ({probe.stderr.strip()})")
    command: list[str | Path] = [*alone, "sh", "-c", script, VMFERRY, stream]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert_fails(done, 1, "No room left")
    assert done.stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize("target", ["out.raw", "out.qcow2"])
def test_memory_stays_below_256_mib(target: str, tmp_path: Path) -> None:
    """A terabyte with data all over, by as many threads as there can be."""
    source = tmp_path / "big.qcow2"
    qemu_img("create", "-f", "qcow2", source, "1T")
    writes = [word for place in range(0, 1000, 8) for word in ("-c", f"write -P {place % 250 + 1} {place}G 2M")]
    done = subprocess.run(["qemu-io", *writes, str(source)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    script = (
        "import sys; from vmferry.cli import run\n"
        "code = run(sys.argv[1:])\n"
        # not getrusage: its peak counts what the process was before exec, a copy of the test runner
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
        "sys.exit(code)"
    )
    command = [sys.executable, "-c", script, "convert", str(source), str(tmp_path / target), "--workers", "8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) * 1024 <= GIB // 4
    assert (tmp_path / target).stat().st_blocks * 512 < GIB


def test_a_source_is_read_as_what_it_is_declared_to_be(tmp_path: Path) -> None:
    """An ISO image is refused unless its bytes are asked for; a disk declared raw is never taken for anything else."""
    source = tmp_path / "install.iso"
    source.write_bytes(bytes(32769) + b"CD001" + bytes(4096))
    refused = run_vmferry("convert", source, tmp_path / "out.qcow2")
    assert_fails(refused, 1, "declare it raw")
    done = run_vmferry("convert", "--from", "raw", source, tmp_path / "out.raw")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.raw").read_bytes().rstrip(b"\0") == source.read_bytes().rstrip(b"\0")
    wrong = run_vmferry("convert", "--from", "vmdk", source, tmp_path / "out.raw")
    assert_fails(wrong, 1, "was declared as vmdk")
    assert_fails(run_vmferry("convert", "--from", "iso", source, tmp_path / "out.raw"), 2, "is no format that is read")
