"""Pages out of the catalog: what they cost does not depend on how much there is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert

from vmferry.catalog import Catalog, open_catalog
from vmferry.catalog._schema import (
    Base,
    BlockDeviceRow,
    ExportTaskRow,
    ImageRow,
    ImportTaskRow,
    InstanceRow,
    PermissionRow,
    SnapshotRow,
    TagRow,
    VolumeRow,
)
from vmferry.catalog.export_tasks import EXPORT_IMAGE, EXPORT_INSTANCE
from vmferry.catalog.import_tasks import CONVERSION, IMPORT_IMAGE, IMPORT_SNAPSHOT
from vmferry.catalog.pages import ALL, Wanted
from vmferry.catalog.places import Place

pytestmark = pytest.mark.slow

HERE = Place("us-east-1", "111122223333")
NEIGHBOURS = (HERE, Place("us-west-2", "111122223333"), Place("us-east-1", "999900001111"))
BEGAN = datetime(2026, 11, 23, 10, tzinfo=UTC)
PAGE = 40
SMALL, LARGE = 200, 2400
SHARED = 4
"""Of the neighbour in the same region, one in so many AMIs and snapshots is shared."""

Reader = Callable[[Catalog, Wanted, str | None], list[Any]]
READERS: dict[str, Reader] = {
    "images": lambda catalog, wanted, after: catalog.images.page(HERE, wanted, after, PAGE),
    "snapshots": lambda catalog, wanted, after: catalog.snapshots.page(HERE, wanted, after, PAGE),
    "volumes": lambda catalog, wanted, after: catalog.volumes.page(HERE, wanted, after, PAGE),
    "instances": lambda catalog, wanted, after: catalog.instances.page(HERE, wanted, after, PAGE),
    "import tasks": lambda catalog, wanted, after: catalog.import_tasks.page(HERE, IMPORT_IMAGE, wanted, after, PAGE),
    "export tasks": lambda catalog, wanted, after: catalog.export_tasks.page(HERE, EXPORT_IMAGE, wanted, after, PAGE),
    "tags": lambda catalog, wanted, after: catalog.tags.page(HERE, wanted, after, PAGE),
}


def position(fact: Any) -> str:
    return str(getattr(fact, "position", None) or fact.id)


@dataclass(frozen=True)
class Cost:
    """What the database did."""

    statements: int
    steps: int
    """Tens of instructions of SQLite's machine."""


def fill(catalog: Catalog, count: int) -> None:
    """``count`` of everything in each place, their ids shuffled against the order of their making."""
    rows: dict[type[Base], list[dict[str, Any]]] = {}
    for index, place in enumerate(NEIGHBOURS):
        for number in range(count):
            tail = f"{number * 7919 % count:012x}{index:05x}"
            for table, row in everything(tail, number):
                common = {"region": place.region, "account_id": place.account_id}
                rows.setdefault(table, []).append(row if table is BlockDeviceRow else {**row, **common})
            if place == NEIGHBOURS[-1] and number % SHARED == 0:
                for prefix in ("ami-", "snap-"):
                    grant = {"resource_id": prefix + tail, "account_id": HERE.account_id}
                    rows.setdefault(PermissionRow, []).append(grant)
    with catalog._database.write() as session:
        for table, values in rows.items():
            session.execute(insert(table), values)


def everything(tail: str, number: int) -> Iterator[tuple[type[Base], dict[str, Any]]]:
    made = {"created_at": BEGAN + timedelta(seconds=number), "bucket": "us-east-1", "key": "k"}
    task = {"status": "completed", "stage": "pending", "progress": 1, "dispatched": True, "cancel_sent": True}
    yield SnapshotRow, {"id": f"snap-{tail}", "state": "completed", "size": 1 << 30, **made}
    image = {"architecture": "x86_64", "boot_mode": "uefi", "root_device_name": "/dev/sda1"}
    named = {"id": f"ami-{tail}", "name": f"web {number}", "state": "available", "created_at": made["created_at"]}
    yield ImageRow, {**image, **named}
    yield (
        BlockDeviceRow,
        {
            "image_id": f"ami-{tail}",
            "position": 0,
            "device_name": "/dev/sda1",
            "snapshot_id": f"snap-{tail}",
            "volume_size_gib": 1,
            "delete_on_termination": True,
        },
    )
    yield TagRow, {"resource_id": f"ami-{tail}", "resource_type": "image", "key": "n", "value": str(number)}
    request: dict[str, Any] = {"request": {"containers": []}, "facts": {"pins": [], "disks": [], "notes": []}}
    for kind, prefix in ((IMPORT_IMAGE, "import-ami-"), (IMPORT_SNAPSHOT, "import-snap-"), (CONVERSION, "import-i-")):
        own = {"id": prefix + tail, "kind": kind, "created_at": made["created_at"]}
        yield ImportTaskRow, {**own, **task, **request}
    export = {"format": "VMDK", "prefix": "", **made, **task}
    yield ExportTaskRow, {**export, "id": f"export-ami-{tail}", "image_id": "a", "instance_id": None}
    yield ExportTaskRow, {**export, "id": f"export-i-{tail}", "image_id": None, "instance_id": f"i-{tail}"}
    yield (
        InstanceRow,
        {
            **image,
            "id": f"i-{tail}",
            "reservation_id": f"r-{tail}",
            "state": "stopped",
            "instance_type": "m5.large",
            "zone": "us-east-1a",
            "launched_at": made["created_at"],
            "launch_index": 0,
            "security_groups": [],
            "shutdown_behavior": "stop",
            "disable_api_termination": False,
            "disable_api_stop": False,
            "ebs_optimized": False,
        },
    )
    yield (
        VolumeRow,
        {
            "id": f"vol-{tail}",
            "state": "available",
            "size_gib": 1,
            "zone": "us-east-1a",
            "volume_type": "gp2",
            "delete_on_termination": False,
            **made,
        },
    )


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Catalog, Catalog]]:
    """A small one and a large one."""
    opened = []
    for count in (SMALL, LARGE):
        catalog = open_catalog(f"sqlite:///{tmp_path_factory.mktemp('pages') / 'catalog.sqlite'}")
        catalog.migrate()
        fill(catalog, count)
        opened.append(catalog)
    yield opened[0], opened[1]
    for catalog in opened:
        catalog.close()


