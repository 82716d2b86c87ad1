"""The boot check tells a machine that starts from one that does not, and why; and the probe of KVM."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests.cli.material import run_vmferry
from tests.guest import evidences as made
from vmferry.guest.boot_check import HardwareProfile, check, choose_hardware
from vmferry.guest.boot_check.accelerator import kvm_usable, runs_machine, virtualises
from vmferry.guest.boot_check.screen import Screen
from vmferry.machine import Firmware

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from build_guest import cached_guest

pytestmark = pytest.mark.slow


def test_the_probe_sees_a_machine_that_runs() -> None:
    assert runs_machine("tcg")


def test_the_probe_of_kvm_answers_in_bounded_time() -> None:
    start = time.monotonic()
    kvm_usable()
    assert time.monotonic() - start < 20


def test_kvm_asks_for_a_processor_that_virtualises() -> None:
    flags = ("fpu vmx sse", "svm", "fpu hypervisor")
    assert [virtualises(f"model: x\nflags\t: {one}") for one in flags] == [True, True, False]


def test_a_guest_that_starts_is_seen_to(tmp_path: Path) -> None:
    guest = cached_guest("tiny")
    before = guest.stat().st_mtime_ns
    done = run_vmferry("boot-check", guest, "--seconds", "240", "--evidence", tmp_path / "seen", "--json", timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["boots"], found["reached"], found["firmware"]) == (True, "login", "legacy-bios")
    assert b"VMFERRY-GUEST-READY" in (tmp_path / "seen" / "serial.log").read_bytes()
    assert (tmp_path / "seen" / "screen.png").read_bytes().startswith(b"\x89PNG")
    assert "EXT4-fs" in (tmp_path / "seen" / "screen.txt").read_text()
    assert guest.stat().st_mtime_ns == before


def test_a_disk_with_nothing_to_start_is_told_in_one_line(tmp_path: Path) -> None:
    disk = tmp_path / "blank.raw"
    disk.write_bytes(bytes(1 << 20))
    done = run_vmferry("boot-check", disk, "--seconds", "120", timeout=180)
    assert done.returncode == 1
    assert "boots: no" in done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "It does not start: The firmware found nothing to start. It said last: " in done.stderr
    assert disk.read_bytes() == bytes(1 << 20)


def test_a_text_that_does_not_come_is_waited_for_until_the_time_is_up(tmp_path: Path) -> None:
    disk = tmp_path / "blank.raw"
    disk.write_bytes(bytes(1 << 20))
    start = time.monotonic()
    done = run_vmferry("boot-check", disk, "--seconds", "2", "--expect", "ready!", timeout=120)
    assert time.monotonic() - start < 60
    assert done.returncode == 1


def test_a_machine_that_cannot_be_made_is_not_waited_for(tmp_path: Path) -> None:
    disk = tmp_path / "blank.raw"
    disk.write_bytes(bytes(1 << 20))
    done = run_vmferry("boot-check", disk, "--memory", str(1 << 20), "--cpus", "64", timeout=120)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent.raw"], "absent.raw"),
        (["--bus", "floppy", "x"], "There is no bus floppy"),
        (["--firmware", "coreboot", "x"], "bios or uefi"),
    ],
)
def test_wrong_words_are_told_in_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    done = run_vmferry("boot-check", *words, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_fastest_hardware_is_chosen_that_the_guest_knows() -> None:
    def chosen(profile: HardwareProfile) -> tuple[str, str]:
        return profile.bus, profile.network_card

    assert chosen(choose_hardware(made.linux())) == ("virtio", "virtio")
    assert chosen(choose_hardware(made.kernel(in_initramfs=("ahci",)))) == ("sata", "virtio")
    assert chosen(choose_hardware(made.kernel(in_initramfs=("vmw_pvscsi",), as_module=("vmxnet3",)))) == (
        "pvscsi",
        "vmxnet3",
    )
    assert chosen(choose_hardware(made.kernel(in_initramfs=("virtio_blk", "ahci")))) == ("sata", "virtio")
    assert chosen(choose_hardware(made.windows())) == ("virtio-scsi", "e1000e")
    assert chosen(choose_hardware(made.windows(boot_drivers=("msahci",)))) == ("sata", "e1000e")
    assert chosen(choose_hardware(made.without_system())) == ("sata", "e1000e")


def test_the_firmware_is_the_disks() -> None:
    assert choose_hardware(made.disk(firmwares=(Firmware.UEFI,))).firmware is Firmware.UEFI
    assert choose_hardware(made.linux()).firmware is Firmware.BIOS


class Shown:
    """A guest that shows one picture, and says something again and again."""

    ended = False
    restarts = 0

    def __init__(self, screen: Screen, says: bytes) -> None:
        self.monitor = self
        self._screen = screen
        self._says = says
        self._said = b""

    def screen(self, scratch: Path) -> Screen:
        return self._screen

    def serial(self) -> bytes:
        self._said += self._says
        return self._said


@pytest.mark.parametrize(("says", "booted"), [(b"", True), (b"[  OK  ] Started something.\r\n", False)])
def test_a_picture_that_stands_still_is_a_start_only_of_one_who_says_nothing(
    says: bytes, booted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "_STILL", {"tcg": 0.5})
    monkeypatch.setattr(check, "_LOOK_EVERY", 0.01)
    picture = Screen(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3))
    guest = cast("Any", Shown(picture, says))
    outcome = check._Watch(guest, HardwareProfile(), "tcg", None, tmp_path / "screen").run(2.0, lambda: None)
    assert outcome.booted == booted
