"""What the request of an import chooses by a tag of our own."""

from __future__ import annotations

from vmferry.catalog.import_tasks import ImportTask
from vmferry.own_tags import AUTO
from vmferry.tasks import Services


def is_chosen(services: Services, task: ImportTask, tag: str, unsaid: str) -> bool:
    """Whether ``tag`` of ``task`` says ``AUTO``, in any case; ``unsaid`` is taken where the task has no such tag."""
    return choice(services, task, tag, unsaid) == AUTO


def choice(services: Services, task: ImportTask, tag: str, unsaid: str) -> str:
    """What ``tag`` of ``task`` says, in small letters; ``unsaid`` where the task has no such tag."""
    return (services.catalog.tags.of([task.id]).get(task.id, {}).get(tag) or unsaid).lower()