def measure(catalog: Catalog, read: Callable[[Catalog], object]) -> Cost:
    """What ``read`` costs; the first time, which compiles statements, does not count."""
    read(catalog)
    statements, steps = [0], [0]

    def on_execute(*_: Any) -> None:
        statements[0] += 1

    def on_step() -> int:
        steps[0] += 1
        return 0

    watch(catalog, on_step)
    event.listen(catalog._database.engine, "before_cursor_execute", on_execute)
    try:
        read(catalog)
    finally:
        event.remove(catalog._database.engine, "before_cursor_execute", on_execute)
        watch(catalog, None)
    assert steps[0] > 0, "the measured connection was not the one that was used"
    return Cost(statements[0], steps[0])


def watch(catalog: Catalog, on_step: Callable[[], int] | None) -> None:
    """Have ``on_step`` called by the connection that the pool gives out next."""
    connection = catalog._database.engine.raw_connection()
    assert isinstance(connection.driver_connection, sqlite3.Connection)
    connection.driver_connection.set_progress_handler(on_step, 10)
    connection.close()


@pytest.mark.parametrize("noun", READERS)
def test_the_pages_together_are_everything_once_in_order(noun: str, catalogs: tuple[Catalog, Catalog]) -> None:
    seen: list[str] = []
    after: str | None = None
    while page := READERS[noun](catalogs[0], ALL, after):
        seen += map(position, page)
        after = seen[-1]
    assert len(seen) == SMALL + (SMALL // SHARED if noun in ("images", "snapshots") else 0)
    assert seen == sorted(set(seen))


@pytest.mark.parametrize("noun", READERS)
def test_a_page_costs_the_same_in_a_large_table(noun: str, catalogs: tuple[Catalog, Catalog]) -> None:
    small, large = (measure(catalog, lambda one: READERS[noun](one, ALL, None)) for catalog in catalogs)
    assert large.statements == small.statements
    assert large.steps <= 2 * small.steps


@pytest.mark.parametrize("noun", READERS)
def test_the_last_page_costs_what_the_first_does(noun: str, catalogs: tuple[Catalog, Catalog]) -> None:
    catalog, read = catalogs[1], READERS[noun]
    first = measure(catalog, lambda one: read(one, ALL, None))
    after: str | None = None
    last = after
    while len(page := read(catalog, ALL, after)) == PAGE:
        last, after = after, position(page[-1])
    end = measure(catalog, lambda one: read(one, ALL, last))
    assert end.statements == first.statements
    assert end.steps <= 2 * first.steps


@pytest.mark.parametrize(
    "read",
    [
        lambda one: one.import_tasks.newest(HERE, CONVERSION, PAGE),
        lambda one: one.export_tasks.newest(HERE, EXPORT_INSTANCE, PAGE),
    ],
    ids=["conversions", "exports of instances"],
)
def test_the_newest_cost_the_same_in_a_large_table(
    read: Callable[[Catalog], list[Any]], catalogs: tuple[Catalog, Catalog]
) -> None:
    small, large = (measure(catalog, read) for catalog in catalogs)
    assert large.statements == small.statements
    assert large.steps <= 2 * small.steps
    made = [fact.created_at for fact in read(catalogs[1])]
    assert made == [BEGAN + timedelta(seconds=number) for number in range(LARGE - PAGE, LARGE)], "oldest first"


@pytest.mark.parametrize(
    "wanted", [Wanted({"name": ["web 7"]}), Wanted({}, {"n": ["7"]}), Wanted({"id": [f"ami-{7:012x}{2:05x}"]})]
)
def test_what_is_named_is_found_at_once(wanted: Wanted, catalogs: tuple[Catalog, Catalog]) -> None:
    place = NEIGHBOURS[2]
    costs = [measure(catalog, lambda one: one.images.page(place, wanted, None, PAGE)) for catalog in catalogs]
    assert [len(catalog.images.page(place, wanted, None, PAGE)) for catalog in catalogs] == [1, 1]
    assert costs[1].steps <= 2 * costs[0].steps


def test_what_is_wanted_holds_together(catalogs: tuple[Catalog, Catalog]) -> None:
    images = catalogs[0].images
    both = images.page(HERE, Wanted({"name": ["web 7", "web 8"]}), None, PAGE)
    assert {image.name for image in both} == {"web 7", "web 8"}
    assert images.page(HERE, Wanted({"name": ["web 7"]}, {"n": ["8"]}), None, PAGE) == []
    assert images.page(HERE, Wanted({"name": ["web 7"], "state": ["pending"]}), None, PAGE) == []
    assert images.page(replace(HERE, region="eu-west-1"), ALL, None, PAGE) == []


@pytest.mark.parametrize("after", ["", "x", "~", "2026 ", " ", "a b c d", "\x00"])
def test_a_position_that_somebody_made_up_is_a_place_in_the_order(
    after: str, catalogs: tuple[Catalog, Catalog]
) -> None:
    for read in READERS.values():
        assert all(position(fact) > after.rstrip(" ") for fact in read(catalogs[0], ALL, after))
