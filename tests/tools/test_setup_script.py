"""`make setup`: quick when there is nothing to do; says by name what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETUP = ROOT / "tools" / "setup"
_NEEDED_BY_THE_SCRIPT = ("bash", "dirname", "cat", "cut", "sha256sum", "id", "env", "python3", "apt-get")


@pytest.fixture
def bare_path() -> Iterator[Path]:
    """A folder of commands in which all that guests and disks need is missing; readable by every user."""
    folder = Path(tempfile.mkdtemp(prefix="vmferry-setup-"))
    folder.chmod(0o755)
    for name in _NEEDED_BY_THE_SCRIPT:
        found = shutil.which(name, path="/usr/bin:/bin")
        assert found is not None, name
        (folder / name).symlink_to(found)
    yield folder
    shutil.rmtree(folder)


def test_a_second_setup_does_nothing_and_is_quick() -> None:
    if "would" in subprocess.run([SETUP, "--dry-run"], capture_output=True, text=True).stdout:
        pytest.skip("`make setup` has not been run since its inputs changed")
    start = time.monotonic()
    done = subprocess.run([SETUP], capture_output=True, text=True)
    assert time.monotonic() - start < 2
    assert (done.returncode, done.stdout) == (0, "setup: .venv is up to date\n")


def test_missing_packages_are_named(bare_path: Path) -> None:
    env = {"PATH": str(bare_path), "VMFERRY_ROOT": str(bare_path)}
    done = subprocess.run([SETUP, "--dry-run"], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    command = done.stdout.splitlines()[0]
    assert command.startswith("setup: would run: apt-get install -y --no-install-recommends ")
    assert {"qemu-utils", "qemu-system-x86", "ovmf", "seabios", "mmdebstrap", "p7zip-full"} <= set(command.split())


def test_nothing_that_is_there_is_named_as_missing() -> None:
    done = subprocess.run([SETUP, "--dry-run"], capture_output=True, text=True)
    assert "apt-get" not in done.stdout


def test_an_ordinary_user_without_sudo_gets_one_line_to_run(bare_path: Path) -> None:
    env = {"PATH": str(bare_path), "VMFERRY_ROOT": str(bare_path)}
    become = ["/usr/bin/setpriv", "--reuid", "65534", "--clear-groups"] if os.geteuid() == 0 else []
    done = subprocess.run([*become, SETUP], capture_output=True, text=True, env=env)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert (
        "run this, then again `make setup`: sudo apt-get install -y --no-install-recommends qemu-utils" in done.stderr
    )
