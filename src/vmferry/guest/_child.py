"""The child process of a look: gives up its rights, then parses what a stranger wrote. ``look`` starts it."""

from __future__ import annotations

import codecs
import gc
import json
import os
import pkgutil
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from importlib import import_module

import vmferry.guest
from vmferry.guest._channel import FACTS, MAX_NOTE, NOTE, Asker, RemoteDisk, receive_setup
from vmferry.guest._sandbox import give_up_rights
from vmferry.guest.facts import GuestFacts
from vmferry.guest.facts_json import to_json
from vmferry.guest.filesystems import FILE_SYSTEMS
from vmferry.guest.inside import look_inside
from vmferry.limits import MAX_LOOK_ANSWER

_ROOMS = ("filesystems", "linux", "superblocks", "windows")
"""Of ``vmferry.guest``: those whose modules the child runs."""
_MAX_PROBLEMS, _MAX_VOLUMES = 64, 64
"""Of which is told where all is too much."""
_ENCODINGS = ("ascii", "cp437", "cp1252", "idna", "latin-1", "utf-8", "utf-16", "utf-16-be", "utf-16-le", "utf-32-le")


def main() -> None:
    """``argv[1]`` is the number of the open socket to the parent."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    _import_all()  # before there is anything to look into: whoever starts this early need not wait for it
    sizes, allowance = receive_setup(channel)
    # What is open besides the socket and where the last words go is closed.
    os.closerange(3, channel.fileno())
    os.closerange(channel.fileno() + 1, 4096)
    gc.freeze()
    problems = give_up_rights(addresses=allowance.addresses, memory=allowance.memory, cpu_seconds=allowance.cpu_seconds)
    asker = Asker(channel, allowance)
    disks = [RemoteDisk(asker, number, size) for number, size in enumerate(sizes)]

    def note(text: str) -> None:
        asker.say(NOTE, text.encode("utf-8", "replace")[:MAX_NOTE])

    def answer(facts: GuestFacts) -> None:
        said = (*problems, *([asker.ended_by] if asker.ended_by else []))
        facts = replace(facts, problems=tuple(dict.fromkeys((*facts.problems, *said))))
        asker.say(FACTS, pack_facts(facts))

    answer(look_inside(disks, note=note, so_far=answer))
    os._exit(0)  # the usual way out looks for files to flush and close, which is forbidden


def pack_facts(facts: GuestFacts) -> bytes:
    """``facts`` as the parent takes them: where they are too many, without what matters least."""
    told = (*facts.problems[:_MAX_PROBLEMS], "More was found than can be told.")
    shorter = (
        replace(facts, systems=facts.systems[:1], problems=told),
        replace(facts, systems=facts.systems[:1], volumes=facts.volumes[:_MAX_VOLUMES], problems=told),
        GuestFacts(facts.volumes[:_MAX_VOLUMES], problems=told),
    )
    for version in (facts, *shorter):
        data = json.dumps(to_json(version), ensure_ascii=False).encode("utf-8", "replace")
        if len(data) <= MAX_LOOK_ANSWER:
            return data
    return json.dumps(to_json(GuestFacts(problems=told[-1:]))).encode()


def _import_all() -> None:
    """Everything that may be imported later: no file can be opened then. What is not installed is left out."""
    for room in _ROOMS:
        package = import_module(f"{vmferry.guest.__name__}.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            with suppress(ImportError):
                import_module(module.name)
    for name in FILE_SYSTEMS:
        with suppress(ImportError):
            FILE_SYSTEMS[name]
    for name in _ENCODINGS:
        codecs.lookup(name)


if __name__ == "__main__":
    main()
