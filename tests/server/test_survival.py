"""What was accepted survives: killed workers, killed servers, a store and a workflow server that go away."""

from __future__ import annotations

import os
import signal
import subprocess
import time
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


def test_an_import_survives_its_workers(tmp_path: Path, large_disk: Path, large_ova: Path) -> None:
    with running_server(tmp_path / "data") as server:
        task_id = server.import_image(in_s3(server.upload(large_ova, "imports")))
        server.wait_for_progress(task_id, 21)
        workers = server.children(" worker ")
        assert len(workers) >= 2
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        check_result(server, task_id, large_disk)


def test_an_import_survives_the_death_of_everything(tmp_path: Path, large_disk: Path, large_ova: Path) -> None:
    with running_server(tmp_path / "data") as server:
        task_id = server.import_image(in_s3(server.upload(large_ova, "imports")))
        server.wait_for_progress(task_id, 21)
        server.kill_everything()
        server.start()
        check_result(server, task_id, large_disk)


def test_children_die_with_a_server_that_is_killed(tmp_path: Path, large_disk: Path, large_ova: Path) -> None:
    with running_server(tmp_path / "data") as server:
        task_id = server.import_image(in_s3(server.upload(large_ova, "imports")))
        server.wait_for_progress(task_id, 19)
        server.stop(signal.SIGKILL)  # the server alone; the kernel ends its children
        server.start()
        check_result(server, task_id, large_disk)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_end_does_so_in_time_and_goes_on_later(
    tmp_path: Path, large_disk: Path, large_ova: Path, number: signal.Signals
) -> None:
    with running_server(tmp_path / "data") as server:
        task_id = server.import_image(in_s3(server.upload(large_ova, "imports")))
        server.wait_for_progress(task_id, 20)
        assert server.stop(number) < STOP_SECONDS
        server.start()
        check_result(server, task_id, large_disk)


@pytest.mark.parametrize("child", ["weed", "temporal"])
def test_an_import_survives_the_servers_it_needs(tmp_path: Path, large_disk: Path, large_ova: Path, child: str) -> None:
    with running_server(tmp_path / "data") as server:
        task_id = server.import_image(in_s3(server.upload(large_ova, "imports")))
        server.wait_for_progress(task_id, 20)
        (pid,) = server.children(f"bin/{child}")
        os.kill(pid, signal.SIGKILL)
        check_result(server, task_id, large_disk, seconds=240)


def test_a_task_says_what_it_waits_for(tmp_path: Path, large_disk: Path, large_ova: Path) -> None:
    """The object store hangs: the task waits, says so, and goes on when the store is back."""
    with running_server(tmp_path / "data") as server:
        task_id = server.import_image(in_s3(server.upload(large_ova, "imports")))
        server.wait_for_progress(task_id, 20)
        (store,) = server.children("bin/weed")
        os.kill(store, signal.SIGSTOP)
        try:
            limit = time.monotonic() + 120
            while "waiting for the object store" not in server.task(task_id).get("StatusMessage", ""):
                assert time.monotonic() < limit, server.task(task_id)
                assert server.task(task_id)["Status"] == "active"
                time.sleep(0.5)
        finally:
            os.kill(store, signal.SIGCONT)
        check_result(server, task_id, large_disk, seconds=240)


def test_an_import_is_accepted_while_the_object_store_is_away(
    tmp_path: Path, small_disk: Path, small_ova: Path
) -> None:
    """What the store would say of the object, the task then finds out."""
    with running_server(tmp_path / "data") as server:
        key = server.upload(small_ova, "imports")
        (store,) = server.children("bin/weed")
        os.kill(store, signal.SIGSTOP)
        try:
            task_id = server.import_image(in_s3(key))
        finally:
            os.kill(store, signal.SIGCONT)
        check_result(server, task_id, small_disk)


def test_a_second_server_on_the_same_data_is_refused_in_one_line(server: Server) -> None:
    command = [str(BIN / "vmferry"), "serve", "--data-dir", str(server.data_dir), "--port", "0"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert len(refused.stderr.strip().splitlines()) == 1
    assert str(server.pid) in refused.stderr
    assert is_alive(server.pid)
