"""What a hostile file may do on its way through any path: raise an error of ours, soon, with little memory, alone.

Python tells an audit hook of every file that is opened, every connection and every program that is started, also by
what no test would think of.
"""

from __future__ import annotations

import re
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from tests.hostile.evil import HOST_FILE, NEIGHBOUR, Evil
from vmferry.blob import PART_SIZE
from vmferry.disk import Disk, SupportsFacts, SupportsReadParts, SupportsStoredSize
from vmferry.extent import ExtentKind
from vmferry.guest.look import _command
from vmferry.units import KIB, MIB

MAX_SECONDS = 2.0
"""Of processor time: the machine may be busy with other things."""
MAX_MEMORY = 256 * MIB
_OUTWARD = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
_FORBIDDEN = {NEIGHBOUR, Path(HOST_FILE).name, "zero", "win.ini", "PhysicalDrive0"}
_events: list[str] | None = None


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if _events is None:
        return
    if event == "open" and isinstance(arguments[0], str | bytes):
        path = arguments[0] if isinstance(arguments[0], str) else arguments[0].decode(errors="replace")
        if re.split(r"[/\\]", path)[-1] in _FORBIDDEN:
            _events.append(f"open {path}")
    elif event in _OUTWARD and not _is_look(event, arguments):
        _events.append(f"{event} {arguments!r}"[:200])


def _is_look(event: str, arguments: tuple[object, ...]) -> bool:
    """Whether this starts the child without rights that looks into a guest: it is told nothing out of the file."""
    command = _command()
    program = command[: command.index("{}")]
    return event == "subprocess.Popen" and list(cast("Sequence[str]", arguments[1]))[: len(program)] == program


sys.addaudithook(_listen)


@contextmanager
def watched(item: Evil) -> Iterator[None]:
    """Fail when what happens inside takes long, takes much memory, or looks elsewhere."""
    global _events
    opened = _events = []
    tracemalloc.start()
    begin = time.process_time()
    try:
        yield
    finally:
        taken = time.process_time() - begin
        _, memory = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        _events = None
    assert not opened, f"{item.name} ({item.about}) made us look elsewhere: {opened}"
    assert taken < MAX_SECONDS, f"{item.name} ({item.about}) took {taken:.1f} s"
    assert memory < MAX_MEMORY, f"{item.name} ({item.about}) took {memory:,} bytes of memory"


def lay_out(item: Evil, folder: Path) -> Path:
    """The file in a folder of its own, with neighbours that it may name and must not get."""
    inner = folder / "inner"
    inner.mkdir()
    for place in (folder / NEIGHBOUR, inner / NEIGHBOUR):
        place.write_bytes(b"CANARY" * KIB)
    path = inner / item.name
    path.write_bytes(item.build())
    return path


def read_everything(disk: Disk) -> None:
    """All that a conversion reads, and what an inspection asks. A claim of terabytes must cost nothing by itself."""
    for extent in disk.extents():
        if extent.kind is ExtentKind.DATA:
            for offset in range(extent.start, extent.end, MIB):
                disk.read_at(offset, min(MIB, extent.end - offset))
                if isinstance(disk, SupportsReadParts):
                    low = offset // PART_SIZE * PART_SIZE
                    disk.read_parts(low, min(low + MIB, disk.size) - low)
    disk.read_at(0, min(disk.size, 64 * KIB))
    disk.read_at(disk.size - 512, 512)
    if isinstance(disk, SupportsStoredSize):
        disk.stored_size()
    if isinstance(disk, SupportsFacts):
        assert disk.facts is not None


_REMEDY = re.compile(
    r"[:;,.] (and |then |or )?(export|upload|convert|unpack|declare|give|name|import|use|check|pack|supply|leave|"
    r"install|decrypt|restore|look|let|fetch|download|try|choose|take|put|say|make|remove|copy|ask|extract|merge|consolidate|shut|"
    r"save|start|commit|flatten|run|open|set|write|repair|mend|rename|add|free)\b",
    re.IGNORECASE,
)


def check_sentence(message: str) -> None:
    """One line, without anything that a terminal obeys, which says what to do."""
    assert message, "an error without words"
    assert message.isprintable(), repr(message)
    assert message.endswith((".", "…")), message
    assert _REMEDY.search(message), f"no remedy: {message}"
