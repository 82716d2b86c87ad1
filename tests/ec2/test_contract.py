"""The contract of every action over every parameter that EC2's model has for it: done, idle, or refused, never ignored.

botocore's own client sends each parameter in a request that is good otherwise; the gateway's action notes which members
of the request it looks at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.ec2.running_gateway import GatewayRunner
from tests.ec2.specimens import (
    ACTION_NAMES,
    World,
    good_request,
    leaves,
    make_objects,
    operation_of,
    with_parameter,
)
from vmferry.aws.model import snake_case
from vmferry.ec2.actions import ACTIONS, Action, RequestContext
from vmferry.ec2.refusals import Refusal
from vmferry.ec2.services import Services

pytestmark = pytest.mark.slow

ALWAYS_REFUSED = {"StartInstances": "UnsupportedOperation"}
"""What even a good request is answered with."""


class Watched(dict[str, Any]):
    """A structure of a request that notes the paths of those of its members that somebody gets, one by one.

    To go over all of them, as the fingerprint of a client token does, is not to look at one.
    """

    def __init__(self, values: Mapping[str, Any], looks: set[str], path: str = "") -> None:
        super().__init__({name: _watch(value, looks, path + name) for name, value in values.items()})
        self._looks, self._path = looks, path

    def __getitem__(self, name: str) -> Any:
        self._looks.add(self._path + name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._looks.add(self._path + name)
        return super().get(name, default)


def _watch(value: Any, looks: set[str], path: str) -> Any:
    if isinstance(value, Mapping):
        return Watched(value, looks, f"{path}.")
    return [_watch(one, looks, path) for one in value] if isinstance(value, list) else value


@dataclass
class Witness:
    """The actions that vmferry has, and what they looked at of the last request."""

    looks: set[str] = field(default_factory=set)
    ran: bool = False

    def watch(self, action: Action) -> Action:
        def run(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
            self.ran = True
            return action.run(context, Watched(request, self.looks))

        return replace(action, run=run)

    def call(self, ec2: Any, action: str, request: Mapping[str, Any]) -> tuple[str, str]:
        """Code and message of the error that ``action`` is answered with, empty where there is none."""
        self.looks.clear()
        self.ran = False
        try:
            getattr(ec2, snake_case(action))(**request)
        except ClientError as error:
            return error.response["Error"]["Code"], error.response["Error"]["Message"]
        return "", ""


@dataclass(frozen=True)
class Stage:
    """A running gateway whose actions are watched."""

    witness: Witness
    world: World


@pytest.fixture(scope="module")
def stage(serve: GatewayRunner, services: Services) -> Iterator[Stage]:
    witness = Witness()
    make_objects(services)
    with serve({name: witness.watch(action) for name, action in ACTIONS.items()}) as endpoint:
        yield Stage(witness, World(endpoint.client(), services))


def declared(table: Mapping[str, Any], path: str) -> str | None:
    """The entry of ``table`` that speaks of ``path``: its own, or that of what it is part of."""
    parts = path.split(".")
    paths = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return next((one for one in paths if one in table), None)


@pytest.mark.parametrize("name", ACTION_NAMES)
def test_a_good_request_is_answered(name: str, stage: Stage) -> None:
    code, message = stage.witness.call(stage.world.ec2, name, good_request(name, stage.world))
    assert code == ALWAYS_REFUSED.get(name, ""), message


@pytest.mark.parametrize("name", ACTION_NAMES)
def test_every_parameter_is_looked_at_or_declared(name: str, stage: Stage) -> None:
    action = ACTIONS[snake_case(name)]
    wrong = []
    for path, _ in leaves(operation_of(name).input):
        if path != "DryRun":  # which the gateway looks at: the test after this one
            request = with_parameter(name, path, stage.world)
            code, message = stage.witness.call(stage.world.ec2, name, request)
            if (why := _verdict(action, path, stage.witness, code, message)) is not None:
                wrong.append(f"{path}: {why} (answered: {code or 'well'} {message})")
    assert not wrong, "\n".join(wrong)


def _verdict(action: Action, path: str, witness: Witness, code: str, message: str) -> str | None:
    """What is wrong with the effect of the parameter at ``path``."""
    if (refused := declared(action.refuses, path)) is not None:
        refusal = action.refuses[refused]
        expected = refusal.code if isinstance(refusal, Refusal) else "UnsupportedOperation"
        told = refusal.sentence if isinstance(refusal, Refusal) else f"vmferry does not take {refused}: {refusal}."
        return None if (code == expected and message.startswith(told) and not witness.ran) else "declared, not refused"
    if declared(action.idle, path) is not None:
        if path in witness.looks:
            return "declared as idle, but looked at"
        return None if code == ALWAYS_REFUSED.get(action.name, "") else "declared as idle, but refused"
    return None if path in witness.looks else "silently ignored: look at it, or declare it as refused or idle"


@pytest.mark.parametrize("name", ACTION_NAMES)
def test_a_dry_run_of_a_good_request_would_succeed_and_changes_nothing(name: str, stage: Stage) -> None:
    if "DryRun" not in operation_of(name).input.members:
        return  # nothing to be tried
    code, _ = stage.witness.call(stage.world.ec2, name, {**good_request(name, stage.world), "DryRun": True})
    assert code == "DryRunOperation"
    assert not stage.witness.ran


@pytest.mark.parametrize("name", ACTION_NAMES)
def test_what_is_declared_is_in_the_model_and_has_a_reason(name: str) -> None:
    action, shape = ACTIONS[snake_case(name)], operation_of(name).input
    known = {path for path, _ in leaves(shape)}
    known |= {path.rsplit(".", depth)[0] for path in known for depth in range(1, path.count(".") + 1)}
    assert not (action.refuses.keys() | action.idle.keys()) - known
    assert not action.refuses.keys() & action.idle.keys()
    assert not set(shape.required) & (action.refuses.keys() | action.idle.keys())
    for why in (*action.refuses.values(), *action.idle.values()):
        assert str(why)
        assert not str(why).endswith(".")


def test_the_witness_catches_what_is_ignored(serve: GatewayRunner, services: Services) -> None:
    """The judge is judged: an action that looks at nothing has every parameter ignored."""
    witness = Witness()
    blind = Action("DeleteVolume", lambda *_: {})
    with serve({"delete_volume": witness.watch(blind)}) as endpoint:
        assert witness.call(endpoint.client(), "DeleteVolume", {"VolumeId": "vol-01234567"}) == ("", "")
    assert witness.ran
    assert "silently ignored" in (_verdict(blind, "VolumeId", witness, "", "") or "")
    assert _verdict(replace(blind, idle={"VolumeId": "why"}), "VolumeId", witness, "", "") is None
    assert _verdict(replace(blind, refuses={"VolumeId": "why"}), "VolumeId", witness, "", "") is not None
