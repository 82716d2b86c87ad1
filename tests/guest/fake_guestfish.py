"""A program in guestfish's place: its commands are carried out in folders of this machine, which stand for volumes.

Its only argument is a file of JSON: ``devices`` (device → folder), ``log`` (where the commands go that it was given),
``fail`` (command → what it says instead of doing it), ``free`` (bytes that every file system has free), ``hang`` and
``die`` (a command that never ends, or ends the program), ``layer`` (whether a word is written to the disk itself).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_WORD = re.compile(rb'"((?:[^"\\]|\\x[0-9a-f]{2})*)"|([a-z0-9-]+)')
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


def make_guestfish(folder: Path, devices: dict[str, Path], **options: Any) -> str:
    """The path of such a program; what it logs is in ``log`` in ``folder``."""
    settings, program = folder / "guestfish.json", folder / "guestfish"
    said = {name: str(place) for name, place in devices.items()}
    settings.write_text(json.dumps({"devices": said, "log": str(folder / "log"), **options}))
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -I {__file__} {settings}\n")
    program.chmod(0o755)
    return str(program)


class Machine:
    """What the commands act on."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.mounted: dict[bytes, bytes] = {}
        self.layer = b""

    def path(self, name: bytes) -> Path:
        """Where ``name`` of the machine is on this one."""
        _, mount, *rest = name.split(b"/")
        return Path(os.fsdecode(b"/".join([self.mounted[b"/" + mount], *rest])))

    def add_drive(self, layer: bytes, form: bytes) -> None:
        assert form == b"format:qcow2"
        self.layer = layer

    def mount(self, device: bytes, place: bytes) -> None:
        self.mounted[place] = os.fsencode(self.settings["devices"][device.decode()])

    def mount_options(self, options: bytes, device: bytes, place: bytes) -> None:
        self.mount(device, place)

    def lstatns(self, name: bytes) -> None:
        found = self.path(name).lstat()
        for field in ("st_mode", "st_nlink", "st_uid", "st_size"):
            say(f"{field}: {getattr(found, field)}\n".encode())
        say(f"st_mtime_sec: {int(found.st_mtime)}\n".encode())

    def readlink(self, name: bytes) -> None:
        say(os.fsencode(self.path(name).readlink()) + b"\n")

    def ls0(self, name: bytes, listed: bytes) -> None:
        Path(os.fsdecode(listed)).write_bytes(
            b"".join(os.fsencode(found.name) + b"\0" for found in self.path(name).iterdir())
        )

    def pread(self, name: bytes, count: bytes, offset: bytes) -> None:
        with self.path(name).open("rb") as file:
            file.seek(int(offset))
            say(file.read(int(count)))

    def upload(self, source: bytes, name: bytes) -> None:
        shutil.copyfile(source, self.path(name))

    def copy_attributes(self, source: bytes, name: bytes, flag: bytes) -> None:
        assert flag == b"all:true"
        shutil.copymode(self.path(source), self.path(name))

    def chmod(self, mode: bytes, name: bytes) -> None:
        self.path(name).chmod(int(mode))

    def chown(self, user: bytes, group: bytes, name: bytes) -> None:
        assert (user, group) == (b"0", b"0")

    def mkdir_mode(self, name: bytes, mode: bytes) -> None:
        self.path(name).mkdir(int(mode))

    def utimens(self, name: bytes, *times: bytes) -> None:
        os.utime(self.path(name), ns=(int(times[0]) * 10**9, int(times[2]) * 10**9))

    def mv(self, source: bytes, target: bytes) -> None:
        self.path(source).rename(self.path(target))

    def rm_f(self, name: bytes) -> None:
        self.path(name).unlink(missing_ok=True)

    def statvfs(self, name: bytes) -> None:
        say(b"frsize: 4096\nbavail: %d\n" % (self.settings.get("free", 1 << 30) // 4096))

    def shutdown(self) -> None:
        if self.settings.get("layer"):
            subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 9 200M 4k", self.layer], check=True, stdout=2)


def say(data: bytes) -> None:
    sys.stdout.buffer.write(data)


def run(machine: Machine, command: str, arguments: Sequence[bytes]) -> str | None:
    """Carry ``command`` out; why not, where it fails."""
    settings = machine.settings
    if command == settings.get("die"):
        print("supermin: failed to find a suitable kernel", file=sys.stderr)
        sys.exit(1)
    if command == settings.get("hang"):
        time.sleep(600)
    if command in settings.get("fail", {}):
        return str(settings["fail"][command])
    act: Callable[..., None] = getattr(machine, command.replace("-", "_"), lambda *_: None)
    try:
        act(*arguments)
    except OSError as error:
        return f"{command}: {os.fsdecode(arguments[0])}: {error.strerror}"
    return None


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    machine = Machine(settings)
    for number, line in enumerate(sys.stdin.buffer, 1):
        found = [match[1] if match[2] is None else match[2] for match in _WORD.finditer(line)]
        words = [_ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), word) for word in found]
        command = words[0].decode().removeprefix("-")
        if command == "echo":
            say(words[1] + b"\n")
        else:
            with Path(settings["log"]).open("ab") as log:
                log.write(line)
            fault = run(machine, command, words[1:])
            if fault is not None:
                print(f"*stdin*:{number}: libguestfs: error: {fault}", file=sys.stderr, flush=True)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
