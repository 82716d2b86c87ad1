"""Overlays for QEMU, made and taken over by qemu-img: what a program writes there, the disk below does not hold yet."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from vmferry.errors import ComputeError, ConfigError, quote
from vmferry.guest.boot_check.accelerator import environment

_MAKING, _COMMITTING = 60.0, 600.0


def make_overlay(backing: str, overlay: Path) -> None:
    """A new qcow2 file ``overlay`` over the raw disk at the address ``backing``.

    Raises ``ConfigError`` where qemu-img is not installed, ``ComputeError`` where it fails.
    """
    _run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", backing, str(overlay)], _MAKING)


def commit_overlay(overlay: Path) -> None:
    """Write what the qcow2 file ``overlay`` holds to the disk that it was made over. Raises as ``make_overlay``."""
    _run(["qemu-img", "commit", "-q", "-d", "-f", "qcow2", str(overlay)], _COMMITTING)


def _run(command: Sequence[str], seconds: float) -> None:
    what = " ".join(command[:2])
    try:
        done = subprocess.run(
            command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds
        )
    except FileNotFoundError as error:
        raise ConfigError("qemu-img is not installed: install the package qemu-utils.") from error
    except subprocess.TimeoutExpired as error:
        raise ComputeError(f"{what} did not end within {seconds:.0f} s.") from error
    if done.returncode:
        raise ComputeError(f"{what} failed: {quote(done.stderr.decode(errors='replace').strip())}.")
