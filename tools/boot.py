#!/usr/bin/env python3
"""Boot a disk image under QEMU and wait until a text stands on its serial port.

boot.py IMAGE [MORE_DISKS…] --expect TEXT [--format raw|qcow2|vmdk] [--firmware bios|uefi]
        [--bus virtio|scsi|sata|ide|nvme] [--accel auto|kvm|tcg] [--seconds 120] [--log FILE]

Exit status 0: the text was seen; 1: it was not, with the reason and the serial port's last lines on stderr.
The image is never written to: guests run on an overlay in a temporary folder.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvm import kvm_usable
from programs import environment, run
from vmferry.errors import ComputeError, ConfigError, VmferryError, quote

LOGIN_PROMPT = "vmferry-guest login:"
"""What the demo guest shows when it is up."""
READY = "VMFERRY-GUEST-READY"
"""What the tiny guest prints when it has mounted its root."""

_FIRMWARE = (("OVMF_CODE.fd", "OVMF_VARS.fd"), ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"))
_BUSES = ("virtio", "scsi", "sata", "ide", "nvme")
_TAIL = 12


@dataclass(frozen=True, slots=True)
class Hardware:
    """The machine that the guest finds itself in."""

    firmware: str = "bios"
    bus: str = "virtio"
    memory_mib: int = 1024
    accel: str = "auto"
    """"auto": KVM where a probe machine ran under it, else TCG."""


@dataclass(frozen=True, slots=True)
class Booted:
    """A guest that said what was expected of it."""

    seconds: float
    accel: str


def boot_until(
    disks: Sequence[Path],
    expect: str,
    *,
    disk_format: str = "raw",
    hardware: Hardware | None = None,
    seconds: float = 120,
    log: Path | None = None,
) -> Booted:
    """Boot from ``disks[0]`` and return as soon as ``expect`` is on the serial port; the machine is gone then.

    ``log`` keeps what the serial port said. Raises ``ConfigError`` when QEMU or the firmware is missing, and
    ``ComputeError`` when the text did not come within ``seconds``, or QEMU ended before: its message has the last
    lines of the serial port.
    """
    hardware = hardware or Hardware()
    accel = hardware.accel if hardware.accel != "auto" else ("kvm" if kvm_usable() else "tcg")
    with tempfile.TemporaryDirectory(prefix="vmferry-boot-") as name:
        work = Path(name)
        serial = log or work / "serial.log"
        serial.write_bytes(b"")
        command = [*_machine(hardware, accel, serial), *_drives(disks, disk_format, hardware.bus, work)]
        if hardware.firmware == "uefi":
            command += _uefi(work)
        start = time.monotonic()
        with Path(work, "stderr").open("wb") as errors:
            machine = _start(command, errors.fileno())
        try:
            while expect.encode() not in serial.read_bytes():
                _check(machine, time.monotonic() - start, seconds, expect, serial, work / "stderr")
                time.sleep(0.2)
            return Booted(time.monotonic() - start, accel)
        finally:
            machine.kill()
            machine.wait()


def _machine(hardware: Hardware, accel: str, serial: Path) -> list[str]:
    # -nodefaults: an empty floppy drive, which machine "pc" adds by itself, stops GRUB's search for its file system.
    command = ["qemu-system-x86_64", "-nodefaults", "-vga", "std", "-display", "none", "-no-reboot", "-monitor", "none"]
    command += ["-machine", "pc" if hardware.bus == "ide" else "q35", "-m", str(hardware.memory_mib)]
    command += ["-serial", f"file:{_comma(serial)}"]
    # "max": TCG's default CPU lacks x86-64-v2, which newer systems ask for.
    command += ["-accel", "kvm", "-cpu", "host"] if accel == "kvm" else ["-accel", "tcg,tb-size=256", "-cpu", "max"]
    return [*command, "-device", "virtio-scsi-pci"] if hardware.bus == "scsi" else command


def _drives(disks: Sequence[Path], disk_format: str, bus: str, work: Path) -> list[str]:
    command: list[str] = []
    for i, disk in enumerate(disks):
        overlay = work / f"overlay{i}.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", disk_format, "-b", disk.absolute(), overlay)
        device = {
            "virtio": f"virtio-blk-pci,drive=d{i}",
            "scsi": f"scsi-hd,drive=d{i}",
            "sata": f"ide-hd,drive=d{i},bus=ide.{i}",
            "ide": f"ide-hd,drive=d{i},bus=ide.{i // 2},unit={i % 2}",
            "nvme": f"nvme,drive=d{i},serial=disk{i}",
        }[bus]
        command += ["-drive", f"file={_comma(overlay)},format=qcow2,if=none,id=d{i},cache=unsafe"]
        command += ["-device", f"{device},bootindex={i}"]
    return command


def _uefi(work: Path) -> list[str]:
    folder = Path("/usr/share/OVMF")
    for code, variables in _FIRMWARE:
        if (folder / code).exists() and (folder / variables).exists():
            shutil.copy(folder / variables, work / "variables.fd")
            flash = ["-drive", f"if=pflash,format=raw,readonly=on,file={folder / code}"]
            return [*flash, "-drive", f"if=pflash,format=raw,file={_comma(work / 'variables.fd')}"]
    raise ConfigError(f"No UEFI firmware in {folder}: install the package ovmf (`make setup`).")


def _comma(path: Path) -> str:
    return str(path).replace(",", ",,")


def _start(command: list[str], stderr: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command, env=environment(), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ConfigError(f"{command[0]} is not installed: run `make setup`.") from error


def _check(
    machine: subprocess.Popen[bytes], took: float, seconds: float, expect: str, serial: Path, errors: Path
) -> None:
    """Raise ``ComputeError`` when there is nothing left to wait for."""
    status = machine.poll()
    if status is None and took < seconds:
        return
    ended = f"QEMU ended with status {status}" if status is not None else "the time was up"
    said = serial.read_bytes().decode(errors="replace").split("\n")
    lines = [quote(line.strip()) for line in said if line.strip()][-_TAIL:]
    lines += [quote(line) for line in errors.read_text(errors="replace").splitlines()[-3:]]
    raise ComputeError(
        f"{quote(expect)!r} did not appear on the serial port within {took:.0f} s: {ended}. "
        + ("It said last:\n  " + "\n  ".join(lines) if lines else "It said nothing: is there a bootable system on it?")
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("disks", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--expect", default=READY)
    parser.add_argument("--format", default="raw", choices=["raw", "qcow2", "vmdk"])
    parser.add_argument("--firmware", default="bios", choices=["bios", "uefi"])
    parser.add_argument("--bus", default="virtio", choices=_BUSES)
    parser.add_argument("--accel", default="auto", choices=["auto", "kvm", "tcg"])
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    hardware = Hardware(args.firmware, args.bus, args.memory, args.accel)
    try:
        booted = boot_until(
            args.disks, args.expect, disk_format=args.format, hardware=hardware, seconds=args.seconds, log=args.log
        )
    except VmferryError as error:
        print(f"boot: {error}", file=sys.stderr)
        return 1
    print(f"seen after {booted.seconds:.1f} s ({booted.accel}, {args.firmware}, {args.bus})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
