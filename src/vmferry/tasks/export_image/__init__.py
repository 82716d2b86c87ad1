"""ExportImage: an AMI's disks become an object in S3, in the format of another hypervisor.

``workflow`` orders the steps, ``activities`` are the steps, ``writing`` makes the object, ``formats`` says which there
are; ``unfinished`` removes what did not become whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vmferry.tasks import Services
from vmferry.tasks.export_image.activities import ExportImageActivities
from vmferry.tasks.export_image.workflow import ExportImage


class ExportImageKind:
    """The task behind EC2's ExportImage."""

    name = "export_image"
    workflow = ExportImage

    def activities(self, services: Services) -> Sequence[Callable[..., Any]]:
        return ExportImageActivities(services).all()


TASK = ExportImageKind()
