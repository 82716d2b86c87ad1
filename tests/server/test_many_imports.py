"""Many imports at once: none is forgotten, none waits for ever, and workers may die at any moment."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.server.harness import Server, running_server
from tests.server.material import MIB, make_disk, make_ova, make_vmdk
from tests.server.test_import import in_s3
from tests.server.test_survival import check_result

pytestmark = [pytest.mark.server, pytest.mark.slow]

IMPORTS = 20
KILLED = 8


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of 256 MiB that holds 96 MiB."""
    return make_disk(tmp_path_factory.mktemp("many") / "root.img", 256, 96, seed=9)


def kill_workers(server: Server, tasks: list[str], luck: random.Random) -> int:
    """Kill workers, one after the other at random moments, while tasks are active; how many were killed.

    Not without end: a worker that never lives as long as a slice takes gets nowhere.
    """
    killed = 0
    while killed < KILLED and any(server.task(task_id)["Status"] == "active" for task_id in tasks):
        time.sleep(luck.uniform(0.2, 4))
        if workers := server.children(" worker "):
            os.kill(luck.choice(workers), signal.SIGKILL)
            killed += 1
    return killed


def test_twenty_imports_survive_workers_that_die_at_random_moments(tmp_path: Path, disk: Path) -> None:
    ova = make_ova(disk.with_name("many.ova"), [make_vmdk(disk)])
    with running_server(tmp_path / "data") as server:
        server.upload(ova, "imports")
        server.upload(disk, "imports")
        sources = [in_s3(ova.name), in_s3(disk.name, "RAW")]
        tasks = [server.import_image(sources[number % 2]) for number in range(IMPORTS)]
        assert kill_workers(server, tasks, random.Random(6)) >= 2
        for task_id in tasks:
            server.wait(task_id, 300)
        for task_id in tasks:
            check_result(server, task_id, disk)


def test_eight_imports_at_once_have_their_turns_within_memory(tmp_path: Path, large_ova: Path, small_ova: Path) -> None:
    """Six large ones are under way when two small ones come: those need not wait until the large ones are done."""
    with running_server(tmp_path / "data") as server:
        large, small = (in_s3(server.upload(ova, "imports")) for ova in (large_ova, small_ova))
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
