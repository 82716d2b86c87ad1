"""The engine's commands need the core alone; the others say which extra they miss."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SERVER_ONLY = ["alembic", "boto3", "botocore", "sqlalchemy", "starlette", "structlog", "temporalio", "uvicorn"]


def run_with_the_core_alone(*arguments: str) -> subprocess.CompletedProcess[str]:
    """``vmferry`` in an interpreter where nothing that an extra brings can be imported."""
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({SERVER_ONLY!r}))\n"
        "from vmferry.cli import run\n"
        f"sys.exit(run({list(arguments)!r}))"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["serve", "--data-dir", "/no/such/place"], "server"),
        (["worker", "--data-dir", "/no", "--temporal", "a:1", "--s3-endpoint", "http://a"], "server"),
        (["snapshots", "locate", "snap-1", "--data-dir", "/no/such/place"], "server"),
        (["images"], "client"),
        (["tasks"], "client"),
        (["import", "/etc/hostname"], "client"),
    ],
)
def test_a_command_whose_extra_is_missing_says_which_to_install(arguments: list[str], extra: str) -> None:
    done = run_with_the_core_alone(*arguments)
    assert done.returncode == 1
    assert f"pip install 'vmferry[{extra}]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_conversion_and_inspection_need_the_core_alone(tmp_path: Path) -> None:
    source = tmp_path / "disk.raw"
    source.write_bytes(bytes(1 << 20) + b"data" * 1024)
    done = run_with_the_core_alone("convert", str(source), str(tmp_path / "disk.qcow2"))
    assert done.returncode == 0, done.stderr
    inspected = run_with_the_core_alone("inspect", str(tmp_path / "disk.qcow2"), "--json")
    assert inspected.returncode == 0, inspected.stderr


def test_help_lists_every_command() -> None:
    done = run_with_the_core_alone("--help")
    assert done.returncode == 0
    for name in ("convert", "inspect", "serve", "env", "import", "tasks", "images", "snapshots"):
        assert f" {name} " in done.stdout


def test_the_garbage_collector_rests_only_until_a_command_is_imported() -> None:
    program = (
        "import atexit, gc, sys; sys.argv = ['vmferry', *sys.argv[1:]]; from vmferry.__main__ import main; "
        "atexit.register(lambda: print('collecting', gc.isenabled())); main()"
    )
    done = subprocess.run([sys.executable, "-c", program, "convert", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.endswith("collecting True\n")
