"""Run other programs: their output, or one error that says which failed and what it said."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from vmferry.errors import ConfigError, VmferryError, quote

_SAID = 6
"""Lines of a failed program's own words that go into the error."""


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
    name = Path(words[0]).name
    data = stdin.encode() if isinstance(stdin, str) else stdin
    source = {"stdin": subprocess.DEVNULL} if data is None else {}
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=env or environment(),
            input=data,
            capture_output=True,
            timeout=timeout,
            check=False,
            **source,
        )
    except FileNotFoundError as error:
        raise ConfigError(f"{quote(name)} is not installed: run `make setup`.") from error
    except subprocess.TimeoutExpired as error:
        raise VmferryError(f"{quote(name)} did not end within {timeout:.0f} s.") from error
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-_SAID:]
        words_of_it = " | ".join(quote(line.strip()) for line in said) or "no message"
        raise VmferryError(f"{quote(name)} failed with status {done.returncode}: {words_of_it}")
    return done.stdout.decode(errors="replace")
