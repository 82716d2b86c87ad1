"""The hallway: durable workflows, one file or folder per kind of task. ``TASKS`` says which there are.

A workflow (deterministic, no I/O) orders activities; activities do the work and may be run again at any time, in any
worker: a step run twice is the same as once. What a task shows to its user is written to the catalog by activities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vmferry.catalog import Catalog
from vmferry.catalog.places import Place
from vmferry.config import Config
from vmferry.registry import Registry
from vmferry.stores import Store
from vmferry.stores.local import LocalStore

TASK_QUEUE = "vmferry"
"""The one queue that workers listen on."""

STEPS_AT_ONCE = 2
"""Steps that one worker process does at the same time: one copies while another waits for a store."""

TEMPORAL_NAMESPACE = "vmferry"


@dataclass(frozen=True, slots=True)
class Services:
    """What tasks work with. Thread-safe."""

    config: Config
    catalog: Catalog
    objects: Callable[[Place], Store]
    """The users' object store, with the rights of the account that asks."""
    images: LocalStore
    """Where the disk images of snapshots lie; bucket = region."""
    s3_endpoint: str | None = None
    """Where the users' object store is reached, for URLs that name objects in it; ``None`` is AWS itself."""


class TaskKind(Protocol):
    """A kind of durable task."""

    @property
    def name(self) -> str:
        """Our name, which is the module's: ``import_image``."""

    @property
    def workflow(self) -> type:
        """The workflow's class; its ``run`` takes the task's id."""

    def activities(self, services: Services) -> Sequence[Callable[..., Any]]:
        """The activities that the workflow calls, bound to ``services``."""


TASKS: Registry[TaskKind] = Registry("vmferry.tasks", "TASK", ["complete_snapshot", "export_image", "import_image"])
