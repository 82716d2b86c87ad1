"""docs/api.md is what the code says, and every action is called by a test of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vmferry.ec2.actions import ACTIONS

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import api_doc  # noqa: E402 - a tool, which is no package


@pytest.mark.parametrize("module", ACTIONS)
def test_every_action_is_called_by_a_test(module: str) -> None:
    assert api_doc.tests_of(module)


def test_every_action_has_a_row_with_what_it_does_and_what_it_refuses() -> None:
    document = api_doc.render()
    for action in ACTIONS.values():
        assert f"\n| {action.name} | " in document
        for path in (*action.refuses, *action.idle):
            assert f"`{path}`" in document


def test_the_document_is_what_the_code_says() -> None:
    assert api_doc.DOCUMENT.read_text() == api_doc.render(), "run tools/api_doc.py"
