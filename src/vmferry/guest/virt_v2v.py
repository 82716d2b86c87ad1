"""virt-v2v prepares what is not prepared here: a Linux on XFS or Btrfs, a Windows.

It is another project's program, which starts the guest's own programs in a small virtual machine (libguestfs): it runs
as a process of its own, without a network, within limits of time and memory, and on an overlay. That is written to
the disk when the program has ended well, and thrown away otherwise. That it ended well proves nothing: whether the
guest starts is for the boot check to say.

Source: virt-v2v-in-place(1), guestfs(3) "ENVIRONMENT VARIABLES".
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vmferry.errors import GuestError, quote
from vmferry.guest.confinement import LOOK_EVERY, end_confined, find_program, has_machine, remedy_for, start_confined
from vmferry.guest.guestfish import PROGRAM as GUESTFISH
from vmferry.guest.guestfish import Guestfish, Session
from vmferry.guest.layer import layer_over, take_over
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.preparation import CHANGED, Change, Preparation
from vmferry.guest.scratch import scratch_folder
from vmferry.units import format_size

PROGRAM = "virt-v2v-in-place"
_SAID = 256 * 1024
_MOST_LINES = 100
_ERROR = re.compile(r"(?:virt-v2v(?:-in-place)?|unshare|prlimit): (?:error: )?(.*)")
_REMEDIES = (
    ("nbdkit", "Install the package nbdkit beside it."),
    ("grub2-mkconfig", "Install grub2-common (grub2-tools) on the guest."),
    ("bootloader mount point", "Mount the EFI system partition at /boot/efi in the guest's /etc/fstab."),
)
"""What it says where it fails, and what to do."""


@dataclass(frozen=True, slots=True)
class VirtV2v:
    """How virt-v2v is run."""

    program: str = PROGRAM
    """Its name or its path; ``none``: it is not run."""
    seconds: float = 3600.0
    """How long it may take; the guest's own tools under TCG take most of it."""
    watching: Callable[[], None] = lambda: None
    """Called about three times a second meanwhile; what it raises ends the program."""


def prepare_by_virt_v2v(overlay: OverlayDisk, way: VirtV2v) -> Preparation:
    """Let virt-v2v prepare the guest on ``overlay`` for virtio.

    Raises ``GuestError`` where it is not installed, and with what it said where it fails; ``ConfigError`` where
    qemu-img or prlimit is missing, ``ComputeError`` where that fails, what ``way.watching`` raises, and as
    ``Disk.read_at``: ``overlay`` is then to be thrown away.
    """
    program = find_program(way.program)
    if program is None:
        raise GuestError("virt-v2v, which prepares others, is not installed here: install the package virt-v2v.")
    with scratch_folder() as work:
        _make_machine(work, way)
        with layer_over(overlay, work) as layer:
            code = _run([str(program), "-i", "disk", "-if", "qcow2", str(layer)], work, way)
        said = _read_said(work / "said")
        if code:
            raise GuestError(_failure(code, said))
        take_over(overlay, work, layer)
    return _record(overlay, said)


def _make_machine(work: Path, way: VirtV2v) -> None:
    """Let guestfish make the system of libguestfs' machine: what virt-v2v makes without root does not start.

    Where guestfish cannot, virt-v2v has its try.
    """
    guestfish = find_program(GUESTFISH)
    if os.geteuid() == 0 or has_machine() or guestfish is None:
        return
    folder = work / "machine"
    folder.mkdir()
    with suppress(GuestError), Session(guestfish, Guestfish(GUESTFISH, way.seconds, way.watching), folder) as session:
        session.call("add-drive", "/dev/null", "format:raw")
        session.call("launch")


def _run(command: Sequence[str], work: Path, way: VirtV2v) -> int:
    """Run ``command`` to its end; its exit code, or minus the signal that ended it."""
    end = time.monotonic() + way.seconds
    with (work / "said").open("wb") as said:
        process = start_confined(command, work, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                way.watching()
                if time.monotonic() > end:
                    raise GuestError(f"virt-v2v took more than {way.seconds:.0f} seconds, and was ended.")
                time.sleep(LOOK_EVERY)
        finally:
            end_confined(process)
    return process.returncode


def _read_said(path: Path) -> list[str]:
    """The last lines that it has said, as they may be shown."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _SAID, 0))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return [quote(line.rstrip()) for line in lines if line.strip()][-_MOST_LINES:]


def _failure(code: int, said: Sequence[str]) -> str:
    """Why it failed, in a sentence or two."""
    found = [match[1] for line in said if (match := _ERROR.match(line)) and "warning: " not in line]
    why = found[0] if found else (said[-1] if said else "it said nothing")
    ended = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
    return f"virt-v2v {ended}: {why.removesuffix('.')}.{remedy_for(said, _REMEDIES)}"


def _record(overlay: OverlayDisk, said: Sequence[str]) -> Preparation:
    size = sum(end - start for start, end, is_zero in overlay.changed() if not is_zero)
    done = Preparation()
    why = f"virt-v2v has changed {format_size(size)} of the disk, in files that it does not list; its words are noted"
    done.changes.append(Change("/", CHANGED, None, size, why))
    done.notes += [f"virt-v2v: {line}" for line in said]
    return done
