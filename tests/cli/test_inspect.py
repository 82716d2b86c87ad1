"""``vmferry inspect``: what a file is, by a few reads, and why it cannot be imported when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.material import ROOT, call_vmferry, make_raw, make_stream, qemu_img
from vmferry.units import MIB, TIB

sys.path.insert(0, str(ROOT / "tools"))
from build_guest import cached_guest

pytestmark = pytest.mark.slow


def inspect(path: Path) -> dict[str, Any]:
    done = call_vmferry("inspect", path, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def test_a_disk_is_described(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "disk.raw", 8 * MIB, bootable=True)
    for path, name in ((raw, "raw"), (make_stream(raw, tmp_path / "disk.vmdk"), "vmdk")):
        document = inspect(path)
        assert document["container"] is None
        assert document["importable"] is True
        (disk,) = document["disks"]
        assert disk["format"] == name
        assert disk["virtual_size"] == 8 * MIB
        assert 0 < disk["stored_size"] < 8 * MIB
        assert disk["partition_table"] == "mbr"
        assert disk["firmware"] == ["legacy-bios"]
        assert disk["partitions"][0]["start"] == MIB


def test_an_appliance_is_described(tmp_path: Path) -> None:
    first = make_raw(tmp_path / "first.raw", 8 * MIB)
    second = make_raw(tmp_path / "second.raw", 8 * MIB, bootable=True)
    out = tmp_path / "machine.ova"
    tool: list[str | Path] = [sys.executable, ROOT / "tools" / "wrap_ova.py", out, first, second, "--name", "web"]
    subprocess.run(tool, check=True, capture_output=True, timeout=60)
    document = inspect(out)
    assert document["container"] == "ova"
    assert document["machine"]["name"] == "web"
    assert document["machine"]["memory"] == 1 << 30
    assert [disk["number"] for disk in document["disks"]] == [1, 2]
    assert document["root_disk"] == 2
    text = call_vmferry("inspect", out).stdout
    assert "machine: web, 1 CPU, 1 GiB of memory" in text
    assert text.splitlines()[-1] == "can be imported: yes"


@pytest.mark.parametrize("kind", ["raw", "qcow2", "vmdk"])
def test_a_terabyte_costs_little(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"big.{kind}"
    options = ["-o", "subformat=monolithicSparse"] if kind == "vmdk" else []
    qemu_img("create", "-f", kind, *options, path, "1T")
    document = inspect(path)
    assert document["disks"][0]["virtual_size"] == TIB
    assert document["bytes_read"] < 16 * MIB


def test_a_disk_that_does_not_boot_is_noted(tmp_path: Path) -> None:
    document = inspect(make_raw(tmp_path / "data.raw", 8 * MIB))
    assert document["importable"] is True
    assert document["hardware"] is None
    (finding,) = document["preflight"]["vmferry"]
    assert (finding["id"], finding["severity"]) == ("no-partition-table", "will not boot")
    assert document["ec2"]["refusals"] == [
        "disk 1: No partition table was found, and no file system [No valid partitions. Not a valid volume.]"
    ]


def test_a_guest_is_looked_into(tmp_path: Path) -> None:
    guest = cached_guest("tiny")
    document = inspect(guest)
    linux = document["guest"]["systems"][0]["linux"]
    assert linux["title"] == "vmferry tiny guest"
    assert {"virtio_blk", "ahci", "nvme"} <= set(linux["kernels"][0]["in_initramfs"])
    assert document["bytes_read"] < 16 * MIB
    found = {finding["id"] for finding in document["preflight"]["vmferry"]}
    assert {"little-room", "no-ssh"} <= found
    assert not {"no-disk-driver", "no-kernel", "no-boot-loader"} & found
    text = call_vmferry("inspect", guest).stdout
    assert "system: vmferry tiny guest, x86_64, on disk 1, partition 1" in text
    assert "  hardware: legacy-bios, disks by virtio, network by e1000e: what it starts on as it is" in text
    assert "should mend: /: " in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"vhdxfile".ljust(MIB, b"\0"), "vhdx: both headers"),
        (b"conectix".ljust(MIB, b"\0"), "vhd: "),
        (b"\x1f\x8b\x08".ljust(MIB, b"\0"), "is damaged"),
        (b"KDMV".ljust(MIB, b"\0"), "vmdk"),
        (b"QFI\xfb\0\0\0\3".ljust(MIB, b"\0"), "qcow2"),
        (b"", "empty"),
    ],
)
def test_what_cannot_be_imported_is_said_with_the_reason(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "strange"
    path.write_bytes(content)
    done = call_vmferry("inspect", path, "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert document["importable"] is False
    assert said in document["problem"]
    (line,) = done.stderr.splitlines()
    assert line == f"vmferry: {document['problem']}"
    assert call_vmferry("inspect", path).stdout.splitlines()[-1] == "can be imported: no"


def test_a_file_that_is_not_there_is_no_document(tmp_path: Path) -> None:
    done = call_vmferry("inspect", tmp_path / "nothing", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("does not exist. Check the path.\n")


def test_a_folder_without_a_machine_is_no_document(tmp_path: Path) -> None:
    done = call_vmferry("inspect", tmp_path, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "holds no description of a machine" in done.stderr


def test_a_path_that_cannot_be_looked_at_is_told_in_one_line(tmp_path: Path) -> None:
    done = call_vmferry("inspect", tmp_path / ("x" * 256))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("File name too long.")


def test_an_s3_where_nobody_listens_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    done = call_vmferry("inspect", "s3://bucket/disk.vmdk")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "vmferry: http://127.0.0.1:1 does not serve s3://bucket/disk.vmdk: Connection refused."
    )


def test_names_inside_cannot_give_the_terminal_orders(tmp_path: Path) -> None:
    path = tmp_path / "\x1b]0;title\x07.raw"
    path.write_bytes(bytes(MIB))
    assert "\x1b" not in call_vmferry("inspect", path).stdout


def test_kind_place_and_partitions_are_told(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "disk.raw", 8 * MIB, bootable=True)
    out = tmp_path / "machine.ova"
    tool: list[str | Path] = [sys.executable, ROOT / "tools" / "wrap_ova.py", out, raw]
    subprocess.run(tool, check=True, capture_output=True, timeout=60)
    (disk,) = inspect(out)["disks"]
    assert (disk["subformat"], disk["device"]) == ("streamOptimized", "scsi0:0")
    text = call_vmferry("inspect", out).stdout
    assert "disk 1: vmferry-guest-disk1.vmdk: VMDK (streamOptimized), 8 MiB virtual" in text
    assert "  boot: MBR, boots by legacy-bios: boot code and an active partition\n" in text
    assert "  partition: 1: Linux, 2 MiB at 1 MiB, active\n" in text
    assert "network card: VM Network" in text


def test_the_two_kinds_of_vmdk_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    qemu_img("create", "-f", "vmdk", "-o", "subformat=monolithicSparse", path, "8M")
    assert inspect(path)["disks"][0]["kind"] == "VMDK (monolithicSparse)"
