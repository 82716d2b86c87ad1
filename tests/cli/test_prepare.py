"""``vmferry prepare`` as a user types it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.material import call_vmferry, qemu_img
from tests.guest.ext_images import check, dump
from tests.guest.images import make_xfs
from tests.guest.linux_guests import ROOT_UUID, VERSION, debian, make_disk, make_ext
from vmferry.units import MIB


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepare")
    path = folder / "guest.raw"
    path.write_bytes(make_disk(make_ext(debian().write(folder / "tree"), folder / "root.img", 12, ROOT_UUID)))
    return path


def test_a_vmdk_becomes_a_prepared_qcow2(disk: Path, tmp_path: Path) -> None:
    source, target, raw = tmp_path / "guest.vmdk", tmp_path / "guest.qcow2", tmp_path / "out.raw"
    qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", disk, source)
    before = source.read_bytes()
    done = call_vmferry("prepare", source, target)
    assert (done.returncode, done.stderr.count("\n")) == (0, 0), done.stderr
    assert "Debian GNU/Linux 12 (bookworm): 2 files changed" in done.stdout
    assert f"the old one is initrd.img-{VERSION}.pre-vmferry" in done.stdout
    assert source.read_bytes() == before
    subprocess.run(["qemu-img", "check", "-q", target], check=True)
    qemu_img("convert", "-f", "qcow2", "-O", "raw", target, raw)
    root = tmp_path / "root.img"
    root.write_bytes(raw.read_bytes()[MIB : 13 * MIB])
    check(root)
    assert dump(root, "/etc/initramfs-tools/modules").endswith(b"virtio_net\nsd_mod\n")
    again = call_vmferry("prepare", target, tmp_path / "again.raw")
    assert again.returncode == 0
    assert "nothing to do, the drivers are there" in again.stdout
    assert (tmp_path / "again.raw").read_bytes() == raw.read_bytes()


def test_without_a_target_it_only_says_what_it_would_do(disk: Path) -> None:
    done = call_vmferry("prepare", disk, "--json", "--drivers", "virtio,nvme")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["preparation"]
    assert [change["what"] for change in told["changes"]] == ["replaced", "replaced"]
    assert 0 < told["bytes_changed"] < MIB
    assert 0 < told["bytes_read"] < 8 * MIB


def test_with_a_target_json_tells_both(disk: Path, tmp_path: Path) -> None:
    told = json.loads(call_vmferry("prepare", disk, tmp_path / "out.raw", "--json").stdout)
    assert told["format"] == "raw"
    assert len(told["preparation"]["changes"]) == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--drivers", "virtio,floppy"], 2, "--drivers takes virtio, nvme, ahci, with commas between"),
        (["--drivers", ""], 2, "--drivers takes"),
        (["--firstboot", "/none"], 2, "--firstboot: /none cannot be read: No such file or directory"),
        (["--network", "bootp"], 2, "--network takes keep or dhcp, not bootp"),
        (["out.odd"], 2, "names no format"),
        (["out.ova"], 2, "holds a whole machine"),
    ],
)
def test_wrong_words_are_wrong_usage(disk: Path, words: list[str], code: int, said: str) -> None:
    done = call_vmferry("prepare", disk, *words)
    assert done.returncode == code
    assert said in done.stderr


def test_what_cannot_be_prepared_leaves_no_target(tmp_path: Path) -> None:
    disk, target = tmp_path / "empty.raw", tmp_path / "out.qcow2"
    disk.write_bytes(make_disk(b"XFSB".ljust(MIB, b"\0")))
    done = call_vmferry("prepare", disk, target)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "partition 1 is xfs" in done.stderr
    assert not target.exists()


@pytest.mark.slow
def test_what_another_program_prepares_is_written_and_not_believed(tmp_path: Path) -> None:
    (tmp_path / "tree" / "etc").mkdir(parents=True)
    (tmp_path / "tree" / "etc" / "os-release").write_text('PRETTY_NAME="Rocky Linux 9.6"\nID=rocky\n')
    disk, target, program = make_xfs(tmp_path / "tree", tmp_path / "guest.raw"), tmp_path / "out.raw", tmp_path / "v2v"
    program.write_text('#!/bin/sh\nexec qemu-io -f qcow2 -c "write -P 9 200M 4k" "$5"\n')
    program.chmod(0o755)
    before = disk.read_bytes()
    done = call_vmferry("prepare", disk, target, "--guestfish", "none", "--virt-v2v", program)
    assert done.returncode == 0, done.stderr
    assert "Rocky Linux 9.6: prepared (" in done.stdout
    assert "/: changed, 64 KiB; virt-v2v has changed 64 KiB of the disk" in done.stdout
    assert f"Whether it starts is not known before it does: vmferry boot-check {target}" in done.stderr
    assert disk.read_bytes() == before
    assert target.read_bytes() == before[: 200 * MIB] + b"\x09" * 4096 + before[200 * MIB + 4096 :]
    for name, words in ((tmp_path / "nothing", "install the package virt-v2v."), ("none", "such as SATA.")):
        done = call_vmferry("prepare", disk, tmp_path / "other.raw", "--guestfish", "none", "--virt-v2v", name)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.rstrip().endswith(words)
    assert not (tmp_path / "other.raw").exists()
