#!/usr/bin/env python3
"""Write docs/api.md: every EC2 action that vmferry has, with its parameters, from the code and botocore's model.

api_doc.py [--check]      --check: exit status 1 when the file is not what the code says
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from vmferry.aws.model import load_service
from vmferry.ec2.actions import ACTIONS, Action

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "api.md"
_ROOM = "vmferry.ec2"
_HEAD = """# The EC2 actions

Made from the code by `tools/api_doc.py`; a test compares. What is *refused* answers `UnsupportedOperation`, or the code
that EC2 has for it, and says why: nothing is accepted and ignored. What is *idle* has nothing to do here, for the
reason in the code. Members of these parameters are done or refused in the same way. `DryRun` works everywhere.

| action | done | refused | idle | tests |
|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of an action, by what becomes of them. ``ignored`` ones are a fault."""

    done: tuple[str, ...]
    refused: tuple[str, ...]
    idle: tuple[str, ...]
    ignored: tuple[str, ...]


def parameters_of(module: str, action: Action) -> Parameters:
    """What becomes of each parameter of ``action``, by the code of its module and of what that imports."""
    operation = load_service("ec2").operation(action.name)
    assert operation is not None, action.name
    names = sorted(set(operation.input.members) - {"DryRun"})
    refused, taken = _refused(module) | set(action.refuses), _taken(module)
    groups: dict[str, list[str]] = {"done": [], "refused": [], "idle": [], "ignored": []}
    for name in names:
        if name in action.idle:
            group = "idle"
        elif name in refused or (taken is not None and name not in taken):
            group = "refused"
        else:
            group = "done" if name in _words(module) else "ignored"
        groups[group].append(name)
    return Parameters(*(tuple(groups[name]) for name in ("done", "refused", "idle", "ignored")))


def render() -> str:
    """The document."""
    rows = []
    for module, action in sorted(ACTIONS.items(), key=lambda item: item[1].name):
        found = parameters_of(module, action)
        cells = [", ".join(group) for group in (found.done, found.refused, found.idle)]
        rows.append(f"| {action.name} | {' | '.join(cells)} | {', '.join(tests_of(module))} |")
    return _HEAD + "\n".join(rows) + "\n"


def tests_of(module: str) -> list[str]:
    """The test files that call the action by botocore's name for it."""
    return sorted(name for name, text in _tests() if f".{module}" in text)


@cache
def _tests() -> list[tuple[str, str]]:
    return [(path.stem, path.read_text()) for path in (ROOT / "tests").rglob("test_*.py")]


def _refused(module: str) -> set[str]:
    """The names in the tables of refusals that the module has."""
    loaded = import_module(f"{_ROOM}.actions.{module}")
    return {name for table in ("_REFUSED",) for name in getattr(loaded, table, {})}


def _taken(module: str) -> tuple[str, ...] | None:
    """The only names that the module takes, where it says so."""
    tree = _tree(f"{_ROOM}.actions.{module}")
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node.func) == "take_only"]
    if not any(isinstance(call.args[0], ast.Name) and call.args[0].id == "request" for call in calls):
        return None
    return tuple(_constants(tree))


def _words(module: str) -> set[str]:
    """Every text in the module and in those of its room that it imports."""
    return set(_reachable(f"{_ROOM}.actions.{module}", set()))


def _reachable(module: str, seen: set[str]) -> Iterator[str]:
    if module in seen or module == f"{_ROOM}.actions":
        return
    seen.add(module)
    tree = _tree(module)
    yield from _constants(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(_ROOM):
            yield from _reachable(node.module, seen)


def _constants(tree: ast.AST) -> Iterator[str]:
    return (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


@cache
def _tree(module: str) -> ast.Module:
    path = ROOT / "src" / Path(*module.split("."))
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="say whether the file is up to date, and change nothing")
    text = render()
    if parser.parse_args().check:
        return 0 if DOCUMENT.exists() and DOCUMENT.read_text() == text else 1
    DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
