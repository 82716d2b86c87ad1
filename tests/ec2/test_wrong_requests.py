"""What is wrong with a request, tried on every action: each gets EC2's code and sentence.

What the tests try follows from the model, so that an action that comes later is tried, too.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.exceptions import ClientError

from tests.ec2.running_gateway import OTHER_KEY, Endpoint
from tests.ec2.specimens import (
    ACTION_NAMES,
    Request,
    World,
    good_request,
    id_prefix,
    leaves,
    make_objects,
    operation_of,
    with_parameter,
)
from tests.ec2.wire import error_in, form_of, post
from vmferry.aws.model import Kind, Shape, snake_case
from vmferry.ec2.actions import ACTIONS
from vmferry.ec2.resources import KINDS, kind_named
from vmferry.ec2.services import Services

pytestmark = pytest.mark.slow

UNKNOWN = "0123456789abcdef0"
TYPED = {Kind.BOOLEAN, Kind.INTEGER, Kind.LONG, Kind.FLOAT, Kind.DOUBLE, Kind.TIMESTAMP, Kind.BLOB}
"""Kinds of which a text can be none."""


@dataclass(frozen=True)
class Stage:
    """A running gateway and what can be named there."""

    endpoint: Endpoint
    world: World

    def answer(self, action: str, form: Mapping[str, str], method: str = "POST") -> tuple[int, str, str]:
        """Status, code and message of what ``form`` is answered with; no code where it is answered well."""
        text = urlencode({"Action": action, "Version": "2016-11-15", **form})
        if method == "GET":
            status, _, body = post(self.endpoint, b"", method="GET", path=f"/?{text}")
        else:
            status, _, body = post(self.endpoint, text.encode())
        return (status, *(("", "") if status == 200 else error_in(body)))

    def form(self, action: str) -> dict[str, str]:
        return self.form_of(action, good_request(action, self.world))

    def form_of(self, action: str, request: Request) -> dict[str, str]:
        form = form_of(self.world.ec2, action, request)
        return {key: value for key, value in form.items() if key not in ("Action", "Version")}


@pytest.fixture(scope="module")
def stage(endpoint: Endpoint, services: Services) -> Stage:
    make_objects(services)
    return Stage(endpoint, World(endpoint.client(), services))


def code_of(ec2: Any, action: str, request: Request) -> tuple[str, str]:
    """Code and message of the error that ``action`` is answered with, empty where there is none."""
    try:
        getattr(ec2, snake_case(action))(**request)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["Error"]["Message"]
    return "", ""


def having(member: str) -> list[str]:
    """The actions whose requests have ``member``."""
    return [name for name in ACTION_NAMES if member in operation_of(name).input.members]


def wire_path(shape: Shape, path: str) -> tuple[str, Shape]:
    """A parameter as a form names it, the first entry of every list, and the shape of its value."""
    words: list[str] = []
    for name in path.split("."):
        member = shape.members[name]
        words.append(member.request_name)
        shape = member.shape
        while shape.element is not None:
            words.append("1")
            shape = shape.element
    return ".".join(words), shape


def lacking(shape: Shape, request: Any, path: str = "") -> Iterator[tuple[str, Request]]:
    """``request`` without each of the members that the model requires, and how the form names that one."""
    for name, member in shape.members.items():
        if name not in request:
            continue
        here = f"{path}{member.request_name}"
        if name in shape.required:
            yield here, {key: value for key, value in request.items() if key != name}
        inner, value = member.shape, request[name]
        if inner.kind is Kind.STRUCTURE:
            for lost, less in lacking(inner, value, f"{here}."):
                yield lost, {**request, name: less}
        elif inner.element is not None and inner.element.kind is Kind.STRUCTURE:
            for lost, less in lacking(inner.element, value[0], f"{here}.1."):
                yield lost, {**request, name: [less, *value[1:]]}


@pytest.mark.parametrize("name", ACTION_NAMES)
def test_what_is_required_and_missing_is_named(name: str, stage: Stage) -> None:
    request = good_request(name, stage.world)
    for lost, less in lacking(operation_of(name).input, request):
        if lost in ACTIONS[snake_case(name)].optional:
            assert stage.answer(name, stage.form_of(name, less))[1] != "MissingParameter"
            continue
        status, code, message = stage.answer(name, stage.form_of(name, less))
        assert (status, code) == (400, "MissingParameter"), lost
        told = message.removeprefix("The request must contain the parameter ").replace(".1", "").lower()
        assert f"{lost.replace('.1', '').lower()}.".startswith(f"{told}."), message  # it, or what it is all that is of


@pytest.mark.parametrize("name", ACTION_NAMES)
def test_what_nobody_knows_is_not_recognized(name: str, stage: Stage) -> None:
    form = stage.form(name)
    for odd in ("Colour", "dryRun", "DryRun.1.X", *(f"{key}.Colour" for key in form)):
        status, code, message = stage.answer(name, {**form, odd: "red"})
        assert (status, code) in {(400, "UnknownParameter"), (400, "InvalidParameterValue")}, odd
        assert code == "UnknownParameter" or odd.rpartition(".")[0] in message
        assert code != "UnknownParameter" or "is not recognized" in message


@pytest.mark.parametrize("name", ACTION_NAMES)
def test_a_value_of_another_type_is_invalid(name: str, stage: Stage) -> None:
    shape = operation_of(name).input
    for path, _ in leaves(shape):
        wire, inner = wire_path(shape, path)
        if inner.kind in TYPED:
            parent = ".".join(wire.split(".")[:-1])
            form = {key: value for key, value in stage.form(name).items() if not key.startswith(f"{parent}.X")}
            for wrong in ("not-one!", "٣", "0x1"):
                status, code, message = stage.answer(name, {**form, wire: wrong})
                assert (status, code) == (400, "InvalidParameterValue"), (path, wrong, message)
                assert wire in message


@pytest.mark.parametrize("name", ACTION_NAMES)
def test_a_structure_takes_no_value(name: str, stage: Stage) -> None:
    for member in operation_of(name).input.members.values():
        if member.shape.kind is Kind.STRUCTURE:
            status, code, message = stage.answer(name, {**stage.form(name), member.request_name: "text"})
            assert (status, code) == (400, "InvalidParameterValue")
            assert "is a structure and takes no value" in message


# --- ids


def id_parameters(name: str) -> list[tuple[str, str]]:
    """Parameters of an action that name something, and the prefix of what they name."""
    refused = ACTIONS[snake_case(name)].refuses
    return [
        (path, prefix)
        for path, _ in leaves(operation_of(name).input)
        if (prefix := id_prefix(name, path)) is not None and not any(path.startswith(one) for one in refused)
    ]


def given(name: str, path: str, value: str) -> Any:
    """``value`` as the parameter takes it."""
    shape = operation_of(name).input
    for part in path.split("."):
        shape = shape.members[part].shape
        listed = shape.element is not None
        shape = shape.element or shape
    return [value] if listed else value


WITH_IDS = [name for name in ACTION_NAMES if id_parameters(name)]
MISSED: Mapping[tuple[str, str], str] = {("DetachVolume", "InstanceId"): "InvalidAttachment.NotFound"}
"""What is said of a stranger's id where another fact says it better."""
TAGGING = {"CreateTags", "DeleteTags"}
"""Whose ids may be of any kind."""


