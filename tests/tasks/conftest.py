"""What the steps of tasks are tried over: a catalog and images in files, and an object store in memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmferry.catalog import open_catalog
from vmferry.config import Config
from vmferry.stores import STORES, Store
from vmferry.stores.local import LocalStore
from vmferry.tasks import Services


@pytest.fixture(scope="session")
def empty_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a catalog without anything: to make one takes longer than to copy it."""
    path = tmp_path_factory.mktemp("empty") / "catalog.sqlite"
    catalog = open_catalog(f"sqlite:///{path}")
    catalog.migrate()
    catalog.close()
    return path


@pytest.fixture
def store() -> Store:
    """The object store of every account."""
    return STORES["memory"].connect({})


@pytest.fixture
def services(tmp_path: Path, store: Store, empty_catalog: Path) -> Iterator[Services]:
    config = Config(data_dir=tmp_path)
    config.images_dir.mkdir()
    shutil.copy(empty_catalog, tmp_path / "catalog.sqlite")
    catalog = open_catalog(config.catalog_url)
    yield Services(config, catalog, lambda _: store, LocalStore(config.images_dir))
    catalog.close()
