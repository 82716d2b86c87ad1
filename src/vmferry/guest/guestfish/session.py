"""A guestfish process: commands go in, answers come out, a disk is changed in a layer over it."""

from __future__ import annotations

import os
import re
import secrets
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from vmferry.errors import GuestError, quote
from vmferry.guest.confinement import LOOK_EVERY, end_confined, find_program, remedy_for, start_confined
from vmferry.guest.layer import layer_over, take_over
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.scratch import scratch_folder
from vmferry.units import MIB, format_size

PROGRAM = "guestfish"
SECONDS = 900.0
"""What it may take; it is some fifteen under TCG before the first file is read, and seconds from then on."""
_MOST = 4 * MIB
"""Bytes of one answer, at the most; libguestfs itself sends no more."""
_SAID = 64 * 1024
"""Bytes of what it says of a failure that are looked at."""
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:=,+-")
"""What stands for itself in a command; all else is written in hexadecimal."""
_FAULT = re.compile(r"(?:libguestfs: error|guestfish|unshare|prlimit|setpriv): (.*)", re.DOTALL)
_NOTHING_THERE = (": No such file or directory", ": Not a directory")
_REMEDIES = (
    (
        "unknown filesystem type",
        "The kernel that libguestfs starts does not know it: let it start another (SUPERMIN_KERNEL, SUPERMIN_MODULES).",
    ),
    (
        "Structure needs cleaning",
        "It is damaged: check it on the guest (xfs_repair, btrfs check), and export it again.",
    ),
    ("Read-only file system", "Let the guest make its root writable."),
)


@dataclass(frozen=True, slots=True)
class Guestfish:
    """How guestfish is run."""

    program: str = PROGRAM
    """Its name or its path; ``none``: it is not run."""
    seconds: float = SECONDS
    """How long it may take in all."""
    watching: Callable[[], None] = lambda: None
    """Called about three times a second meanwhile; what it raises ends the program."""


class Session:
    """One guestfish process, as a context, which ends it. For one thread.

    Everything raises ``GuestError`` where the program refuses, fails or takes too long, and what ``way.watching``
    raises. A command that was refused has done nothing to the next one.
    """

    def __init__(self, program: Path, way: Guestfish, work: Path) -> None:
        """``work``: a folder of its own. Raises ``ConfigError`` where prlimit is not installed."""
        self.work = work
        self.is_finished = False
        """Whether all that was written is in the layer."""
        self._way = way
        self._end = time.monotonic() + way.seconds
        self._watched = 0.0
        self._said = (work / "said").open("w+b")
        self._process = start_confined(
            [str(program)],
            work,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            makes_machine=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        end_confined(self._process)
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            assert pipe is not None
            pipe.close()

    def call(self, command: str, *arguments: str | int | Path) -> bytes:
        """Run ``command``; what it prints."""
        printed, fault = self._run(command, arguments)
        if fault is not None:
            raise _failure("failed", [fault])
        return printed

    def find(self, command: str, *arguments: str | int | Path) -> bytes | None:
        """As ``call``; ``None`` where there is no such file in the guest."""
        printed, fault = self._run(command, arguments)
        if fault is not None and fault.endswith(_NOTHING_THERE):
            return None
        if fault is not None:
            raise _failure("failed", [fault])
        return printed

    def finish(self) -> None:
        """Let everything that was written be in the layer, and end the machine."""
        for command in ("umount-all", "shutdown"):
            self.call(command)
        self.is_finished = True

    def _run(self, command: str, arguments: tuple[str | int | Path, ...]) -> tuple[bytes, str | None]:
        """What ``command`` prints, and why it failed, if it did."""
        mark = f"vmferry-{secrets.token_hex(16)}"  # a guest does not know it, whatever names it has
        # A dash before it: a command that fails does not end the program.
        line = " ".join([f"-{command}", *map(_quoted, arguments)])
        said = os.fstat(self._said.fileno()).st_size
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{line}\necho {mark}\n".encode("ascii"))
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._ended() from error
        printed = self._read(f"{mark}\n".encode("ascii"))
        words = os.pread(self._said.fileno(), _SAID, said).decode("utf-8", "replace")
        fault = _FAULT.search(words)
        return printed, fault[1].rstrip() if fault else None

    def _read(self, mark: bytes) -> bytes:
        """What comes before ``mark``."""
        assert self._process.stdout is not None
        out, pipe = bytearray(), self._process.stdout.fileno()
        while not out.endswith(mark):
            self._watch()
            if not select.select([pipe], [], [], LOOK_EVERY)[0]:
                continue
            piece = os.read(pipe, 64 * 1024)
            if not piece:
                raise self._ended()
            out += piece
            if len(out) > _MOST:
                raise GuestError(f"guestfish answered more than {format_size(_MOST)}, and was ended.")
        return bytes(out[: -len(mark)])

    def _watch(self) -> None:
        now = time.monotonic()
        if now > self._end:
            raise GuestError(f"guestfish took more than {self._way.seconds:.0f} seconds, and was ended.")
        if now - self._watched >= LOOK_EVERY:
            self._watched = now
            self._way.watching()

    def _ended(self) -> GuestError:
        """Why the program is gone."""
        code = self._process.wait()
        size = os.fstat(self._said.fileno()).st_size
        words = os.pread(self._said.fileno(), _SAID, max(size - _SAID, 0)).decode("utf-8", "replace")
        lines = [line for line in words.splitlines() if line.strip()] or ["it said nothing"]
        faults = [found[1] for line in lines if (found := _FAULT.search(line))]
        ended = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return _failure(ended, faults or lines[-1:])


def _failure(how: str, words: Sequence[str]) -> GuestError:
    """The error for a program that failed, with the first of its ``words`` for the reason."""
    why = (words[0].splitlines() or [""])[0].strip().removesuffix(".")
    return GuestError(f"guestfish {how}: {quote(why)}.{remedy_for(words, _REMEDIES)}")


@contextmanager
def open_session(overlay: OverlayDisk, way: Guestfish) -> Iterator[Session]:
    """A session whose machine is running, with ``overlay`` as its disk /dev/sda: some ten seconds under TCG.

    Once it is finished, what was written is on ``overlay`` at the end of the context; nothing is otherwise. Raises
    ``GuestError`` where guestfish is not installed or fails, and as ``layer_over``.
    """
    program = find_program(way.program)
    if program is None:
        raise GuestError(
            "guestfish, which writes to other file systems, is not installed here: install the packages "
            "libguestfs-tools and linux-image-amd64 (Debian), guestfs-tools (Fedora)."
        )
    with scratch_folder() as work:
        with layer_over(overlay, work) as layer, Session(program, way, work) as session:
            session.call("add-drive", layer, "format:qcow2")
            session.call("launch")
            yield session
        if session.is_finished:
            take_over(overlay, work, layer)


def _quoted(argument: str | int | Path) -> str:
    """``argument`` as one word of guestfish's: in double quotes, what is not plain in hexadecimal."""
    data = str(argument).encode("utf-8", "surrogateescape")
    return '"' + "".join(chr(byte) if byte in _PLAIN else f"\\x{byte:02x}" for byte in data) + '"'
