"""What preparing a guest takes: ours against virt-v2v-in-place where that is installed, on the same Debian."""

from __future__ import annotations

import shlex
from pathlib import Path

from bench_runs import Comparison, Figure, installed, median, say, timed
from build_guest import cached_guest
from vmferry.guest.boot_check.accelerator import kvm_usable
from vmferry.guest.confinement import find_program
from vmferry.guest.virt_v2v import PROGRAM

_MAX_SECONDS = 60.0
_AT_LEAST = 20.0
"""How many times as long the guest's own tools take."""
_WHAT = "preparing a Debian of 2 GiB without virtio in its initramfs"


def measure_preparing(folder: Path, vmferry: Path, rounds: int) -> tuple[list[Comparison], list[Figure]]:
    """``vmferry prepare`` without a target, by the median of ``rounds``; virt-v2v-in-place on an overlay, once.

    Raises ``VmferryError`` where the guest cannot be built, or one of them fails.
    """
    guest = cached_guest("complete")
    say(f"{_WHAT}: {rounds} rounds of ours")
    none = folder / "no-output"
    ours = median([timed([str(vmferry), "prepare", str(guest)], none) for _ in range(rounds + 1)][1:])
    figures = [Figure(f"`vmferry prepare`: {_WHAT}", ours.seconds, "s", _MAX_SECONDS)]
    program = find_program(PROGRAM)
    if program is None:
        say(f"{PROGRAM} is not installed: ours alone")
        return [], figures
    say(f"{_WHAT}: {PROGRAM}, once; that takes minutes")
    overlay = folder / "prepared.qcow2"
    create = f"qemu-img create -q -f qcow2 -F raw -b {shlex.quote(str(guest))} {shlex.quote(str(overlay))}"
    command = f"{create} && exec {shlex.quote(str(program))} -i disk -if qcow2 {shlex.quote(str(overlay))}"
    variables = {**installed(folder), "LIBGUESTFS_BACKEND": "direct"}
    if not kvm_usable():
        variables["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"
    theirs = median([timed(["sh", "-c", command], overlay, variables)])
    overlay.unlink()
    accelerator = "KVM" if kvm_usable() else "TCG"
    what = f"{_WHAT}, {accelerator}"
    return [Comparison(what, "vmferry", ours, PROGRAM, theirs, _AT_LEAST)], figures
