"""Import tasks as their Describe actions choose them: by ids, filters and pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vmferry.catalog.import_tasks import IMPORT_IMAGE, IMPORT_SNAPSHOT, ImportTask
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.filters import Filters
from vmferry.ec2.ids import check_ids
from vmferry.ec2.paging import Page, Paging


@dataclass(frozen=True, slots=True)
class TaggedTask:
    """A task and its tags."""

    task: ImportTask
    tags: Mapping[str, str]


def _sort_key(item: TaggedTask) -> str:
    return f"{item.task.created_at:%Y%m%d%H%M%S%f}{item.task.id}"


_FILTERS = Filters[TaggedTask]({"task-state": lambda item: item.task.status}, tags=lambda item: item.tags)
_PAGINGS = {
    IMPORT_IMAGE: Paging[TaggedTask]("DescribeImportImageTasks", _sort_key),
    IMPORT_SNAPSHOT: Paging[TaggedTask]("DescribeImportSnapshotTasks", _sort_key),
}


def page_tasks(context: RequestContext, request: Mapping[str, Any], kind: str, prefix: str) -> Page[TaggedTask]:
    """Tasks of ``kind``, whose ids begin with ``prefix``, that the request asks for, oldest first.

    Raises ``Ec2Error`` for what is asked wrongly, ``NotFoundError``.
    """
    ids = check_ids(request.get("ImportTaskIds", ()), prefix) or None
    tasks = context.services.catalog.import_tasks.describe(context.place, kind, ids)
    tags = context.services.catalog.tags.of([task.id for task in tasks])
    chosen = _FILTERS.select([TaggedTask(task, tags[task.id]) for task in tasks], request.get("Filters", ()))
    return _PAGINGS[kind].page(chosen, request)
