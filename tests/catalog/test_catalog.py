"""The catalog on a real SQLite file, as server and workers share it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from vmferry.catalog import Catalog, open_catalog
from vmferry.catalog._database import Database, alembic_config, newest_revision
from vmferry.catalog._schema import Base
from vmferry.catalog.accounts import new_access_key
from vmferry.catalog.images import BlockDevice, Image
from vmferry.catalog.import_tasks import (
    IMPORT_IMAGE,
    DiskContainer,
    DiskConversion,
    ImportedDisk,
    ImportFacts,
    ImportRequest,
    ImportTask,
    Slice,
)
from vmferry.catalog.pages import ALL
from vmferry.catalog.places import Place
from vmferry.catalog.snapshots import Snapshot
from vmferry.errors import ConflictError, NotFoundError, TaskCancelledError

HERE = Place("us-east-1", "111122223333")
ELSEWHERE = Place("us-west-2", "111122223333")


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = open_catalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    opened.migrate()
    yield opened
    opened.close()


def new_task(number: int = 1, place: Place = HERE) -> ImportTask:
    return ImportTask(
        id=f"import-ami-{number:017x}",
        place=place,
        created_at=datetime.now(UTC),
        request=ImportRequest(containers=(DiskContainer(bucket="b", key="k", format="OVA"),), description="web"),
    )


def new_snapshot(number: int = 1, task_id: str | None = None, state: str = "completed") -> Snapshot:
    return Snapshot(f"snap-{number:017x}", HERE, state, 3 << 30, None, datetime.now(UTC), "images", "k", task_id)


def new_image(number: int = 1, name: str = "web", snapshot: int = 1) -> Image:
    device = BlockDevice("/dev/sda1", f"snap-{snapshot:017x}", 3)
    return Image(
        f"ami-{number:017x}", HERE, name, None, "available", "x86_64", "legacy-bios", None, "RunInstances",
        "/dev/sda1", datetime.now(UTC), (device,),
    )  # fmt: skip


def add(catalog: Catalog, task: ImportTask, token: str | None = None, fingerprint: str = "f") -> str:
    return catalog.import_tasks.add(task, {}, token, fingerprint, 20)


@pytest.fixture
def migrated(tmp_path: Path) -> Iterator[Database]:
    """An empty catalog that Alembic has brought to the newest revision step by step."""
    database = Database(f"sqlite:///{tmp_path / 'migrated.sqlite'}")
    with database.engine.begin() as connection:
        command.upgrade(alembic_config(connection), "head")
    yield database
    database.close()


def describe(database: Database) -> dict[str, Any]:
    """Every table, whatever the order of its columns and of what was declared."""
    with database.engine.connect() as connection:
        found = inspect(connection)
        return {
            table: {
                "rows": connection.scalar(text(f"SELECT count(*) FROM {table}")),
                "columns": sorted((one["name"], str(one["type"]), one["nullable"]) for one in found.get_columns(table)),
                "primary key": found.get_pk_constraint(table),
                "indexes": sorted(
                    (
                        str(one["name"]),
                        one["column_names"],
                        one["unique"],
                        str(one["dialect_options"].get("sqlite_where")),
                    )
                    for one in found.get_indexes(table)
                ),
                "unique": sorted(map(str, found.get_unique_constraints(table))),
                "foreign keys": sorted(map(str, found.get_foreign_keys(table))),
            }
            for table in found.get_table_names()
        }


def test_the_migrations_make_the_schema_that_the_code_says(migrated: Database) -> None:
    with migrated.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_new_catalog_is_as_one_that_was_migrated_step_by_step(migrated: Database, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'new.sqlite'}")
    database.migrate()
    assert describe(database) == describe(migrated)
    for one in (database, migrated):
        with one.engine.connect() as connection:
            assert MigrationContext.configure(connection).get_current_revision() == newest_revision()
            scripts = ScriptDirectory.from_config(alembic_config(connection))
    assert scripts.get_current_head() == newest_revision()
    database.close()


def test_an_old_catalog_is_brought_to_the_newest_revision(migrated: Database) -> None:
    with migrated.engine.begin() as connection:
        connection.execute(text("ALTER TABLE instance DROP COLUMN usage_operation"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0018'"))
    migrated.migrate()
    with migrated.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_what_a_server_starts_with_loads_neither_alembic_nor_postgresql(tmp_path: Path) -> None:
    program = (
        "import sys; from vmferry.catalog import open_catalog; catalog = open_catalog(sys.argv[1])\n"
        "for _ in range(2): catalog.migrate()\n"
        "print([name for name in ('alembic', 'sqlalchemy.dialects.postgresql') if name in sys.modules])"
    )
    url = f"sqlite:///{tmp_path / 'catalog.sqlite'}"
    done = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_migrating_twice_is_the_same_as_once(catalog: Catalog) -> None:
    catalog.migrate()
    assert catalog.images.describe(HERE) == []


def test_keys_have_the_shape_of_awss_and_are_found_again(catalog: Catalog) -> None:
    key = new_access_key()
    catalog.accounts.add(key)
    catalog.accounts.add(key)
    assert key.access_key_id.startswith("AKIA")
    assert (len(key.access_key_id), len(key.secret_access_key), len(key.account_id)) == (20, 40, 12)
    assert catalog.accounts.find(key.access_key_id) == key
    assert catalog.accounts.of_account(key.account_id) == key
    assert catalog.accounts.keys() == [key]
    assert catalog.accounts.find("AKIAUNKNOWN") is None


def test_a_task_is_read_back_as_it_was_recorded(catalog: Catalog) -> None:
    task = new_task()
    add(catalog, task)
    assert catalog.import_tasks.get(task.id) == task
    assert catalog.import_tasks.newest(HERE, IMPORT_IMAGE, 9) == [task]


def test_another_region_does_not_see_a_task(catalog: Catalog) -> None:
    task = new_task()
    add(catalog, task)
    assert catalog.import_tasks.newest(ELSEWHERE, IMPORT_IMAGE, 9) == []
    with pytest.raises(NotFoundError):
        catalog.import_tasks.describe(ELSEWHERE, IMPORT_IMAGE, [task.id])
    with pytest.raises(NotFoundError):
        catalog.import_tasks.cancel(ELSEWHERE, task.id, "r")


def test_the_same_token_answers_the_first_task_again(catalog: Catalog) -> None:
    first, second = new_task(1), new_task(2)
    assert add(catalog, first, "t", "same") == first.id
    assert add(catalog, second, "t", "same") == first.id
    assert [task.id for task in catalog.import_tasks.newest(HERE, IMPORT_IMAGE, 9)] == [first.id]


def test_the_same_token_with_other_parameters_is_refused(catalog: Catalog) -> None:
    add(catalog, new_task(1), "t", "these")
    with pytest.raises(ConflictError) as refused:
        add(catalog, new_task(2), "t", "others")
    assert refused.value.facts["code"] == "IdempotentParameterMismatch"


def test_a_token_counts_per_region(catalog: Catalog) -> None:
    add(catalog, new_task(1), "t", "f")
    other = new_task(2, ELSEWHERE)
    assert add(catalog, other, "t", "f") == other.id


def test_one_token_used_by_many_threads_at_once_makes_one_task(catalog: Catalog) -> None:
    answers: list[str] = []

    def ask(number: int) -> None:
        answers.append(add(catalog, new_task(number), "t", "f"))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert len(set(answers)) == 1
    assert len(catalog.import_tasks.newest(HERE, IMPORT_IMAGE, 9)) == 1


def test_progress_never_falls(catalog: Catalog) -> None:
    task = new_task()
    add(catalog, task)
    catalog.import_tasks.advance(task.id, "converting", 40)
    catalog.import_tasks.advance(task.id, "converting", 20)
    assert catalog.import_tasks.get(task.id).progress == 40


def test_slices_add_up(catalog: Catalog) -> None:
    task = new_task()
    add(catalog, task)
    slices = [Slice(0, 0, 0, 100, 60), Slice(0, 1, 100, 200, 40), Slice(1, 0, 0, 50, 50)]
    catalog.import_tasks.plan(task.id, slices)
    catalog.import_tasks.plan(task.id, slices[:1])  # a validation that runs again
    assert catalog.import_tasks.slices(task.id) == slices
    assert catalog.import_tasks.record_slices(task.id, 0, {1: 40}) == (40, 150)
    assert catalog.import_tasks.record_slices(task.id, 1, {0: 10}) == (50, 150)
    assert catalog.import_tasks.record_slices(task.id, 0, {1: 0}) == (10, 150)  # begun again by another worker


def test_rate_and_time_left_follow_from_what_is_recorded(catalog: Catalog) -> None:
    tasks, task = catalog.import_tasks, new_task()
    disk = ImportedDisk(0, None, "RAW", 1, 1, "/dev/sda1", "snap-1")
    add(catalog, task)
    tasks.advance(task.id, "validating", 4, ImportFacts(disks=(disk, disk)))
    (shown,) = tasks.active()
    assert (shown.conversion, shown.rate, shown.seconds_left(datetime.now(UTC))) == ((), None, None)
    tasks.plan(task.id, [Slice(0, 0, 0, 100, 60), Slice(0, 1, 100, 200, 40)])
    tasks.record_slices(task.id, 0, {0: 30}, read=10, written=20)
    tasks.record_slices(task.id, 0, {0: 60, 1: 20}, read=1, written=2)
    (shown,) = tasks.active()
    assert shown.conversion == (DiskConversion(80, 100), DiskConversion(0, 0))
    assert (shown.bytes_read, shown.bytes_written, shown.done_before, shown.read_before) == (11, 22, 30, 10)
    since = shown.measured_since
    assert since is not None
    later = replace(shown, recorded_at=since + timedelta(seconds=5))
    assert later.rate == 10
    assert later.seconds_left(since + timedelta(seconds=6)) == pytest.approx(1)
    assert later.seconds_left(since + timedelta(seconds=20)) == 0
    again = replace(later, conversion=(DiskConversion(10, 100),))  # a worker died with what it had in hand
    assert (again.rate, again.seconds_left(since)) == (None, None)
    assert tasks.counts() == {"active": 1}


def test_the_time_left_of_a_packed_disk_follows_from_what_is_stored_too() -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    disk = ImportedDisk(0, None, "VMDK", 260, 1000, "/dev/sda1", "snap-1")
    half = replace(
        new_task(),
        facts=ImportFacts(disks=(disk,)),
        conversion=(DiskConversion(250, 1000),),  # its stored bytes are not evenly spread
        measured_since=since,
        recorded_at=since + timedelta(seconds=5),
        read_before=10,
        bytes_read=10 + 250 * 3 // 4,
    )
    left = half.seconds_left(since + timedelta(seconds=5))
    assert left is not None
    assert 5 * 1 / 3 < left < 5 * 3  # between what stored bytes alone would say, and guest bytes alone
    of_snapshot = replace(half, request=replace(half.request, containers=(DiskContainer(snapshot_id="snap-2"),)))
    assert of_snapshot.seconds_left(since + timedelta(seconds=5)) == 15  # nothing of it is in the object store
    done = replace(half, conversion=(DiskConversion(1000, 1000),))
    assert done.seconds_left(since + timedelta(seconds=5)) == 0  # whatever else lies in its file


def test_a_cancelled_task_refuses_to_go_on(catalog: Catalog) -> None:
    task = new_task()
    add(catalog, task)
    assert catalog.import_tasks.cancel(HERE, task.id, "User initiated task cancelation") == "active"
    assert catalog.import_tasks.cancel(HERE, task.id, "again") == "deleting"
    steps: tuple[Callable[[], object], ...] = (
        lambda: catalog.import_tasks.advance(task.id, "converting", 20),
        lambda: catalog.import_tasks.plan(task.id, []),
        lambda: catalog.import_tasks.complete(task.id, new_image()),
    )
    for go_on in steps:
        with pytest.raises(TaskCancelledError):
            go_on()
    catalog.import_tasks.fail(task.id, "too late")
    catalog.import_tasks.mark_deleted(task.id)
    ended = catalog.import_tasks.get(task.id)
    assert (ended.status, ended.reason) == ("deleted", "User initiated task cancelation")
    with pytest.raises(ConflictError) as refused:
        catalog.import_tasks.cancel(HERE, task.id, "r")
    assert refused.value.facts["code"] == "DeleteConversionTaskError"


def test_a_task_waits_until_it_moves(catalog: Catalog) -> None:
    task = new_task()
    add(catalog, task)
    since = catalog.import_tasks.wait(task.id, "waiting for the object store")
    assert catalog.import_tasks.wait(task.id, "waiting still") == since
    assert catalog.import_tasks.get(task.id).waiting_for == "waiting still"
    catalog.import_tasks.advance(task.id, "pending", 1)  # the step begins again
    assert catalog.import_tasks.get(task.id).waiting_since == since
    catalog.import_tasks.advance(task.id, "converting", 20)
    assert catalog.import_tasks.get(task.id).waiting_for is None


def test_completing_registers_the_image_and_its_snapshots_in_one_go(catalog: Catalog) -> None:
    task = new_task()
    add(catalog, task)
    catalog.snapshots.begin(new_snapshot(state="pending", task_id=task.id))
    image = new_image()
    assert catalog.import_tasks.complete(task.id, image) == image.id
    assert catalog.import_tasks.complete(task.id, new_image(2, "other")) == image.id  # run again
    assert catalog.images.describe(HERE) == [image]
    assert catalog.snapshots.describe(HERE)[0].state == "completed"
    assert catalog.import_tasks.get(task.id).status == "completed"


def test_a_name_in_use_leaves_the_task_as_it_was(catalog: Catalog) -> None:
    for number in (1, 2):
        add(catalog, new_task(number))
        catalog.snapshots.begin(new_snapshot(number, state="pending"))
    catalog.import_tasks.complete(new_task(1).id, new_image(1))
    with pytest.raises(ConflictError) as refused:
        catalog.import_tasks.complete(new_task(2).id, new_image(2, snapshot=2))
    assert refused.value.facts["code"] == "InvalidAMIName.Duplicate"
    assert catalog.import_tasks.get(new_task(2).id).status == "active"
    assert catalog.snapshots.describe(HERE, [new_snapshot(2).id])[0].state == "pending"


def test_a_snapshot_of_an_image_is_in_use_until_the_image_is_deregistered(catalog: Catalog) -> None:
    task = new_task()
    add(catalog, task)
    catalog.snapshots.begin(new_snapshot())
    image = new_image()
    catalog.import_tasks.complete(task.id, image)
    with pytest.raises(ConflictError) as refused:
        catalog.snapshots.remove(HERE, new_snapshot().id)
    assert refused.value.facts["code"] == "InvalidSnapshot.InUse"
    assert image.id in str(refused.value)
    catalog.images.deregister(HERE, image.id)
    assert catalog.snapshots.remove(HERE, new_snapshot().id).id == new_snapshot().id
    assert catalog.snapshots.describe(HERE) == []


def test_a_snapshot_that_is_being_written_is_not_removed(catalog: Catalog) -> None:
    catalog.snapshots.begin(new_snapshot(state="pending", task_id="import-ami-1"))
    with pytest.raises(ConflictError):
        catalog.snapshots.remove(HERE, new_snapshot().id)


def test_missing_images_are_all_named(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError, match=r"The image ids '\[ami-1, ami-2\]' do not exist"):
        catalog.images.describe(HERE, ["ami-2", "ami-1"])


def test_tags_go_with_what_they_are_on(catalog: Catalog) -> None:
    task = new_task()
    catalog.import_tasks.add(task, {"b": "2", "a": "1"}, None, "f", 20)
    catalog.snapshots.begin(new_snapshot())
    snapshot_id = new_snapshot().id
    catalog.tags.put(HERE, [task.id, snapshot_id], {"a": "new", "c": ""})
    assert catalog.tags.of([task.id, snapshot_id]) == {
        task.id: {"a": "new", "b": "2", "c": ""},
        snapshot_id: {"a": "new", "c": ""},
    }
    catalog.tags.remove(HERE, [task.id], {"a": "other value", "b": None, "never": None})
    assert catalog.tags.of([task.id])[task.id] == {"a": "new", "c": ""}
    catalog.tags.remove(HERE, [task.id], None)
    catalog.snapshots.remove(HERE, snapshot_id)
    assert catalog.tags.page(HERE, ALL, None, 9) == []


def test_tagging_is_all_or_nothing(catalog: Catalog) -> None:
    task = new_task()
    add(catalog, task)
    with pytest.raises(NotFoundError):
        catalog.tags.put(HERE, [task.id, "ami-00000000000000000"], {"k": "v"})
    with pytest.raises(ConflictError) as refused:
        catalog.tags.put(HERE, [task.id], {f"k{n}": "v" for n in range(51)})
    assert refused.value.facts["code"] == "TagLimitExceeded"
    assert catalog.tags.page(HERE, ALL, None, 9) == []


def test_the_dispatcher_sees_what_is_not_told_yet(catalog: Catalog) -> None:
    first, second = new_task(1), new_task(2)
    add(catalog, first)
    add(catalog, second)
    assert catalog.import_tasks.undispatched() == [first.id, second.id]
    catalog.import_tasks.mark_dispatched(first.id)
    assert catalog.import_tasks.undispatched() == [second.id]
    catalog.import_tasks.cancel(HERE, first.id, "r")
    assert catalog.import_tasks.uncancelled() == [first.id]
    catalog.import_tasks.mark_cancel_sent(first.id)
    assert catalog.import_tasks.uncancelled() == []
    assert catalog.import_tasks.unfinished() == [first.id, second.id]
    catalog.import_tasks.mark_deleted(first.id)
    assert catalog.import_tasks.unfinished() == [second.id]
