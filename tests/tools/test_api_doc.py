"""docs/api.md is what the code says, and no parameter of any action is accepted and ignored."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vmferry.ec2.actions import ACTIONS

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import api_doc  # noqa: E402 - a tool, which is no package


@pytest.mark.parametrize("module", ACTIONS)
def test_no_parameter_is_accepted_and_ignored(module: str) -> None:
    assert api_doc.parameters_of(module, ACTIONS[module]).ignored == ()


@pytest.mark.parametrize("module", ACTIONS)
def test_what_is_idle_is_a_parameter_and_has_a_reason(module: str) -> None:
    action = ACTIONS[module]
    whole = {name for name in action.idle if "." not in name}  # others are members of a parameter
    assert whole == set(api_doc.parameters_of(module, action).idle)
    assert all(action.idle.values())


@pytest.mark.parametrize("module", ACTIONS)
def test_every_action_is_called_by_a_test(module: str) -> None:
    assert api_doc.tests_of(module)


def test_the_document_is_what_the_code_says() -> None:
    assert api_doc.DOCUMENT.read_text() == api_doc.render(), "run tools/api_doc.py"
