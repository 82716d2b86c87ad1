"""Two rules for all tests: in CI nothing is skipped silently; and how many examples a property test gets."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

_EXCUSE = "cannot run here:"
"""How the reason of a skip begins that even CI must accept: what is missing cannot be installed on this machine."""
_SETTINGS = "_hypothesis_internal_use_settings"
"""Where hypothesis keeps a test's own settings; a profile does not override what a test says itself."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-examples", type=int, metavar="N", help="examples for every property test")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give every property test the examples that ``--fuzz-examples`` asks for, and no less than it wants itself."""
    wanted = config.getoption("--fuzz-examples")
    if wanted is None:
        return
    for item in items:
        function = getattr(getattr(item, "obj", None), "__func__", getattr(item, "obj", None))
        own = getattr(function, _SETTINGS, None)
        if isinstance(own, settings):
            setattr(function, _SETTINGS, settings(own, max_examples=max(wanted, own.max_examples)))


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
