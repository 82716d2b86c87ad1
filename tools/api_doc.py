#!/usr/bin/env python3
"""Write docs/api.md: every EC2 action that vmferry has, with its parameters, from the code and botocore's model."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from made_pages import page, row, run
from vmferry.aws.model import load_service
from vmferry.ec2.actions import ACTIONS, Action
from vmferry.ec2.refusals import Refusal

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = page("api.md")
_HEAD = """# The EC2 actions

Made from the code by `tools/api_doc.py`; a test compares. Each parameter that EC2's model has for an action is one of
three things, and `tests/ec2/test_contract.py` sends every one with botocore's own client and holds the action to it:

- *done*: the action looks at it;
- *refused*: answered with `UnsupportedOperation`, or the code that EC2 has for it, and the reason, DryRun or not;
- *idle*: taken, and for the reason that stands there it has nothing to do.

A structure that is done is done with its members, but for those that stand below it as refused or idle. All actions go
through `tests/ec2/test_contract.py` and `tests/ec2/test_wrong_requests.py`; the last column has the tests that call
them besides.

| action | parameters | effect | why | tests |
|---|---|---|---|---|
"""


def render() -> str:
    """The document."""
    actions = sorted(ACTIONS.items(), key=lambda item: item[1].name)
    return _HEAD + "".join(f"{line}\n" for module, action in actions for line in _rows(module, action))


def tests_of(module: str) -> list[str]:
    """The test files that call the action, by botocore's name for it or the AWS command line's."""
    called = re.compile(rf"\.{module}\b|\"{module.replace('_', '-')}\"")
    return sorted(name for name, text in _tests() if called.search(text))


@cache
def _tests() -> list[tuple[str, str]]:
    folder = ROOT / "tests"
    return [(str(path.relative_to(folder)), path.read_text()) for path in folder.rglob("test_*.py")]


def _rows(module: str, action: Action) -> Iterator[str]:
    """The rows of an action: what is done, then the others by their reasons."""
    tests = ", ".join(f"`{name}`" for name in tests_of(module))
    yield row(action.name, _listed(_done(action)), "done", "", tests)
    for effect, reasons in (("refused", action.refuses), ("idle", action.idle)):
        for why, paths in _by_reason(reasons).items():
            yield row("", _listed(paths), effect, why, "")


def _done(action: Action) -> list[str]:
    """The parameters that stand nowhere as a whole."""
    operation = load_service("ec2").operation(action.name)
    assert operation is not None, action.name
    return [name for name in sorted(operation.input.members) if name not in action.refuses and name not in action.idle]


def _by_reason(reasons: Mapping[str, str | Refusal]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, why in reasons.items():
        told = f"`{why.code}`: {why.sentence}" if isinstance(why, Refusal) else why
        found.setdefault(told, []).append(path)
    return found


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    sys.exit(run(DOCUMENT, lambda _: render()))
