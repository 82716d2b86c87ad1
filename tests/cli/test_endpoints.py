"""Whom the client commands speak to, and what they say where that cannot be known."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.material import call_vmferry
from vmferry.cli._client import open_clients


@pytest.fixture(autouse=True)
def empty_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("VMFERRY_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_without_a_server_and_a_region_both_are_named() -> None:
    done = call_vmferry("tasks")
    assert done.returncode == 1
    assert "no server runs on" in done.stderr
    assert done.stderr.endswith("Start `vmferry serve`, or set AWS_REGION and keys.\n")


def test_who_wants_aws_is_told_of_no_server() -> None:
    done = call_vmferry("tasks", "--aws")
    assert done.stderr == "vmferry: No endpoint to speak to: You must specify a region. Set AWS_REGION and keys.\n"


def test_the_region_is_found_where_the_aws_command_looks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    assert open_clients(None, aws=True).region == "us-west-2"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert open_clients(None, aws=True).region == "eu-west-1"
    assert open_clients(None, aws=True, region="eu-north-1").region == "eu-north-1"


def test_missing_keys_are_told_with_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    done = call_vmferry("tasks", "--aws")
    assert done.returncode == 1
    assert "Unable to locate credentials. Set AWS_ACCESS_KEY_ID" in done.stderr
