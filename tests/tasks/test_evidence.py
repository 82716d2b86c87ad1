"""What a boot check saw can be had from the object store, by the task's tags, for as long as the configuration says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vmferry.catalog import open_catalog
from vmferry.catalog.accounts import AccessKey
from vmferry.catalog.import_tasks import DiskContainer, ImportRequest, ImportTask
from vmferry.catalog.places import Place
from vmferry.config import Config
from vmferry.errors import StoreUnavailableError
from vmferry.guest.boot_check import BootOutcome, HardwareProfile, Reached
from vmferry.runtime.leftovers import remove_forgotten
from vmferry.stores import STORES, Store
from vmferry.stores.local import LocalStore
from vmferry.tasks import Services
from vmferry.tasks.import_image.evidence import keep

PLACE = Place("us-east-1", "111122223333")
NOW = datetime.now(UTC)
SEEN = BootOutcome(
    False, Reached.KERNEL, "It panics.", 7.0, "tcg", HardwareProfile(), 0, b"Kernel panic\r\n", b"\x89PNG", ""
)
KEPT = {"serial.log": b"Kernel panic\r\n", "screen.png": b"\x89PNG"}


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    catalog = open_catalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    catalog.migrate()
    catalog.accounts.add(AccessKey("AKIA1", "secret", PLACE.account_id), "team-b")
    store = STORES["memory"].connect({})
    (tmp_path / "images").mkdir()
    yield Services(Config(data_dir=tmp_path), catalog, lambda _: store, LocalStore(tmp_path / "images"))
    catalog.close()


def begin(services: Services) -> ImportTask:
    task = ImportTask("import-ami-1", PLACE, NOW, ImportRequest((DiskContainer(bucket="b", key="k", format="RAW"),)))
    services.catalog.import_tasks.add(task, {"team": "b"}, None, "", most=20)
    return task


def objects(services: Services, bucket: str = "team-b-evidence") -> dict[str, bytes]:
    store = services.objects(PLACE)
    found = {}
    for key in store.keys(bucket):
        blob = store.open(bucket, key)
        found[key] = bytes(blob.read_at(0, blob.size))
    return found


def tags(services: Services) -> dict[str, str]:
    return services.catalog.tags.of(["import-ami-1"])["import-ami-1"]


def test_it_lies_in_the_accounts_bucket_and_the_tasks_tags_say_where(services: Services) -> None:
    task = begin(services)
    keep(services, task, SEEN)
    told = keep(services, task, SEEN)  # a step that is run again
    assert objects(services) == {f"import-ami-1/{name}": content for name, content in KEPT.items()}
    assert told == {f"vmferry:evidence:{name}": f"s3://team-b-evidence/import-ami-1/{name}" for name in KEPT}
    assert tags(services) == {"team": "b", **told}


def test_in_an_s3_service_of_ones_own_it_lies_where_the_configuration_says(services: Services) -> None:
    task, config = begin(services), replace(services.config, s3_endpoint="https://s3.example.org")
    services = replace(services, config=config)
    assert keep(services, task, SEEN) == {}
    services = replace(services, config=replace(config, evidence_bucket="audit"))
    assert set(keep(services, task, SEEN).values()) == {f"s3://audit/import-ami-1/{name}" for name in KEPT}
    assert set(objects(services, "audit")) == {f"import-ami-1/{name}" for name in KEPT}


def test_without_the_object_store_the_files_are_still_kept(services: Services) -> None:
    dead = replace(services, objects=lambda _: dead_store())
    assert keep(dead, begin(services), SEEN) == {}
    folder = services.config.evidence_dir / "import-ami-1"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == KEPT
    assert tags(services) == {"team": "b"}


def dead_store() -> Store:
    raise StoreUnavailableError("The store is not there.")


def test_old_evidence_goes_with_its_objects_and_its_tags(services: Services) -> None:
    keep(services, begin(services), SEEN)
    folder = services.config.evidence_dir / "import-ami-1"
    unknown = services.config.evidence_dir / "import-ami-2"
    unknown.mkdir()
    (services.config.evidence_dir / "note").touch()  # somebody else's
    remove_forgotten(services, NOW + timedelta(days=29))
    assert len(objects(services)) == 2
    dead = replace(services, objects=lambda _: dead_store())
    remove_forgotten(dead, NOW + timedelta(days=31))
    assert folder.is_dir(), "its objects could not be removed: it is tried again"
    assert not unknown.exists(), "of a task that nobody knows"
    remove_forgotten(services, NOW + timedelta(days=31))
    assert objects(services) == {}
    assert tags(services) == {"team": "b"}
    assert [path.name for path in services.config.evidence_dir.iterdir()] == ["note"]


def test_how_long_it_is_kept_is_configured(services: Services) -> None:
    keep(services, begin(services), SEEN)
    folder = services.config.evidence_dir / "import-ami-1"
    old = (NOW - timedelta(days=2)).timestamp()
    os.utime(folder, (old, old))
    remove_forgotten(services, NOW)
    assert folder.is_dir()
    remove_forgotten(replace(services, config=replace(services.config, evidence_days=1.5)), NOW)
    assert not folder.exists()
