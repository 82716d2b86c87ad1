"""Does KVM run a machine here? Found out by running one, since ``/dev/kvm`` alone proves nothing.

There are hosts (nested or software virtualisation) with a writable ``/dev/kvm`` under which firmware hangs without a
word, or a boot sector runs and the kernel behind it hangs. So the processor must say that it virtualises, and then the
probe must run: a boot sector that writes one word to the first serial port.
"""

from __future__ import annotations

import functools
import os
import subprocess
import time
from pathlib import Path

from vmferry.guest.scratch import scratch_folder

QEMU = "qemu-system-x86_64"
ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
"""Put before a command, which the kernel then ends with the thread that started it: even one that SIGKILL ends."""
WORD = b"VMFERRY-PROBE"
_SECONDS = {"kvm": 4.0, "tcg": 60.0}
"""A machine under a KVM that works gets through its firmware in a second or two; TCG has no faults to find."""


@functools.cache
def kvm_usable() -> bool:
    """Whether guests can be run under KVM; probed once per process."""
    device = os.access("/dev/kvm", os.R_OK | os.W_OK)
    return device and virtualises(Path("/proc/cpuinfo").read_text()) and runs_machine("kvm")


def virtualises(cpuinfo: str) -> bool:
    """Whether a processor with this ``/proc/cpuinfo`` has virtualisation of its own (VMX, SVM)."""
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "").split()
    return "vmx" in flags or "svm" in flags


def runs_machine(accel: str) -> bool:
    """Whether the probe's word comes out of a machine under ``accel`` (``kvm`` or ``tcg``), which is gone then."""
    with scratch_folder() as work:
        sector, serial = work / "sector", work / "serial"
        sector.write_bytes(boot_sector())
        serial.touch()
        command = [*ENDS_WITH_US, QEMU, "-nodefaults", "-display", "none", "-m", "64", "-no-reboot", "-accel", accel]
        command += ["-cpu", "host" if accel == "kvm" else "max", "-serial", f"file:{serial}"]
        command += ["-drive", f"file={sector},format=raw,if=ide,snapshot=on"]
        try:
            machine = subprocess.Popen(
                command,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            return False
        try:
            end = time.monotonic() + _SECONDS[accel]
            while time.monotonic() < end and machine.poll() is None and WORD not in serial.read_bytes():
                time.sleep(0.05)
            return WORD in serial.read_bytes()
        finally:
            machine.kill()
            machine.wait()


def boot_sector() -> bytes:
    """512 bytes of 16-bit code that write ``WORD`` to the serial port at 0x3f8 and halt."""
    code = bytes.fromhex(
        "31c0 8ed8 fc"  # xor ax,ax; mov ds,ax; cld
        "be157c baf803"  # mov si,0x7c15 (the word below); mov dx,0x3f8
        "ac 84c0 7403 ee ebf8"  # next: lodsb; test al,al; jz end; out dx,al; jmp next
        "fa f4"  # end: cli; hlt
    )
    return (code + WORD + b"\0").ljust(510, b"\0") + b"\x55\xaa"


def environment() -> dict[str, str]:
    """What QEMU gets of our environment: where programs are, and nothing else."""
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": f"{path}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
