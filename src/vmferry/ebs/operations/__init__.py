"""The operations of the EBS direct API. ``OPERATIONS`` says which; the file is botocore's method name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vmferry.catalog.places import Place
from vmferry.ebs.services import Services
from vmferry.registry import Registry


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Who asks, where, and what an operation may use."""

    place: Place
    """The namespace of everything that the caller can name."""
    services: Services


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: ``OPERATION = Operation("StartSnapshot", start_snapshot)``.

    ``run`` makes of a request in the model's member names, checked, an answer in the model's member names; ``None`` in
    it is left out. It runs in a thread of a pool. Raises ``EbsError``, or any ``VmferryError``.
    """

    name: str
    run: Callable[[RequestContext, Mapping[str, Any]], dict[str, Any]]


OPERATIONS: Registry[Operation] = Registry(
    "vmferry.ebs.operations",
    "OPERATION",
    [
        "complete_snapshot",
        "get_snapshot_block",
        "list_changed_blocks",
        "list_snapshot_blocks",
        "put_snapshot_block",
        "start_snapshot",
    ],
)
