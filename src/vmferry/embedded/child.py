"""A child process that dies with us, and the record by which an orphan of an earlier run is found again."""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vmferry.blob import foreign_error
from vmferry.errors import ConfigError, quote

MAX_LOG_SIZE = 8 << 20
_LAST_WORDS = 4096
"""Bytes at a log's end that its last line is looked for in: while a server runs, its logs grow."""

_LAUNCHER = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(1, signal.SIGKILL) != 0:
    sys.exit("prctl(PR_SET_PDEATHSIG) failed: errno %d" % ctypes.get_errno())
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent died already")
for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, [])
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit("%s: %s" % (sys.argv[2], error.strerror))
"""
"""Runs in the child, in an interpreter without site or environment, and becomes the command.

prctl(2), PR_SET_PDEATHSIG. It cannot be a ``preexec_fn``, which is not safe where there are threads. The parent may
have died before ``prctl`` was called, hence the look at ``getppid``. Python ignores SIGPIPE, nohup(1) lets SIGHUP be
ignored, and an ignored signal stays ignored after exec.
"""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. ``environment`` is all the child gets, not an addition."""

    name: str
    argv: tuple[str, ...]
    directory: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)


class Child:
    """A running command in a session of its own (Ctrl-C in the terminal does not reach it), which the kernel kills when
    the **thread** that started it ends (prctl(2)): start it from a thread that lives as long as the process."""

    def __init__(self, command: Command) -> None:
        """Start it. Raises ``ConfigError`` when it cannot be, ``StoreError`` when its log cannot be written."""
        self.command = command
        _check_program(command.argv[0])
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
        with _open_log(command.log) as log:
            try:
                self._process = subprocess.Popen(
                    [*launcher, *command.argv],
                    cwd=command.directory,
                    env=dict(command.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:
                raise ConfigError(f"{quote(command.name)} cannot be started: {quote(error)}.") from error
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """``None`` while it runs; negative for the signal that ended it."""
        return self._process.poll()

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing happens when it has ended."""
        self._process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within ``seconds``."""
        try:
            self._process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL when it still runs after ``grace`` seconds."""
        self.send_signal(signal.SIGTERM)
        if not self.wait(grace):
            self.kill()

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        self.wait(5.0)

    def last_words(self) -> str:
        """The last line of its log, for messages."""
        with suppress(OSError), self.command.log.open("rb") as log:
            log.seek(max(log.seek(0, os.SEEK_END) - _LAST_WORDS, 0))
            lines = log.read(_LAST_WORDS).decode("utf-8", "replace").strip().splitlines()
            return quote(lines[-1]) if lines else "it said nothing"
        return "its log cannot be read"


def find_binary(name: str) -> str:
    """The program ``name`` beside this interpreter, else in ``PATH``. Raises ``ConfigError``."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(name)
    if found is None:
        raise ConfigError(f"The program {quote(name)} is missing: pip install 'vmferry[server]'.")
    return found


def record(child: Child, path: Path) -> None:
    """Write down at ``path`` who the child is, so that ``end_leftover`` finds it in another run."""
    facts = {
        "pid": child.pid,
        "start_time": start_time(child.pid),
        "boot": _boot_id(),
        "command": list(child.command.argv),
    }
    fresh = path.with_suffix(".new")
    try:
        fresh.write_text(json.dumps(facts) + "\n")
        fresh.replace(path)
    except OSError as error:
        raise foreign_error(error, str(path)) from error


def end_leftover(path: Path, grace: float = 3.0) -> int | None:
    """End the process recorded at ``path`` if it is still that one; its pid, or ``None`` when there was none.

    A pid is used again some day: only the same start time (and boot) makes it the same process.
    """
    try:
        facts = json.loads(path.read_text())
        pid, started, boot = int(facts["pid"]), facts["start_time"], facts["boot"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        path.unlink(missing_ok=True)  # half-written by a crash: there is nothing to find by it
        return None
    ended = pid if started is not None and boot == _boot_id() and _end(pid, started, grace) else None
    path.unlink(missing_ok=True)
    return ended


def start_time(pid: int) -> int | None:
    """When process ``pid`` started, in ticks after boot; ``None``: it is gone. proc(5), /proc/pid/stat, field 22."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = status.rpartition(")")[2].split()  # field 2, the name, may hold spaces and parentheses
    return int(fields[19])


def is_running(pid: int) -> bool:
    """Whether any thread of process ``pid`` still runs. A zombie's do not, or no longer all of them."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        return not select.select([descriptor], [], [], 0)[0]
    finally:
        os.close(descriptor)


def _end(pid: int, started: int, grace: float) -> bool:
    """SIGTERM, then SIGKILL; through a descriptor, so that the pid cannot change hands in between.

    The descriptor becomes readable when the last thread has ended: not before then are its ports free.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if start_time(pid) != started or select.select([descriptor], [], [], 0)[0]:
            return False
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
            if select.select([descriptor], [], [], seconds)[0]:
                break
    finally:
        os.close(descriptor)
    return True


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _check_program(program: str) -> None:
    """Raises ``ConfigError`` for a program that is not there: the launcher would find out only after it runs, when a
    probe may have taken it for ready."""
    if shutil.which(program) is None:
        why = os.strerror(errno.EACCES if os.path.lexists(program) else errno.ENOENT)
        raise ConfigError(f"{quote(program)}: {why}.")


def _open_log(path: Path) -> BinaryIO:
    """``path`` for appending; a log that has grown too large becomes ``….old`` first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > MAX_LOG_SIZE:
            path.replace(path.with_name(path.name + ".old"))
        return path.open("ab")
    except OSError as error:
        raise foreign_error(error, str(path)) from error
