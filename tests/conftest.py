"""Rules for all tests: in CI nothing is skipped silently; how many examples, or how long, a property test gets."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import settings

_EXCUSE = "cannot run here:"
"""How the reason of a skip begins that even CI must accept: what is missing cannot be installed on this machine."""
_SHARE = pytest.StashKey[float]()
"""Seconds that each property test gets of ``--fuzz-seconds``."""
_LONG = ("server", "slow")
"""The marks of tests that take long, the longest first: begun last, one of them would keep a single process busy."""
_SETTINGS = "_hypothesis_internal_use_settings"
"""Where hypothesis keeps a test's own settings; a profile does not override what a test says itself."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-examples", type=int, metavar="N", help="examples for every property test")
    parser.addoption("--example-share", type=float, default=1.0, metavar="X", help="of the examples of property tests")
    parser.addoption(
        "--fuzz-seconds", type=float, metavar="N", help="run the property tests again for N seconds in all"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the long tests first, and give every property test its examples: those that ``--fuzz-examples`` asks for, and
    no less than it wants itself; or the share of them that ``--example-share`` leaves it."""
    items.sort(key=lambda item: [item.get_closest_marker(long) is None for long in _LONG])
    seconds = config.getoption("--fuzz-seconds")
    if seconds is not None:
        count = sum(1 for item in items if _is_property(item))
        workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        config.stash[_SHARE] = seconds * workers / max(count, 1)
    wanted, share = config.getoption("--fuzz-examples") or 0, config.getoption("--example-share")
    for item in items:
        function = _function(item)
        own = getattr(function, _SETTINGS, None)
        if isinstance(own, settings):
            count = max(wanted, round(own.max_examples * share), 1)
            setattr(function, _SETTINGS, settings(own, max_examples=count))


def _function(item: pytest.Item) -> object:
    return getattr(getattr(item, "obj", None), "__func__", getattr(item, "obj", None))


def _is_property(item: pytest.Item) -> bool:
    return getattr(_function(item), "is_hypothesis_test", False) is True


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """With ``--fuzz-seconds``, run a property test again, each time with other examples, until its share is used up."""
    share = pyfuncitem.config.stash.get(_SHARE, None)
    end = time.monotonic() + (share or 0)
    result = yield
    if share is not None and _is_property(pyfuncitem):
        arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
        while time.monotonic() < end:
            pyfuncitem.obj(**arguments)
    return result


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI, turn a skip into a failure unless its reason is an excuse; expected failures are no skips."""
    if os.environ.get("CI") != "true" or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(_EXCUSE):
        report.outcome = "failed"
        report.longrepr = f"Skipped in CI: {reason!r}. Let it run, or begin the reason with {_EXCUSE!r}."


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Grows by each file and directory that is made durable, in order; a file as its name was then."""
    paths: list[Path] = []

    def watched(sync: Callable[[int], None]) -> Callable[[int], None]:
        def call(fd: int) -> None:
            sync(fd)
            paths.append(Path(f"/proc/self/fd/{fd}").readlink())

        return call

    monkeypatch.setattr(os, "fsync", watched(os.fsync))
    monkeypatch.setattr(os, "fdatasync", watched(os.fdatasync))
    return paths
