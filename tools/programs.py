"""Run other programs: their output, or one error that says which failed and what it said."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from vmferry.errors import ConfigError, VmferryError, quote

_SAID = 6
"""Lines of a failed program's own words that go into the error."""
_GRACE_SECONDS = 10.0


def environment() -> dict[str, str]:
    """Ours, with the system administrator's programs (``mke2fs``, ``sfdisk``) in ``PATH`` and messages in English."""
    path = os.environ.get("PATH", os.defpath)
    return {**os.environ, "PATH": f"{path}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | bytes | None = None,
    timeout: float | None = None,
) -> str:
    """What ``command`` wrote on standard output.

    Raises ``ConfigError`` when the program is not installed, and ``VmferryError`` when it fails or takes longer than
    ``timeout`` seconds (it is killed then).
    """
    words = [str(word) for word in command]
    name = quote(Path(words[0]).name)
    data = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        # A session of its own, so that its child processes can be ended with it.
        process = subprocess.Popen(
            words, cwd=cwd, env=env or environment(), start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ConfigError(f"{name} is not installed: run `make setup`.") from error
    try:
        out, err = process.communicate(data, timeout)
    except subprocess.TimeoutExpired as error:
        _end(process)
        raise VmferryError(f"{name} did not end within {timeout:.0f} s.") from error
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        last = (err or out).decode(errors="replace").strip().splitlines()[-_SAID:]
        said = " | ".join(quote(line.strip()) for line in last) or "no message"
        raise VmferryError(f"{name} failed with status {process.returncode}: {said}")
    return out.decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and its child processes: politely, so that it can clean up, then by force."""
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(_GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
