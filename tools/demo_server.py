"""``vmferry serve`` as the demo runs it: started on free ports, asked for its environment, stopped without a trace."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from programs import environment, run
from vmferry.errors import ComputeError, quote

BIN = Path(sys.executable).parent
"""Where this virtual environment's programs are: ``vmferry``, ``aws``."""
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running ``vmferry serve``."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    ready: dict[str, Any]
    """What it said on standard output when it was ready."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(data_dir: Path, log: Path, env: Mapping[str, str] | None = None) -> Server:
    """Start ``vmferry serve`` and wait for its one line of JSON; its standard error goes to ``log``. ``env`` is ours
    where it is not given.

    Raises ``ComputeError`` when it ends, or says something else, or nothing within a minute; it is stopped then.
    """
    command = [str(BIN / "vmferry"), "serve", "--data-dir", str(data_dir), "--port", str(free_port())]
    with log.open("wb") as errors:
        # A session of its own: the terminal's Ctrl-C goes to the demo alone, which then stops the server in order.
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
    try:
        line = _first_line(process, log)
        ready = json.loads(line)
        if not isinstance(ready, dict) or ready.get("ready") is not True:
            raise ComputeError(f"`vmferry serve` said {quote(line)} instead of that it is ready.")
    except json.JSONDecodeError as error:
        stop_server(process, data_dir)
        raise ComputeError(f"`vmferry serve` said {quote(error.doc)}, which is not JSON.") from error
    except BaseException:
        stop_server(process, data_dir)
        raise
    return Server(process, data_dir, ready)


def _first_line(process: subprocess.Popen[bytes], log: Path) -> str:
    assert process.stdout is not None
    end, line = time.monotonic() + _START_SECONDS, b""
    while not line.endswith(b"\n"):
        if not select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
            raise ComputeError(f"`vmferry serve` was not ready within {_START_SECONDS:.0f} s.")
        piece = os.read(process.stdout.fileno(), 4096)
        if not piece:
            status, said = process.wait(), log.read_text(errors="replace").strip().splitlines()[-1:]
            raise ComputeError(
                f"`vmferry serve` ended with status {status}: {quote(said[0] if said else 'no message')}"
            )
        line += piece
    return line.decode(errors="replace")


def client_environment(data_dir: Path) -> dict[str, str]:
    """What a shell's environment is after ``eval "$(vmferry env)"``, without the user's own AWS profile.

    Raises ``ComputeError`` when no endpoint is in it, and ``VmferryError`` when the command fails.
    """
    clean = {key: value for key, value in environment().items() if not key.startswith("AWS_")}
    clean |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    clean |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_PAGER": ""}
    script = 'lines=$("$1" env --data-dir "$2") && eval "$lines" && exec env -0'
    said = run("bash", "-c", script, "bash", BIN / "vmferry", data_dir, env=clean)
    variables = dict(entry.split("=", 1) for entry in said.split("\0") if "=" in entry)
    if "AWS_ENDPOINT_URL_EC2" not in variables:
        raise ComputeError("`vmferry env` exports no AWS_ENDPOINT_URL_EC2.")
    return variables


def stop_server(process: subprocess.Popen[bytes], data_dir: Path) -> list[int]:
    """Stop the server with SIGTERM, then whatever of it is still there with SIGKILL; the pids that needed that."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
    left = leftovers(data_dir) | ({process.pid} if process.poll() is None else set())
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
    return sorted(left)


def leftovers(data_dir: Path) -> set[int]:
    """Processes of ours that name ``data_dir``, a folder that only one demo has, on their command line."""
    found: set[int] = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if os.fsencode(data_dir) in (folder / "cmdline").read_bytes():
                    found.add(int(folder.name))
    return found
