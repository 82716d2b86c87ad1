"""Programs of libguestfs, run as processes of their own: without a network, within limits, and ended with us.

They start a small virtual machine, in which the guest's file systems are mounted. Source: guestfs(3), "ENVIRONMENT
VARIABLES"; prlimit(1), unshare(1).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from vmferry.errors import ConfigError
from vmferry.guest.boot_check.accelerator import ENDS_WITH_US, environment, kvm_usable
from vmferry.units import GIB

NONE = "none"
"""The name of no program."""
LOOK_EVERY = 0.3
"""Seconds between two looks at whether it is to go on."""
_PLACES = "/usr/libexec:/usr/lib/virt-v2v"
"""Where distributions keep a program that is none that users call."""
_ADDRESSES = 16 * GIB
"""Bytes of addresses of each of its processes: QEMU under TCG takes some four."""
_FILE = 64 * GIB
"""Bytes of a file that it writes; libguestfs makes a sparse one of 4 GiB for itself."""
_CACHE = "LIBGUESTFS_CACHEDIR"
_CACHED_IN = "/var/tmp"
_PASSED_ON = ("VIRTIO_WIN", "VIRT_TOOLS_DATA_DIR", _CACHE, "SUPERMIN_KERNEL", "SUPERMIN_MODULES")
"""Where the drivers of Windows are, where the system of the virtual machine is kept (some 700 MB, made once), and which
kernel it has."""
_REMEDIES = (
    ("unshare", "It is run without a network, which this user may not do here: allow user namespaces, or run as root."),
    (
        "suitable kernel",
        "No kernel that this user may read is in /boot, for the machine that libguestfs starts: linux-image-amd64.",
    ),
)
"""What such a program says where it cannot be run here, and what to do."""


def has_machine() -> bool:
    """Whether libguestfs has made the system of its virtual machine for this user."""
    return (Path(os.environ.get(_CACHE, _CACHED_IN)) / f".guestfs-{os.geteuid()}" / "appliance.d").exists()


def find_program(name: str) -> Path | None:
    """The program ``name``, or at that path; ``None`` where it is not installed."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_PLACES}")
    return Path(found) if found else None


def start_confined(
    command: Sequence[str],
    work: Path,
    *,
    stdin: int,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    makes_machine: bool = False,
) -> subprocess.Popen[bytes]:
    """Start ``command`` in the folder ``work``, which is its home; to be ended by ``end_confined``.

    ``makes_machine``: it makes the system of the virtual machine where that is missing. In a user namespace that would
    get files of nobody's, and not start: so without root it keeps the network, which its machine has no card for.
    Raises ``ConfigError`` where prlimit is not installed.
    """
    limits = ["prlimit", f"--as={_ADDRESSES}", f"--fsize={_FILE}", "--core=0", "--"]
    is_root = os.geteuid() == 0
    alone = ["unshare", "--net", *([] if is_root else ["--user", "--map-current-user"]), "--"]
    try:
        return subprocess.Popen(
            [*limits, *(alone if is_root or not makes_machine else ()), *ENDS_WITH_US, *command],
            env=_environment(work),
            cwd=work,
            start_new_session=True,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
    except FileNotFoundError as error:
        raise ConfigError(f"{limits[0]} is not installed: install the package util-linux.") from error


def end_confined(process: subprocess.Popen[bytes]) -> None:
    """End ``process`` and all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def remedy_for(said: Sequence[str], more: Sequence[tuple[str, str]] = ()) -> str:
    """What is to be done where a program has ``said`` that it failed, behind a blank; nothing where that is not known.

    ``more``: words that this program says, each with what to do.
    """
    known = (*more, *_REMEDIES)
    return next((f" {remedy}" for word, remedy in known if any(word in line for line in said)), "")


def _environment(work: Path) -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    own = {"HOME": str(work), "TMPDIR": str(work), "LIBGUESTFS_BACKEND": "direct", _CACHE: _CACHED_IN}
    found = {**environment(), **own, **passed}
    if not kvm_usable():
        found["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"  # it tries KVM otherwise, and does not fall back
    return found
