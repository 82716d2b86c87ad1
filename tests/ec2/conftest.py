"""A running gateway for the tests of this room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ec2.running_gateway import (
    ACCOUNT,
    KEY,
    OTHER_ACCOUNT,
    OTHER_KEY,
    REGIONS,
    ROOMY,
    SECRET,
    Endpoint,
    GatewayRunner,
    run_gateway,
)
from vmferry.catalog import open_catalog
from vmferry.catalog.accounts import AccessKey
from vmferry.ec2.actions import ACTIONS
from vmferry.ec2.services import Services
from vmferry.stores import STORES


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """An empty catalog, and stores in memory."""
    catalog = open_catalog(f"sqlite:///{tmp_path_factory.mktemp('catalog') / 'catalog.sqlite'}")
    catalog.migrate()
    for key, account in ((KEY, ACCOUNT), (OTHER_KEY, OTHER_ACCOUNT)):
        catalog.accounts.add(AccessKey(key, SECRET, account))
    store = STORES["memory"].connect({})
    yield Services(
        regions=REGIONS,
        catalog=catalog,
        objects=lambda place: store,
        s3_endpoint=None,
        images=store,
        quotas=ROOMY,
        wake=lambda: None,
    )
    catalog.close()


@pytest.fixture(scope="session")
def serve(services: Services) -> GatewayRunner:
    """Serve actions of the test's own."""
    return lambda actions: run_gateway(actions, services)


@pytest.fixture(scope="session")
def endpoint(serve: GatewayRunner) -> Iterator[Endpoint]:
    """The gateway with the actions that vmferry has."""
    with serve(ACTIONS) as running:
        yield running
