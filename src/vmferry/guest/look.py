"""Look into a machine's disks: a child process without rights parses them, this one reads their bytes for it.

So the stores' credentials and the decoders of disk images stay here, and what a hostile file system can take over has
nothing to take: no file, no network, no other process, and little time and memory.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from vmferry.errors import FormatError, quote
from vmferry.guest._channel import FACTS, MAX_NOTE, NOTE, READ, REPLY, REQUEST, Allowance, receive, send_setup
from vmferry.guest.facts import GuestFacts
from vmferry.guest.facts_json import from_json
from vmferry.guest.window import Area
from vmferry.limits import (
    MAX_LOOK_ADDRESSES,
    MAX_LOOK_ANSWER,
    MAX_LOOK_CPU_SECONDS,
    MAX_LOOK_MEMORY,
    MAX_LOOK_RANGE,
    MAX_LOOK_READ,
    MAX_LOOK_SECONDS,
)
from vmferry.units import format_size

_START = "import sys; sys.path[:] = sys.argv[2:]; from vmferry.guest._child import main; main()"
_ENVIRONMENT = ("LD_LIBRARY_PATH",)
"""All that the child gets to know of the environment: an interpreter of one's own may not start without."""
_MAX_ANSWERS = 256
_MAX_NOTES = 100_000
_FAREWELL = 2.0
"""Seconds that a child which has closed its end may take to be gone."""

DEFAULT_ALLOWANCE = Allowance(
    MAX_LOOK_READ, MAX_LOOK_SECONDS, MAX_LOOK_CPU_SECONDS, MAX_LOOK_ADDRESSES, MAX_LOOK_MEMORY
)
"""What one look may take."""


class Looker:
    """A child that waits for disks to look into, as a context. Started before they are open, it is ready when they are.

    One look, from one thread.
    """

    def __init__(self, command: Sequence[str] = ()) -> None:
        """``command`` starts another child than ours; the word ``{}`` in it becomes the number of its socket."""
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [str(theirs.fileno()) if word == "{}" else word for word in command or _command()],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            )

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._child.pid

    @property
    def waits(self) -> bool:
        """Whether the child is alive."""
        return self._child.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        self._channel.close()
        with self._child:
            self._child.kill()

    def look(self, disks: Sequence[Area], allowance: Allowance = DEFAULT_ALLOWANCE) -> GuestFacts:
        """What is in ``disks``, which stand in the machine's order; a ``Disk`` is an ``Area``. Some 0.2 s.

        A child that dies, hangs or lies gives what it told before, and a problem. Raises ``StoreError`` and
        ``UnsafeDiskError`` of reading ``disks``, nothing else.
        """
        return _Listener(self._channel, disks, allowance, self._child).listen()


