"""Import and export tasks as their Describe actions list them: oldest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from vmferry.catalog.export_tasks import EXPORT_IMAGE, ExportTask
from vmferry.catalog.import_tasks import IMPORT_IMAGE, IMPORT_SNAPSHOT, ImportTask
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.export_task_views import describe_export_task
from vmferry.ec2.filters import Filters
from vmferry.ec2.import_task_views import describe_import_image_task, describe_import_snapshot_task, tags_of_view
from vmferry.ec2.listing import Listing, Tags
from vmferry.ec2.paging import Paging

MOST_WITHOUT_PAGES = 1000
"""Tasks that an action answers which knows no pages: so many of the newest. Older ones are described by their ids."""
_View = Mapping[str, Any]
T = TypeVar("T", ImportTask, ExportTask)


def _views(
    describe: Callable[[T, Mapping[str, str]], _View],
) -> Callable[[RequestContext, list[T], Tags], list[_View]]:
    return lambda _, tasks, tags: [describe(task, tags[task.id]) for task in tasks]


def _filters(status: Callable[[_View], object]) -> Filters[_View]:
    return Filters({"task-state": status}, tags=tags_of_view, fields={"task-state": "status"})


IMPORT_IMAGE_TASKS = Listing[ImportTask, _View](
    lambda catalog, place, ids: catalog.import_tasks.describe(place, IMPORT_IMAGE, ids),
    lambda catalog, place, *asked: catalog.import_tasks.page(place, IMPORT_IMAGE, *asked),
    _views(describe_import_image_task),
    _filters(lambda view: view["Status"]),
    Paging("DescribeImportImageTasks", lambda task: task.position),
)
IMPORT_SNAPSHOT_TASKS = Listing[ImportTask, _View](
    lambda catalog, place, ids: catalog.import_tasks.describe(place, IMPORT_SNAPSHOT, ids),
    lambda catalog, place, *asked: catalog.import_tasks.page(place, IMPORT_SNAPSHOT, *asked),
    _views(describe_import_snapshot_task),
    _filters(lambda view: view["SnapshotTaskDetail"]["Status"]),
    Paging("DescribeImportSnapshotTasks", lambda task: task.position),
)
EXPORT_IMAGE_TASKS = Listing[ExportTask, _View](
    lambda catalog, place, ids: catalog.export_tasks.describe(place, EXPORT_IMAGE, ids),
    lambda catalog, place, *asked: catalog.export_tasks.page(place, EXPORT_IMAGE, *asked),
    _views(describe_export_task),
    _filters(lambda view: view["Status"]),
    Paging("DescribeExportImageTasks", lambda task: task.position, lowest=1, highest=500),
)
