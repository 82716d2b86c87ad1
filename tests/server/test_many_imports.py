"""Many imports at once: none is forgotten, none waits for ever, and workers may die at any moment."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.server.harness import Server, running_server
from tests.server.material import MIB, make_disk, make_ova, make_vmdk
from tests.server.test_import import in_s3
from tests.server.test_survival import check_result

pytestmark = [pytest.mark.server, pytest.mark.slow]

IMPORTS = 20


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of 64 MiB that holds 32 MiB."""
    return make_disk(tmp_path_factory.mktemp("many") / "root.img", 64, 32, seed=9)


@pytest.fixture
def long_ova(tmp_path: Path) -> Path:
    """An OVA of a disk with 768 MiB of data: three slices, so that others can have their turns in between."""
    disk = make_disk(tmp_path / "long.img", 1024, 768, seed=2, thin=True)
    return make_ova(tmp_path / "long.ova", [make_vmdk(disk)])


def active(server: Server, tasks: list[str]) -> bool:
    return any(server.task(task_id)["Status"] == "active" for task_id in tasks)


def kill(server: Server, word: str, luck: random.Random) -> int:
    """SIGKILL to a child whose command line holds ``word``; how many died."""
    children = server.children(word)
    if not children:
        return 0
    with suppress(ProcessLookupError):
        os.kill(luck.choice(children), signal.SIGKILL)
    return 1


def do_harm(server: Server, tasks: list[str], victims: list[str], luck: random.Random) -> list[str]:
    """Kill ``victims`` one after the other at random moments, while tasks are active; who was killed.

    Each has the time of a slice to live: a worker that never has gets nowhere.
    """
    killed = []
    for victim in victims:
        time.sleep(luck.uniform(0.5, 3))
        if not active(server, tasks):
            break
        if victim == "everything":
            server.kill_everything()
            server.start()
        elif not kill(server, victim, luck):
            continue
        killed.append(victim)
    return killed


@pytest.mark.parametrize(
    "victims",
    [
        [" worker "] * 8,
        ["bin/temporal", "bin/weed", " worker ", "everything", "bin/weed", "bin/temporal", "everything", " worker "],
    ],
    ids=["workers", "any part of the server"],
)
def test_twenty_imports_survive_what_dies_at_random_moments(tmp_path: Path, disk: Path, victims: list[str]) -> None:
    ova = make_ova(disk.with_name("many.ova"), [make_vmdk(disk)])
    with running_server(tmp_path / "data") as server:
        server.upload(ova, "imports")
        server.upload(disk, "imports")
        sources = [in_s3(ova.name), in_s3(disk.name, "RAW")]
        tasks = [server.import_image(sources[number % 2]) for number in range(IMPORTS)]
        assert len(do_harm(server, tasks, victims, random.Random(6))) >= 2
        for task_id in tasks:
            server.wait(task_id, 300)
        for task_id in tasks:
            check_result(server, task_id, disk)


def test_eight_imports_at_once_have_their_turns_within_memory(tmp_path: Path, long_ova: Path, small_ova: Path) -> None:
    """Six large ones are under way when two small ones come: those need not wait until the large ones are done."""
    with running_server(tmp_path / "data") as server:
        large, small = (in_s3(server.upload(ova, "imports")) for ova in (long_ova, small_ova))
        tasks = [server.import_image(large) for _ in range(6)]
        server.wait_for_progress(tasks[0], 20)
        late = [server.import_image(small) for _ in range(2)]
        for task_id in late:
            assert server.wait(task_id)["Status"] == "completed"
        assert [server.task(task_id)["Status"] for task_id in tasks].count("active") >= 4
        for task_id in tasks:
            assert server.wait(task_id, 240)["Status"] == "completed"
        peaks = [peak_memory(pid) for pid in server.children(" worker ")]
    assert max(peaks) <= 256 * MIB, peaks


def peak_memory(pid: int) -> int:
    """The most memory that a process had, in bytes. proc(5), VmHWM."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
