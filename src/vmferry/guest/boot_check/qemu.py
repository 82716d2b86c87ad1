"""A guest that runs under QEMU: on overlays of its disks, without network, its serial port and screen in our hands."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vmferry.disk import Disk
from vmferry.errors import ComputeError, ConfigError, quote
from vmferry.guest.boot_check.accelerator import ENDS_WITH_US, QEMU, environment
from vmferry.guest.boot_check.nbd import NbdServer
from vmferry.guest.boot_check.qcow2_overlay import make_overlay
from vmferry.guest.boot_check.qmp import Monitor
from vmferry.guest.hardware import HardwareProfile
from vmferry.machine import Firmware
from vmferry.units import MIB

_FIRMWARE = (("OVMF_CODE.fd", "OVMF_VARS.fd"), ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"))
_KEPT = MIB
"""Bytes of the serial port that are kept, the last ones: a guest may write for ever."""
_STARTING = 30.0
_DEVICES = {
    "virtio": "virtio-blk-pci,drive=d{0}",
    "virtio-scsi": "scsi-hd,drive=d{0}",
    "nvme": "nvme,drive=d{0},serial=disk{0}",
    "sata": "ide-hd,drive=d{0},bus=ide.{0}",
    "ide": "ide-hd,drive=d{0},bus=ide.{1},unit={2}",
    "pvscsi": "scsi-hd,drive=d{0}",
    "mptsas": "scsi-hd,drive=d{0}",
    "megasas": "scsi-hd,drive=d{0}",
}
_CONTROLLERS = {"virtio-scsi": "virtio-scsi-pci", "pvscsi": "pvscsi", "mptsas": "mptsas1068", "megasas": "megasas"}
_MOST_DISKS = {"sata": 6, "ide": 4}


class RunningGuest:
    """A guest that runs: what it says on its serial port and its screen."""

    def __init__(self, process: subprocess.Popen[bytes], monitor: Monitor, errors: Path) -> None:
        self.monitor = monitor
        self._process = process
        self._errors = errors
        self._serial = bytearray()
        self._reader = threading.Thread(target=self._read_serial, daemon=True)
        self._reader.start()

    @property
    def ended(self) -> bool:
        """Whether QEMU has ended by itself: the guest was switched off, or QEMU gave up."""
        return self._process.poll() is not None

    def serial(self) -> bytes:
        """What the serial port has said, the last MiB of it."""
        return bytes(self._serial)

    def last_words(self) -> str:
        """What QEMU itself said last: nothing, if all is well."""
        return quote(" ".join(self._errors.read_text(errors="replace").splitlines()[-3:]))

    def join(self) -> None:
        """Wait until the serial port is read to its end; the process has ended."""
        self._reader.join()

    def _read_serial(self) -> None:
        pipe = self._process.stdout
        while pipe is not None and (piece := os.read(pipe.fileno(), 64 * 1024)):
            self._serial += piece
            if len(self._serial) > 2 * _KEPT:
                del self._serial[:-_KEPT]


@contextmanager
def run_guest(disks: Sequence[Disk], hardware: HardwareProfile, accel: str, work: Path) -> Iterator[RunningGuest]:
    """A guest that starts from ``disks[0]``; at the end of the context it is gone, whatever it was doing.

    ``work`` is a folder with a short path, for overlays and sockets alone. ``accel`` is ``kvm`` or ``tcg``. Raises
    ``ConfigError`` when QEMU or its firmware is missing, ``ComputeError`` when QEMU does not start, and afterwards what
    reading a disk raised.
    """
    with NbdServer(disks, work / "nbd") as nbd:
        command = [*_machine(hardware, accel, work), *_drives(nbd, len(disks), hardware.bus, work)]
        with _started(command, work / "errors") as process:
            monitor = _connect(process, work)
            guest = RunningGuest(process, monitor, work / "errors")
            try:
                yield guest
            finally:
                monitor.close()
                process.kill()
                guest.join()
    if nbd.problem is not None:
        raise nbd.problem


def _machine(hardware: HardwareProfile, accel: str, work: Path) -> list[str]:
    # -nodefaults: an empty floppy drive, which machine "pc" adds by itself, stops GRUB's search for its file system.
    command = [QEMU, "-nodefaults", "-vga", "std", "-display", "none", "-nic", "none", "-rtc", "base=utc"]
    command += ["-machine", "pc" if hardware.bus == "ide" else "q35", "-m", str(hardware.memory // MIB)]
    command += ["-smp", str(hardware.cpus), "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"]
    command += ["-serial", "stdio", "-monitor", "none", "-qmp", f"unix:{work / 'qmp'},server=on,wait=off"]
    # "max": TCG's default CPU lacks x86-64-v2, which newer systems ask for.
    command += ["-accel", "kvm", "-cpu", "host"] if accel == "kvm" else ["-accel", "tcg,tb-size=256", "-cpu", "max"]
    if hardware.bus in _CONTROLLERS:
        command += ["-device", _CONTROLLERS[hardware.bus]]
    return command + (_uefi(work) if hardware.firmware is Firmware.UEFI else [])


def _drives(nbd: NbdServer, count: int, bus: str, work: Path) -> Iterator[str]:
    most = _MOST_DISKS.get(bus, count)
    if count > most:
        raise ConfigError(f"A machine with a {bus} controller takes {most} disks, this one has {count}.")
    for number in range(count):
        overlay = work / f"overlay{number}.qcow2"
        make_overlay(nbd.address(number), overlay)
        device = _DEVICES[bus].format(number, number // 2, number % 2)
        yield from ("-drive", f"file={overlay},format=qcow2,if=none,id=d{number},cache=unsafe")
        yield from ("-device", f"{device},bootindex={number}")


def _uefi(work: Path) -> list[str]:
    folder = Path("/usr/share/OVMF")
    for code, variables in _FIRMWARE:
        if (folder / code).exists() and (folder / variables).exists():
            shutil.copy(folder / variables, work / "variables.fd")
            flash = ["-drive", f"if=pflash,format=raw,readonly=on,file={folder / code}"]
            return [*flash, "-drive", f"if=pflash,format=raw,file={work / 'variables.fd'}"]
    raise ConfigError(f"No UEFI firmware in {folder}: install the package ovmf.")


@contextmanager
def _started(command: Sequence[str], errors: Path) -> Iterator[subprocess.Popen[bytes]]:
    if shutil.which(command[0], path=environment()["PATH"]) is None:
        raise ConfigError(f"{command[0]} is not installed: install the package qemu-system-x86.")
    with errors.open("wb") as stderr:
        try:
            process = subprocess.Popen(
                [*ENDS_WITH_US, *command],
                env=environment(),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        except FileNotFoundError as error:
            raise ConfigError(f"{ENDS_WITH_US[0]} is not installed: install the package util-linux.") from error
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _connect(process: subprocess.Popen[bytes], work: Path) -> Monitor:
    end = time.monotonic() + _STARTING
    while time.monotonic() < end and process.poll() is None:
        if (work / "qmp").exists():
            with suppress(ComputeError):
                return Monitor(work / "qmp")
        time.sleep(0.05)
    said = quote((work / "errors").read_text(errors="replace").strip())
    raise ComputeError(f"QEMU did not start{': ' + said if said else ''}.")
