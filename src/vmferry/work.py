"""From a configuration to a worker: what tasks work with, and nothing of what a server has besides.

A worker's memory is counted: neither the HTTP server nor EC2's model is loaded for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import lru_cache

import structlog

from vmferry.catalog import Catalog, open_catalog
from vmferry.catalog.places import Place
from vmferry.config import Config
from vmferry.errors import ConfigError, quote
from vmferry.guest.scratch import remove_abandoned
from vmferry.runtime.worker import run_worker
from vmferry.stores import Store
from vmferry.stores.local import LocalStore
from vmferry.stores.s3 import S3Options, S3Store
from vmferry.tasks import Services

UMASK = 0o077
"""Keys and disks are for whoever runs the server, even in a data directory that others may enter."""


def work(config: Config, temporal_address: str, s3_endpoint: str, on_ready: Callable[[], None]) -> None:
    """Be a worker until SIGTERM; ``on_ready`` is called once all is loaded."""
    os.umask(UMASK)
    configure_logs()
    for folder in remove_abandoned():
        structlog.get_logger("vmferry.runtime").info("what a killed process left was removed", folder=str(folder))
    run_worker(open_services(config, s3_endpoint), temporal_address, on_ready)


def open_services(config: Config, s3_endpoint: str, retry_seconds: float = 60.0) -> Services:
    """What tasks and actions work with, over the catalog and the stores of ``config``.

    ``retry_seconds`` is how long one request to the object store is tried again before it counts as failed.
    """
    catalog = open_catalog(config.catalog_url)

    connect = lru_cache(maxsize=64)(S3Store)

    def objects(place: Place) -> Store:  # by its options: keys come and go
        return connect(_s3_options(config, catalog, place, s3_endpoint, retry_seconds))

    config.images_dir.mkdir(parents=True, exist_ok=True)
    return Services(
        config=config, catalog=catalog, objects=objects, images=LocalStore(config.images_dir), s3_endpoint=s3_endpoint
    )


def _s3_options(config: Config, catalog: Catalog, place: Place, s3_endpoint: str, retry_seconds: float) -> S3Options:
    """How the objects of ``place`` are reached: in the embedded store with its account's keys."""
    if config.s3_endpoint is not None:
        return own_s3_options(config, place.region, s3_endpoint, retry_seconds)
    key = catalog.accounts.of_account(place.account_id)
    if key is None:
        raise ConfigError(f"The account {quote(place.account_id)} has no access key.")
    return S3Options(
        endpoint=s3_endpoint,
        access_key_id=key.access_key_id,
        secret_access_key=key.secret_access_key,
        region=place.region,
        allow_http=True,
        retry_seconds=retry_seconds,
    )


def own_s3_options(config: Config, region: str, s3_endpoint: str, retry_seconds: float) -> S3Options:
    """How an S3 service of the user's own is reached. Raises ``ConfigError`` for options that cannot work."""
    options = S3Options(
        endpoint=s3_endpoint,
        access_key_id=config.s3_access_key_id,
        secret_access_key=config.s3_secret_access_key,
        region=config.s3_region or region,
        allow_http=s3_endpoint.startswith("http://"),  # whoever writes it into the configuration wants it
        retry_seconds=retry_seconds,
    )
    options.check()
    return options


def configure_logs() -> None:
    """Structured lines on stderr; one per request, one per thing that went wrong."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
