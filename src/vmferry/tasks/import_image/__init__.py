"""ImportImage: an appliance or loose disk images in S3 become an AMI.

``workflow`` orders the steps, ``activities`` are the steps, ``source`` opens what is imported, ``facts`` says
what is in it, ``devices`` names its devices, ``stages`` says how far each stage is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vmferry.guest import SpareLooker
from vmferry.tasks import Services
from vmferry.tasks.import_image.activities import ImportImageActivities
from vmferry.tasks.import_image.workflow import ImportImage


class ImportImageKind:
    """The task behind EC2's ImportImage."""

    name = "import_image"
    workflow = ImportImage

    def activities(self, services: Services) -> Sequence[Callable[..., Any]]:
        return ImportImageActivities(services, SpareLooker()).all()


TASK = ImportImageKind()
