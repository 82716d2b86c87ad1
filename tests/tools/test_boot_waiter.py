"""The boot waiter and the KVM probe: they tell a machine that runs from one that does not, in bounded time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def boot(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOLS / "boot.py", *words], capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_a_blank_disk_is_reported_when_the_time_is_up(tmp_path: Path) -> None:
    disk, log = tmp_path / "blank.raw", tmp_path / "serial.log"
    disk.write_bytes(b"\0" * (1 << 20))
    start = time.monotonic()
    done = boot(disk, "--expect", "login:", "--seconds", "4", "--accel", "tcg", "--log", log)
    assert time.monotonic() - start < 30
    assert done.returncode == 1
    assert "'login:' did not appear on the serial port within 4 s: the time was up." in done.stderr
    assert log.exists()
    assert disk.read_bytes() == b"\0" * (1 << 20)


def test_a_machine_that_ends_at_once_is_not_waited_for(tmp_path: Path) -> None:
    disk = tmp_path / "blank.raw"
    disk.write_bytes(b"\0" * (1 << 20))
    start = time.monotonic()
    # QEMU refuses more memory than the host can address.
    done = boot(disk, "--seconds", "60", "--accel", "tcg", "--memory", str(1 << 40))
    assert time.monotonic() - start < 30
    assert done.returncode == 1
    assert "QEMU ended with status 1" in done.stderr


def test_a_disk_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = boot(tmp_path / "absent.raw", "--accel", "tcg")
    assert done.returncode == 1
    assert "absent.raw" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_probe_sees_a_machine_that_runs() -> None:
    done = subprocess.run([sys.executable, TOOLS / "kvm.py", "--accel", "tcg"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "tcg: runs a machine\n")


def test_the_probe_of_kvm_says_yes_or_no_in_bounded_time() -> None:
    start = time.monotonic()
    done = subprocess.run([sys.executable, TOOLS / "kvm.py"], capture_output=True, text=True)
    assert time.monotonic() - start < 20
    assert done.stdout == ("kvm: runs a machine\n" if done.returncode == 0 else "kvm: runs no machine here\n")


def test_kvm_asks_for_a_processor_that_virtualises() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(TOOLS)!r}); from kvm import virtualises; "
        "print([virtualises('model: x\\nflags\\t: ' + flags) for flags in ('fpu vmx sse', 'svm', 'fpu hypervisor')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[True, True, False]\n"
