"""What the commands are tried with: disks with known content, and the command as a user runs it."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from vmferry.cli import run
from vmferry.units import MIB

ROOT = Path(__file__).resolve().parents[2]
VMFERRY = Path(sys.executable).with_name("vmferry")


def run_vmferry(*words: str | Path, cwd: Path | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """The installed command, with no credentials or endpoint of whoever runs the tests."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [VMFERRY, *map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout
    )


def call_vmferry(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The same within this process, which saves a third of a second."""
    handler = signal.getsignal(signal.SIGTERM)
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = run([str(word) for word in words])
    finally:
        signal.signal(signal.SIGTERM, handler)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def qemu_img(*words: str | Path) -> str:
    done = subprocess.run(["qemu-img", *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make_raw(path: Path, size: int = 96 * MIB + 1536, seed: int = 1, *, bootable: bool = False) -> Path:
    """A sparse raw disk: runs of compressible and of random data, at odd places, up to its last sector."""
    rng = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(size)
        for _ in range(20):
            file.seek(rng.randrange(2048, size // 512 - 2048) * 512)
            file.write(rng.randbytes(70_000) if rng.random() < 0.5 else b"some text, and more of it. " * 30_000)
        file.seek(size - 512)
        file.write(b"the end".ljust(512, b"."))
        if bootable:
            file.seek(0)
            file.write(b"\xeb\x63\x90".ljust(446, b"\x90") + b"\x80\0\0\0\x83\0\0\0\0\x08\0\0\0\x10\0\0")
            file.seek(510)
            file.write(b"\x55\xaa")
    return path


def make_stream(raw: Path, path: Path) -> Path:
    """``raw`` as qemu-img's streamOptimized VMDK."""
    qemu_img("convert", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, path)
    return path


def left_over(directory: Path) -> set[str]:
    """The names in a directory, hidden ones too."""
    return {entry.name for entry in directory.iterdir()}
