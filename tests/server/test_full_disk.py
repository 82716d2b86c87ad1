"""A full disk: said before a byte is copied where it can be known, waited for where it fills up meanwhile."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.harness import Server, running_server
from tests.server.test_import import in_s3
from tests.server.test_survival import check_result

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture
def cramped_server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server whose disk images lie on a file system of so many MiB."""
    images = tmp_path / "data" / "images"
    images.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}m", "tmpfs", str(images)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("cannot run here: a small file system can only be mounted by root")
    try:
        with running_server(tmp_path / "data") as server:
            yield server
    finally:
        subprocess.run(["umount", str(images)], check=True)


@pytest.mark.parametrize("cramped_server", [8], indirect=True)
def test_a_machine_that_has_no_room_fails_before_a_byte_is_copied(cramped_server: Server, small_ova: Path) -> None:
    task = cramped_server.wait(cramped_server.import_image(in_s3(cramped_server.upload(small_ova, "imports"))))
    assert task["Status"] == "deleted"
    message = task["StatusMessage"]
    assert message.startswith("ServerError: ")
    assert "The disks hold 12.1 MiB of data" in message
    assert "8 MiB free: make room" in message
    assert cramped_server.leftovers() == []


@pytest.mark.parametrize("cramped_server", [320], indirect=True)
def test_a_disk_that_fills_up_meanwhile_is_waited_for(
    cramped_server: Server, large_disk: Path, large_ova: Path
) -> None:
    server = cramped_server
    task_id = server.import_image(in_s3(server.upload(large_ova, "imports")))
    server.wait_for_progress(task_id, 20)
    filler = server.data_dir / "images" / "filler"
    with server.held_up(), filler.open("wb") as file:
        while room := shutil.disk_usage(filler).free:  # for what was being written when they stopped
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), room)
        assert server.task(task_id)["Status"] == "active", "it ended before the disk was full"
    limit = time.monotonic() + 90
    while "waiting for room on the disk" not in server.task(task_id).get("StatusMessage", ""):
        assert time.monotonic() < limit, server.task(task_id)
        assert server.task(task_id)["Status"] == "active"
        time.sleep(0.3)
    filler.unlink()
    check_result(server, task_id, large_disk)
