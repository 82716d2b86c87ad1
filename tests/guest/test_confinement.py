"""Programs of libguestfs are kept apart from the network, but for what would spoil the machine that they start."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vmferry.guest.confinement import end_confined, remedy_for, start_confined


def namespaces(work: Path, *, makes_machine: bool) -> list[str]:
    """Those of users and of networks that a program is in."""
    process = start_confined(
        ["readlink", "/proc/self/ns/user", "/proc/self/ns/net"],
        work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        makes_machine=makes_machine,
    )
    try:
        return process.communicate()[0].decode().split()
    finally:
        end_confined(process)


def test_without_root_what_makes_the_machine_is_in_no_namespace_of_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    ours = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("user", "net")]
    assert namespaces(tmp_path, makes_machine=True) == ours
    assert not set(namespaces(tmp_path, makes_machine=False)) & set(ours)


def test_what_a_program_says_has_a_remedy_where_one_is_known() -> None:
    assert remedy_for(["all is well"]) == ""
    assert remedy_for(["unshare failed: Operation not permitted"]).endswith("allow user namespaces, or run as root.")
    assert remedy_for(["x"], [("x", "Do y.")]) == " Do y."
