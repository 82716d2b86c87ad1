from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vmferry.embedded.lock import DataDirectoryLock
from vmferry.errors import ConfigError

HOLD = """
import sys
from pathlib import Path
from vmferry.embedded.lock import DataDirectoryLock
with DataDirectoryLock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_server_is_refused_in_one_line(tmp_path: Path) -> None:
    with DataDirectoryLock(tmp_path), pytest.raises(ConfigError) as caught:
        DataDirectoryLock(tmp_path).acquire()
    assert str(os.getpid()) in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(ConfigError, match=re.escape(f"process {holder.pid}")):
            DataDirectoryLock(tmp_path).acquire()
        holder.kill()
        holder.wait()
    with DataDirectoryLock(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    lock = DataDirectoryLock(tmp_path / "new" / "directory")
    lock.acquire()
    lock.release()
    lock.release()
    with lock:
        pass


def test_a_data_directory_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file cannot be used"):
        DataDirectoryLock(tmp_path / "file").acquire()
