"""What a worker costs before it does anything: several start with each server."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vmferry.app
import vmferry.work
from vmferry.cli.serve import serve_everything
from vmferry.cli.worker import be_worker
from vmferry.config import Config
from vmferry.runtime import worker
from vmferry.tasks import Services

NEEDLESS = ["alembic", "botocore", "sqlalchemy.dialects.postgresql", "uvicorn", "vmferry.guest.workbench"]
"""What only a server needs, another database, or few tasks."""


def test_a_worker_loads_nothing_that_it_may_never_need() -> None:
    program = (
        "import sys, vmferry.work; from vmferry.tasks import TASKS; [kind.workflow for kind in TASKS.values()]\n"
        "print([name for name in sys.argv[1:] if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, *NEEDLESS], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_worker_says_which_code_it_has_and_has_nobody_read_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Started(Exception):  # noqa: N818 - it is no error
        pass

    def start(*_: Any, **options: Any) -> None:
        assert options["build_id"].startswith("vmferry-")
        raise Started

    async def connect(_: str) -> None:
        pass

    monkeypatch.setattr(worker, "TASKS", {})
    monkeypatch.setattr(worker, "connect", connect)
    monkeypatch.setattr(worker, "Worker", start)
    with pytest.raises(Started):
        asyncio.run(worker._run(Services, "", lambda: None))  # type: ignore[arg-type]


def test_the_collector_rests_until_all_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def work(_config: Config, _temporal: str, _s3: str, on_ready: Any) -> None:
        seen.append(gc.isenabled())
        on_ready()
        seen.append(gc.isenabled())

    def serve(_config: Config, on_ready: Any) -> None:
        work(_config, "", "", lambda: on_ready({}))

    monkeypatch.setattr(vmferry.work, "work", work)
    monkeypatch.setattr(vmferry.app, "serve", serve)
    try:
        be_worker(tmp_path, "", "")
        serve_everything(tmp_path, None, None)  # type: ignore[arg-type]
    finally:
        gc.enable()
        gc.unfreeze()
    assert seen == [False, True] * 2