@pytest.mark.parametrize("name", WITH_IDS)
def test_an_id_that_is_none_is_malformed(name: str, stage: Stage) -> None:
    for path, prefix in id_parameters(name):
        others = [
            kind.prefix for kind in KINDS if kind.prefix != prefix and kind.malformed != kind_named(prefix).malformed
        ]
        wrong = [
            "x",
            f"{prefix}?",
            f"{prefix}{UNKNOWN}00",
            prefix,
            f"{prefix.upper()}{UNKNOWN}",
            f"{prefix}' OR 1=1 --",
        ]
        wrong += [] if name in TAGGING else [f"{other}{UNKNOWN}" for other in others]
        for value in wrong:
            request = with_parameter(name, path, stage.world, given(name, path, value))
            code, message = code_of(stage.world.ec2, name, request)
            if name in TAGGING:
                assert code in {"InvalidID", kind_named(prefix).not_found}, (value, message)
            else:
                assert code == kind_named(prefix).malformed, (path, value, message)
                assert message.startswith("Invalid id: ")


@pytest.mark.parametrize("name", WITH_IDS)
def test_an_id_of_nothing_is_not_found(name: str, stage: Stage) -> None:
    for path, prefix in id_parameters(name):
        value = given(name, path, prefix + UNKNOWN)
        code, message = code_of(stage.world.ec2, name, with_parameter(name, path, stage.world, value))
        assert code == MISSED.get((name, path), kind_named(prefix).not_found), (path, message)
        assert prefix + UNKNOWN in message


@pytest.mark.parametrize("name", WITH_IDS)
def test_what_another_account_or_region_has_is_not_found(name: str, stage: Stage) -> None:
    strangers = [stage.endpoint.client(aws_access_key_id=OTHER_KEY)]
    if "SourceRegion" not in operation_of(name).input.members:  # which says where to look
        strangers.append(stage.endpoint.client(region_name="us-west-2"))
    parameters = id_parameters(name)
    missing = {kind_named(prefix).not_found for _, prefix in parameters} | {"InvalidZone.NotFound"}
    for path, _ in parameters:
        request = with_parameter(name, path, stage.world)
        for stranger in strangers:
            code, message = code_of(stranger, name, request)
            assert code in missing, (path, message)


# --- client tokens


CHANGES: Mapping[str, tuple[str, Any]] = {"CreateVolume": ("Size", 2), "RunInstances": ("InstanceType", "m5.xlarge")}
"""What makes a request another one, where it has no description."""