class SpareLooker:
    """A ``Looker`` that was started before anybody wants it: who takes it need not wait, and the next one starts.

    Each is a process of its own, as ever. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spare: Looker | None = None

    def take(self) -> Looker:
        """A fresh one; the first time nothing was started for it."""
        with self._lock:
            taken, self._spare = self._spare, Looker()
        if taken is not None and taken.waits:
            return taken
        if taken is not None:
            taken.close()
        return Looker()

    def close(self) -> None:
        """End the one that waits."""
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.close()


def look(disks: Sequence[Area], *, allowance: Allowance = DEFAULT_ALLOWANCE) -> GuestFacts:
    """As ``Looker.look``, by a child that is started for it. Any thread; some 0.4 s."""
    with Looker() as looker:
        return looker.look(disks, allowance)


def look_by(command: Sequence[str], disks: Sequence[Area], allowance: Allowance) -> GuestFacts:
    """``look`` with the child that ``command`` starts."""
    with Looker(command) as looker:
        return looker.look(disks, allowance)


def _command() -> list[str]:
    """This interpreter, isolated, with the places that this process imports from, whatever way they came there; modules
    are compiled for later, before the child gives up its rights, where they are by this process."""
    path = [place for place in sys.path if Path(place).is_absolute()]
    compiled = ["-B"] if sys.dont_write_bytecode else []
    compiled += [] if sys.pycache_prefix is None else ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    return [sys.executable, "-I", "-S", "-X", "utf8", *compiled, "-c", _START, "{}", *path]


class _LieError(Exception):
    """The child says what no sound child would; the text is the end of a sentence."""


class _Listener:
    """The parent's end of one look."""

    def __init__(
        self, channel: socket.socket, disks: Sequence[Area], allowance: Allowance, child: subprocess.Popen[bytes]
    ) -> None:
        self._channel = channel
        self._disks = disks
        self._allowance = allowance
        self._child = child
        self._began = time.monotonic()
        self._read = 0
        self._answers = self._notes = 0
        self._doing = "its start"
        self._facts = GuestFacts()

    def listen(self) -> GuestFacts:
        problem = None
        try:
            self._channel.settimeout(self._allowance.seconds)
            send_setup(self._channel, [disk.size for disk in self._disks], self._allowance)
            while True:
                self._serve()
        except TimeoutError:
            problem = f"took more than {self._allowance.seconds:.0f} seconds"
        except _LieError as error:
            problem = str(error)
        except (EOFError, ConnectionError):
            problem = self._how_it_ended()
        problems = self._facts.problems
        if problem:
            problems += (f"The look ended early: the reader {problem} at {quote(self._doing)}.",)
        seconds = time.monotonic() - self._began
        return replace(self._facts, problems=problems, bytes_read=self._read, seconds=round(seconds, 3))

    def _serve(self) -> None:
        """Do what the child asks for next."""
        left = self._began + self._allowance.seconds - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._channel.settimeout(left)
        kind, disk, offset, length = REQUEST.unpack(receive(self._channel, REQUEST.size))
        if kind == READ:
            self._give(disk, offset, length)
        elif kind == NOTE:
            self._notes += 1
            if length > MAX_NOTE or self._notes > _MAX_NOTES:
                raise _LieError("talks too much")
            self._doing = receive(self._channel, length).decode("utf-8", "replace")
        elif kind == FACTS:
            self._take(length)
        else:
            raise _LieError("said what it cannot say")

    def _give(self, number: int, offset: int, length: int) -> None:
        if number >= len(self._disks) or length > MAX_LOOK_RANGE or offset + length > self._disks[number].size:
            raise _LieError("asked for what is on no disk")
        self._read += length
        if self._read > self._allowance.bytes_read:
            raise _LieError(f"asked for more than {format_size(self._allowance.bytes_read)}")
        try:
            sound, data = True, bytes(self._disks[number].read_at(offset, length))
        except FormatError as error:
            sound, data = False, quote(error).encode("utf-8", "replace")
        self._channel.sendall(REPLY.pack(sound, len(data)) + data)

    def _take(self, length: int) -> None:
        """Believe the facts that come, if they can be any."""
        self._answers += 1
        if length > MAX_LOOK_ANSWER or self._answers > _MAX_ANSWERS:
            raise _LieError(f"answered more than {format_size(MAX_LOOK_ANSWER)}")
        data = receive(self._channel, length)
        try:
            said = json.loads(data)
            json.dumps(said, ensure_ascii=False).encode()  # no halves of characters
            self._facts = from_json(GuestFacts, said)
        except (ValueError, RecursionError) as error:
            raise _LieError("answered what are no facts") from error

    def _how_it_ended(self) -> str | None:
        """The child is gone, or will not talk any more: ``None`` where all is told."""
        try:
            code = self._child.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            return "closed its end"
        if code == 0 and self._answers:
            return None
        if code == -signal.SIGXCPU:
            return f"took more than {self._allowance.cpu_seconds} seconds of processor time"
        if code == -signal.SIGSYS:
            return "asked the kernel for what it may not"
        if code < 0:
            return f"was ended by signal {-code}" + "".join(f" ({one.name})" for one in signal.Signals if one == -code)
        last = self._child.stderr.read(1 << 16).decode("utf-8", "replace").strip() if self._child.stderr else ""
        return f"gave up with exit code {code}" + (f" ({quote(last.splitlines()[-1])})" if last else "")
