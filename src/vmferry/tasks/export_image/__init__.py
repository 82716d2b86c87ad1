"""ExportImage: an AMI's disks become an object in S3, in the format of another hypervisor.

``workflow`` orders the steps, ``activities`` are the steps; ``formats`` says which there are. All steps about a disk go
by one ``plan``: what ``slices`` hold comes from the disk or from a ``packer``, and a ``sliced_object`` sends it in
``parts``. ``writing`` makes an OVA. ``unfinished`` removes what did not become whole.
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
