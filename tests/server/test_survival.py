"""What was accepted survives: killed workers, killed servers, a store and a workflow server that go away."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.harness import BIN, STOP_SECONDS, Server, is_alive, running_server
from tests.server.material import holds
from tests.server.test_import import in_s3

pytestmark = [pytest.mark.server, pytest.mark.slow]


def check_result(server: Server, task_id: str, disk: Path, seconds: float = 120) -> None:
    """The import completes, and its bytes are the source's."""
    task = server.wait(task_id, seconds)
    assert task["Status"] == "completed", task
    (image,) = server.client("ec2").describe_images(ImageIds=[task["ImageId"]])["Images"]
    assert holds(server, image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"], disk)
    assert [path.name for path in server.leftovers() if path.name.endswith(".partial")] == []


@pytest.fixture(scope="module")
def survivor(tmp_path_factory: pytest.TempPathFactory, large_ova: Path) -> Iterator[Server]:
    """A server of this file's own, which may be killed as long as it is started again; ``large_ova`` is in its S3."""
    with running_server(tmp_path_factory.mktemp("survivor") / "data") as running:
        running.upload(large_ova, "imports")
        yield running


@pytest.fixture
def converting(survivor: Server, large_ova: Path) -> str:
    """An import of ``large_ova`` that has begun to move data, and is far from its end."""
    if not is_alive(survivor.pid):  # a test before has failed
        survivor.start()
    task_id = survivor.import_image(in_s3(large_ova.name))
    survivor.wait_for_progress(task_id, 20)
    return task_id


def test_an_import_survives_its_workers(survivor: Server, converting: str, large_disk: Path) -> None:
    workers = survivor.children(" worker ")
    assert len(workers) >= 2
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    assert survivor.task(converting)["Status"] == "active", "it ended before they died"
    check_result(survivor, converting, large_disk)


def test_an_import_survives_the_death_of_everything(survivor: Server, converting: str, large_disk: Path) -> None:
    survivor.kill_everything()
    survivor.start()
    check_result(survivor, converting, large_disk)


def test_children_die_with_a_server_that_is_killed(survivor: Server, converting: str, large_disk: Path) -> None:
    survivor.stop(signal.SIGKILL)  # the server alone; the kernel ends its children
    survivor.start()
    check_result(survivor, converting, large_disk)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_end_does_so_in_time_and_goes_on_later(
    survivor: Server, converting: str, large_disk: Path, number: signal.Signals
) -> None:
    assert survivor.stop(number) < STOP_SECONDS
    survivor.start()
    check_result(survivor, converting, large_disk)


@pytest.mark.parametrize("child", ["weed", "temporal"])
def test_an_import_survives_the_servers_it_needs(
    survivor: Server, converting: str, large_disk: Path, child: str
) -> None:
    (pid,) = survivor.children(f"bin/{child}")
    os.kill(pid, signal.SIGKILL)
    assert survivor.task(converting)["Status"] == "active", "it ended before the server died"
    check_result(survivor, converting, large_disk, seconds=240)


def test_a_task_says_what_it_waits_for(survivor: Server, converting: str, large_disk: Path) -> None:
    """The object store hangs: the task waits, says so, and goes on when the store is back."""
    (store,) = survivor.children("bin/weed")
    os.kill(store, signal.SIGSTOP)
    try:
        limit = time.monotonic() + 120
        while "waiting for the object store" not in survivor.task(converting).get("StatusMessage", ""):
            assert time.monotonic() < limit, survivor.task(converting)
            assert survivor.task(converting)["Status"] == "active"
            time.sleep(0.5)
    finally:
        os.kill(store, signal.SIGCONT)
    check_result(survivor, converting, large_disk, seconds=240)


def test_an_import_is_accepted_while_the_object_store_is_away(
    survivor: Server, small_disk: Path, small_ova: Path
) -> None:
    """What the store would say of the object, the task then finds out."""
    key = survivor.upload(small_ova, "imports")
    (store,) = survivor.children("bin/weed")
    os.kill(store, signal.SIGSTOP)
    try:
        task_id = survivor.import_image(in_s3(key))
    finally:
        os.kill(store, signal.SIGCONT)
    check_result(survivor, task_id, small_disk)


def test_a_second_server_on_the_same_data_is_refused_in_one_line(server: Server) -> None:
    command = [str(BIN / "vmferry"), "serve", "--data-dir", str(server.data_dir), "--port", "0"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert len(refused.stderr.strip().splitlines()) == 1
    assert str(server.pid) in refused.stderr
    assert is_alive(server.pid)
