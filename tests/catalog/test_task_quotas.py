"""How many tasks may be under way: counted where they are recorded, whoever comes at the same time, at any history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from tests.catalog.test_pages import measure
from vmferry.catalog import Catalog, open_catalog
from vmferry.catalog._schema import ExportTaskRow, ImportTaskRow
from vmferry.catalog.export_tasks import ExportTask
from vmferry.catalog.import_tasks import CONVERSION, IMPORT_IMAGE, IMPORT_SNAPSHOT, ImportRequest, ImportTask
from vmferry.catalog.places import Place
from vmferry.errors import ConflictError

pytestmark = pytest.mark.slow

HERE = Place("us-east-1", "111122223333")
OTHERS = (Place("us-west-2", "111122223333"), Place("us-east-1", "999900001111"))
NOW = datetime(2026, 11, 27, 15, tzinfo=UTC)
MOST = 4

Add = Callable[[Catalog, int, Place], object]


def import_task(kind: str, number: int, place: Place) -> ImportTask:
    return ImportTask(f"{kind}-{number:09x}{place.region}{place.account_id}"[:48], place, NOW, ImportRequest(()), kind)


def add_import(catalog: Catalog, number: int, place: Place) -> str:
    kind = (IMPORT_IMAGE, IMPORT_SNAPSHOT)[number % 2]  # both count for the one quota
    return catalog.import_tasks.add(import_task(kind, number, place), {}, None, "f", MOST)


def add_conversion(catalog: Catalog, number: int, place: Place) -> None:
    catalog.conversion_tasks.add(import_task(CONVERSION, number, place), [], None, MOST)


def add_export(catalog: Catalog, number: int, place: Place) -> str:
    name = f"export-{number}-{place.region}-{place.account_id}"
    task = ExportTask(name, place, NOW, f"ami-{name}"[:32], "RAW", "b", "", "k")
    if number % 2:
        task = replace(task, image_id=None, instance_id=f"i-{name}"[:32], target_environment="vmware")
    return catalog.export_tasks.add(task, {}, None, "f", MOST)


ADDS: dict[str, Add] = {"imports": add_import, "conversions": add_conversion, "exports": add_export}
LIMITS = {"imports": "import (image|snapshot)", "conversions": "import volume", "exports": "export (image|instance)"}


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = open_catalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    opened.migrate()
    yield opened
    opened.close()


@pytest.mark.parametrize("noun", ADDS)
def test_of_many_that_come_at_once_as_many_as_may_be_are_recorded(catalog: Catalog, noun: str) -> None:
    def attempt(number: int) -> str | None:
        try:
            ADDS[noun](catalog, number, HERE)
        except ConflictError as error:
            return str(error.facts["code"])
        return None

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(attempt, range(24)))
    assert ends.count(None) == MOST
    assert set(ends) == {None, "ResourceCountLimitExceeded"}
    for place in OTHERS:  # whose accounts and regions have quotas of their own
        ADDS[noun](catalog, 1, place)
    with pytest.raises(ConflictError, match=rf"^Concurrent {LIMITS[noun]} tasks limit \(4\) reached \| 4 tasks"):
        ADDS[noun](catalog, 99, HERE)


def test_kinds_have_quotas_of_their_own(catalog: Catalog) -> None:
    for number in range(MOST):
        for add in ADDS.values():
            add(catalog, number, HERE)


def test_what_is_cancelled_counts_until_it_has_ended(catalog: Catalog) -> None:
    ids = [add_import(catalog, number, HERE) for number in range(MOST)]
    catalog.import_tasks.cancel(HERE, ids[0], "enough")
    with pytest.raises(ConflictError):
        add_import(catalog, 10, HERE)
    catalog.import_tasks.mark_deleted(ids[0])
    add_import(catalog, 10, HERE)


def test_a_request_that_is_repeated_at_the_limit_is_answered_as_before(catalog: Catalog) -> None:
    def ask(number: int, token: str) -> str:
        task = import_task(IMPORT_IMAGE, number, HERE)
        return catalog.import_tasks.add(task, {}, token, "f", MOST)

    ids = [ask(number, f"token-{number}") for number in range(MOST)]
    assert ask(50, "token-2") == ids[2]
    with pytest.raises(ConflictError):
        ask(51, "new")
    catalog.import_tasks.complete(ids[0], None)
    assert ask(51, "new") not in ids  # the refused request did not use its token up


def finished(count: int) -> dict[type[Any], list[dict[str, Any]]]:
    """Tasks of ``HERE`` that have ended."""
    common = {
        "region": HERE.region, "account_id": HERE.account_id, "created_at": NOW, "status": "completed",
        "stage": "", "progress": 100, "dispatched": True, "cancel_sent": False,
    }  # fmt: skip
    imports: dict[str, Any] = {"request": {}, "facts": {}}
    exports = {"image_id": None, "instance_id": None, "format": "RAW", "bucket": "b", "prefix": "", "key": "k"}
    kinds = (IMPORT_IMAGE, IMPORT_SNAPSHOT, CONVERSION)
    return {
        ImportTaskRow: [{**common, **imports, "id": f"old-{n}", "kind": kinds[n % 3]} for n in range(count)],
        ExportTaskRow: [{**common, **exports, "id": f"old-{n}", "image_id": f"ami-old{n}"} for n in range(count)],
    }


@pytest.mark.parametrize("noun", ADDS)
def test_counting_costs_the_same_after_ten_thousand_tasks(tmp_path: Path, noun: str) -> None:
    costs = []
    for count in (10, 10_000):
        catalog = open_catalog(f"sqlite:///{tmp_path / f'{count}.sqlite'}")
        catalog.migrate()
        with catalog._database.write() as session:
            for table, rows in finished(count).items():
                session.execute(insert(table), rows)
        numbers = iter(range(MOST))
        costs.append(measure(catalog, lambda one, numbers=numbers: ADDS[noun](one, next(numbers), HERE)))  # type: ignore[misc]
        catalog.close()
    assert costs[1].statements == costs[0].statements
    assert costs[1].steps <= 2 * costs[0].steps
