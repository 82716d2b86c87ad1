"""Overlays for QEMU, made and taken over by qemu-img: what a program writes there, the disk below does not hold yet."""

from __future__ import annotations

import subprocess
from pathlib import Path

from vmferry.errors import ComputeError, ConfigError, quote
from vmferry.guest.boot_check.accelerator import environment

_MAKING, _COMMITTING = 60.0, 600.0


def make_overlay(backing: str, overlay: Path) -> None:
    """A new qcow2 file ``overlay`` over the raw disk at the address ``backing``.

    Raises ``ConfigError`` where qemu-img is not installed, ``ComputeError`` where it fails.
    """
    _run(_MAKING, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", backing, str(overlay))


def commit_overlay(overlay: Path) -> None:
    """Write what the qcow2 file ``overlay`` holds to the disk that it was made over. Raises as ``make_overlay``."""
    _run(_COMMITTING, "commit", "-q", "-d", "-f", "qcow2", str(overlay))


def _run(seconds: float, command: str, *words: str) -> None:
    try:
        done = subprocess.run(
            ["qemu-img", command, *words],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
        )
    except FileNotFoundError as error:
        raise ConfigError("qemu-img is not installed: install the package qemu-utils.") from error
    except subprocess.TimeoutExpired as error:
        raise ComputeError(f"qemu-img {command} did not end within {seconds:.0f} s.") from error
    if done.returncode:
        raise ComputeError(f"qemu-img {command} failed: {quote(done.stderr.decode(errors='replace').strip())}.")