@pytest.mark.parametrize("name", having("ClientToken"))
def test_a_client_token_makes_one_thing_of_one_request(name: str, stage: Stage) -> None:
    request = with_parameter(name, "ClientToken", stage.world)
    call = getattr(stage.world.ec2, snake_case(name))
    first, again = ({**call(**request), "ResponseMetadata": None} for _ in range(2))
    assert again == first
    member, value = CHANGES.get(name, ("Description", "another one"))
    code, message = code_of(stage.world.ec2, name, {**request, member: value})
    assert code == "IdempotentParameterMismatch"
    assert str(request["ClientToken"]) in message
    assert {**call(**request), "ResponseMetadata": None} == first


@pytest.mark.parametrize("name", having("ClientToken"))
def test_a_client_token_is_short_and_printable(name: str, stage: Stage) -> None:
    for token in ("x" * 300, "é", "tab\there"):
        code, _ = code_of(stage.world.ec2, name, {**good_request(name, stage.world), "ClientToken": token})
        assert code == "InvalidClientToken", token


# --- pages and filters


@pytest.mark.parametrize("name", having("NextToken"))
def test_a_page_token_that_is_none_of_the_actions_is_invalid(name: str, stage: Stage) -> None:
    others = base64.urlsafe_b64encode(b'["DescribeNothing","0","x"]').decode()
    for token in ("x", "=", "é", "A" * 5000, others):
        code, _ = code_of(stage.world.ec2, name, {**good_request(name, stage.world), "NextToken": token})
        assert code == "InvalidNextToken", token


@pytest.mark.parametrize("name", having("MaxResults"))
def test_a_page_has_bounds(name: str, stage: Stage) -> None:
    for size in ("0", "-1", "1001", "2147483648"):
        status, code, message = stage.answer(name, {**stage.form(name), "MaxResults": size})
        assert (status, code) == (400, "InvalidParameterValue"), size
        assert size in message


@pytest.mark.parametrize("name", having("Filters"))
def test_a_filter_that_is_none_is_named(name: str, stage: Stage) -> None:
    world, base = stage.world, good_request(name, stage.world)
    (good,) = with_parameter(name, "Filters.Name", world)["Filters"]
    wrong: list[tuple[Request, str]] = [
        ({"Name": "colour", "Values": ["red"]}, "InvalidParameterValue"),
        ({"Name": good["Name"].upper(), "Values": ["red"]}, "InvalidParameterValue"),
        ({"Values": ["red"]}, "InvalidParameterValue"),
        ({"Name": good["Name"]}, "MissingParameter"),
        ({"Name": good["Name"], "Values": ["x"] * 201}, "FilterLimitExceeded"),
        ({"Name": good["Name"], "Values": ["x" * 1025]}, "InvalidParameterValue"),
    ]
    for entry, expected in wrong:
        code, message = code_of(world.ec2, name, {**base, "Filters": [entry]})
        assert code == expected, (entry, message)
    assert code_of(world.ec2, name, {**base, "Filters": [good] * 60})[0] == "FilterLimitExceeded"


# --- the wire


@pytest.mark.parametrize("name", having("DryRun"))
def test_every_form_of_a_request_says_the_same(name: str, stage: Stage) -> None:
    form = {**stage.form(name), "DryRun": "true"}
    forms = [form, {**form, "DryRun": "TRUE"}, {**form, "Version": "2014-09-01"}, dict(reversed(form.items()))]
    for one in forms:
        for method in ("POST", "GET"):
            assert stage.answer(name, one, method)[:2] == (412, "DryRunOperation"), (one, method)


@pytest.mark.parametrize("name", ACTION_NAMES)
def test_a_version_that_is_none_does_not_exist(name: str, stage: Stage) -> None:
    for version in ("yesterday", "2016-11-15x", "1"):
        assert stage.answer(name, {**stage.form(name), "Version": version})[:2] == (400, "NoSuchVersion")


@pytest.mark.parametrize("name", ACTION_NAMES)
@pytest.mark.parametrize(
    ("tail", "code"),
    [
        (b"&X=%FF%FE", "MalformedQueryString"),
        (b"&X=\xff", "MalformedQueryString"),
        (b"&X=%00", "InvalidCharacter"),
        (b"&Action=Other", "MalformedQueryString"),
        (b"&" + b"A." * 20 + b"A=1", "MalformedQueryString"),
    ],
)
def test_a_text_that_is_none_is_refused(name: str, tail: bytes, code: str, stage: Stage) -> None:
    status, _, body = post(stage.endpoint, f"Action={name}&Version=2016-11-15".encode() + tail)
    assert (status, error_in(body)[0]) == (400, code)


def test_every_text_parameter_may_hold_what_a_person_may_write(stage: Stage) -> None:
    """Odd texts are no fault of the server's, wherever they stand."""
    odd = "é ' \" \\ % _ \n ]]> <!-- & 🚢 ' OR 1=1 --"
    for name in ACTION_NAMES:
        for path, shape in leaves(operation_of(name).input):
            inner = shape.element or shape
            if inner.kind is Kind.STRING:
                request = with_parameter(name, path, stage.world, [odd] if shape.element is not None else odd)
                code, message = code_of(stage.world.ec2, name, request)
                assert code != "InternalError", (name, path, message)
