"""CompleteSnapshot: the blocks that a client has put become the image of a snapshot.

``workflow`` orders the steps, ``activities`` are the steps. Before it, there is nothing for a task to do: blocks go
straight to their place (``snapshot_blocks``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vmferry.tasks import Services
from vmferry.tasks.complete_snapshot.activities import CompleteSnapshotActivities
from vmferry.tasks.complete_snapshot.workflow import CompleteSnapshot


class CompleteSnapshotKind:
    """The task behind the EBS direct API's CompleteSnapshot. Its id is the snapshot's."""

    name = "complete_snapshot"
    workflow = CompleteSnapshot

    def activities(self, services: Services) -> Sequence[Callable[..., Any]]:
        return CompleteSnapshotActivities(services).all()


TASK = CompleteSnapshotKind()
