"""A guest without virtio drivers in its initramfs boots on virtio only once it is prepared."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.cli.material import call_vmferry
from tests.tools.test_guest_to_ova import run_tool


@pytest.fixture(scope="module")
def guest() -> Path:
    done = run_tool("build_guest", "hostonly")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def boot(disk: Path, bus: str, expect: str = "VMFERRY-GUEST-READY", *words: str) -> None:
    done = call_vmferry("boot-check", disk, "--bus", bus, "--seconds", "240", "--expect", expect, *words)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_unprepared_it_starts_on_sata_and_finds_no_root_on_virtio(guest: Path) -> None:
    boot(guest, "sata")
    boot(guest, "virtio", "VMFERRY-GUEST-NO-ROOT")


@pytest.mark.slow
def test_prepared_it_starts_on_virtio(guest: Path, tmp_path: Path) -> None:
    target = tmp_path / "prepared.qcow2"
    begun = time.monotonic()
    done = call_vmferry("prepare", guest, target)
    took = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    assert "starts without virtio_pci, virtio_blk, virtio_scsi" in done.stdout
    assert took < 30, "it takes well under a second; a machine under load is given more"
    boot(target, "virtio")
