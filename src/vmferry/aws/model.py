"""botocore's model of a service, as typed facts that a server can use. Read from the installed package, never online.

botocore has no types; everything it says passes through this file once, and no ``Any`` leaves it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any

from botocore import xform_name
from botocore.loaders import Loader
from botocore.model import OperationNotFoundError, ServiceModel


class Kind(StrEnum):
    """The type of a value on the wire."""

    STRING = "string"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    TIMESTAMP = "timestamp"
    BLOB = "blob"
    STRUCTURE = "structure"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a value may be.

    ``minimum`` and ``maximum`` bound a number, the length of a string in characters, or the length of a list.
    """

    name: str
    kind: Kind
    members: Mapping[str, Member] = field(default_factory=dict)
    """A structure's members by their name in the model."""
    requested: Mapping[str, Member] = field(default_factory=dict)
    """The same by their name in a request."""
    required: tuple[str, ...] = ()
    element: Shape | None = None
    """What a list holds."""
    element_name: str = "item"
    """What an entry of a list is called on the wire: ``item`` in the ec2 protocol, ``member`` in the query protocol."""
    minimum: float | None = None
    maximum: float | None = None
    enum: tuple[str, ...] = ()
    sensitive: bool = False
    """Never to be quoted in a message or a log."""
    pattern: str | None = None
    """What a string must look like; a regular expression that is searched for."""
    payload: str | None = None
    """The member of a structure that is the whole body of a REST message."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a structure and its three names: the model's, the request's and the response's."""

    name: str
    request_name: str
    response_name: str
    shape: Shape
    location: str | None = None
    """Where it stands in a REST message: ``uri``, ``querystring``, ``header``; ``None`` for the body."""


NOTHING = Shape("Nothing", Kind.STRUCTURE)
"""The input of an operation that takes none."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One action of a service."""

    name: str
    input: Shape
    output: Shape | None
    method: str = "POST"
    path: str = "/"
    """With its parameters in braces: ``/snapshots/{snapshotId}/blocks``."""
    status: int = 200
    unsigned_body: bool = False
    """Whether clients may leave the body out of what they sign."""


class Service:
    """A service and its operations, compiled when first asked for. Thread-safe."""

    def __init__(self, model: ServiceModel) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._shapes: dict[str, Shape] = {}
        self._operations: dict[str, Operation] = {}
        self.api_version = str(model.api_version)
        self.operation_names = frozenset(str(name) for name in model.operation_names)
        self.namespace = str(model.metadata.get("xmlNamespace", ""))
        self._is_ec2 = model.protocol == "ec2"
        self.errors = dict(map(_error, model.error_shapes))
        """The codes of the service's own errors, and their HTTP status; those of EC2 are not in its model."""

    def operation(self, name: str) -> Operation | None:
        """The operation ``name`` (``ImportImage``), or ``None`` where the service has none."""
        if (known := self._operations.get(name)) is not None:
            return known
        try:
            model = self._model.operation_model(name)
        except OperationNotFoundError:
            return None
        with self._lock:
            operation = Operation(
                name,
                NOTHING if model.input_shape is None else self._shape(model.input_shape),
                None if model.output_shape is None else self._shape(model.output_shape),
                method=str(model.http["method"]),
                path=str(model.http["requestUri"]),
                status=int(model.http.get("responseCode", 200)),
                unsigned_body=model.auth_type == "v4-unsigned-body",
            )
        self._operations[name] = operation
        return operation

    def _shape(self, model: Any) -> Shape:
        """Compile ``model``. A type that holds itself would never end; EC2 has none (RecursionError says so)."""
        name = str(model.name)
        if name not in self._shapes:
            self._shapes[name] = self._compile(name, model)
        return self._shapes[name]

    def _compile(self, name: str, model: Any) -> Shape:
        kind = Kind(str(model.type_name))
        members: dict[str, Member] = {}
        element = None
        if kind is Kind.STRUCTURE:
            members = {str(key): self._member(str(key), value) for key, value in model.members.items()}
        elif kind is Kind.LIST:
            element = self._shape(model.member)
        facts: dict[str, Any] = model.metadata
        return Shape(
            name=name,
            kind=kind,
            members=members,
            requested={member.request_name: member for member in members.values()},
            required=tuple(map(str, facts.get("required", ()))),
            element=element,
            element_name="item" if self._is_ec2 else "member",
            minimum=_number(facts.get("min")),
            maximum=_number(facts.get("max")),
            enum=tuple(map(str, facts.get("enum", ()))),
            sensitive=bool(facts.get("sensitive", False)),
            pattern=None if facts.get("pattern") is None else str(facts["pattern"]),
            payload=None if model.serialization.get("payload") is None else str(model.serialization["payload"]),
        )

    def _member(self, name: str, model: Any) -> Member:
        names: dict[str, Any] = model.serialization
        location = str(names.get("name", name))
        # The ec2 protocol: queryName as it is, else locationName with its first letter in upper case.
        capitalised = location[:1].upper() + location[1:] if self._is_ec2 else location
        request_name = str(names.get("queryName", capitalised))
        place = names.get("location")
        return Member(name, request_name, location, self._shape(model), None if place is None else str(place))


def _error(shape: Any) -> tuple[str, int]:
    """The code of an error and its HTTP status."""
    facts: dict[str, Any] = shape.metadata.get("error", {})
    return str(facts.get("code", shape.name)), int(facts.get("httpStatusCode", 400))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


@cache
def load_service(name: str) -> Service:
    """The service that botocore calls ``name`` (``ec2``), newest API version. About 0.2 s; then kept.

    Only botocore's own data is read: a model that a user keeps below the home directory changes no server.
    """
    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    return Service(ServiceModel(loader.load_service_model(name, "service-2"), name))


def snake_case(action: str) -> str:
    """``ImportImage`` → ``import_image``, by botocore's rule: the name of the module that serves the action."""
    return str(xform_name(action))
