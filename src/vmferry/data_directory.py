"""A data directory in the hands of whoever runs its server: accounts and their keys, receipts, where images lie.

For commands on the server's machine, whether it runs or not. Nothing here speaks to the server.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from vmferry.blob import FileBlob
from vmferry.catalog import Catalog, open_catalog
from vmferry.catalog.accounts import AccessKey, Accounts, new_access_key
from vmferry.catalog.volumes import CREATING
from vmferry.config import Config
from vmferry.embedded import seaweedfs
from vmferry.embedded.lock import DataDirectoryLock
from vmferry.errors import ConfigError, NotFoundError, StoreError, quote
from vmferry.formats.qcow2.growth import grow_image
from vmferry.formats.qcow2.header import read_header
from vmferry.private_file import make_private_file
from vmferry.stores.local import LocalStore
from vmferry.units import GIB, to_gib

_KNOWN_SECONDS = 10.0
"""How long a new key is waited for."""

_FIRST_ACCOUNT = "default"
"""Its name."""


def first_account(config: Config, catalog: Catalog) -> AccessKey:
    """The keys in ``credentials.json``; made at random, with their account, at the first start."""
    key = _read_credentials(config)
    if key is None:
        key = new_access_key()
        make_private_file(config.credentials_path, json.dumps(asdict(key)).encode())
    catalog.accounts.add(key, _FIRST_ACCOUNT)
    return key


def _read_credentials(config: Config) -> AccessKey | None:
    path = config.credentials_path
    if not path.exists():
        return None
    try:
        return AccessKey(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{quote(path)} does not hold an account's keys: {quote(error)}.") from error


def task_receipt(config: Config, task_id: str) -> str:
    """The receipt of a completed import, in text. Raises ``ConfigError``, ``NotFoundError``."""
    with _existing_catalog(config) as catalog:
        receipt = catalog.import_tasks.receipt(task_id)
    if receipt is None:
        raise NotFoundError(f"{quote(task_id)} has no receipt: it is written when an import completes.")
    return receipt


@contextmanager
def open_accounts(config: Config) -> Iterator[Accounts]:
    """The accounts of a data directory, whether its server runs or not. Raises ``ConfigError``."""
    with ExitStack() as life:
        catalog = life.enter_context(_existing_catalog(config))
        with suppress(ConfigError):  # a server runs, which has brought the catalog up to date
            life.enter_context(DataDirectoryLock(config.data_dir))
            catalog.migrate()
        yield catalog.accounts


def remove_access_key(config: Config, access_key_id: str) -> None:
    """Let nobody sign with a key any more. Raises ``ConfigError`` for the one in ``credentials.json``,
    ``NotFoundError``."""
    first = _read_credentials(config)
    if first is not None and first.access_key_id == access_key_id:
        raise ConfigError(
            f"{quote(access_key_id)} is the first account's key in {quote(config.credentials_path)}: each start of the "
            "server takes it from there, so it stays."
        )
    with open_accounts(config) as accounts:
        accounts.remove_key(access_key_id)


def account_key(config: Config, account: str) -> AccessKey:
    """The oldest key of an account, by its name or id. Raises ``ConfigError``, ``NotFoundError``."""
    with _existing_catalog(config) as catalog:
        found = catalog.accounts.get(account)
        key = catalog.accounts.of_account(found.id)
    if key is None:
        raise NotFoundError(f"The account {quote(account)} has no key: `vmferry accounts keys create` makes one.")
    return key


def await_key(config: Config, s3_endpoint: str, key: AccessKey) -> None:
    """Return when the embedded object store of the server that runs knows ``key``. Raises ``StoreError``."""
    until = time.monotonic() + _KNOWN_SECONDS
    while config.s3_endpoint is None and not seaweedfs.is_known(s3_endpoint, key.access_key_id, key.secret_access_key):
        if time.monotonic() > until:
            raise StoreError(f"The key is recorded, but {s3_endpoint} does not know it yet: look at the server's log.")
        time.sleep(0.1)


@contextmanager
def _existing_catalog(config: Config) -> Iterator[Catalog]:
    """The catalog of a data directory that has one. Raises ``ConfigError``."""
    if not (config.data_dir / "catalog.sqlite").exists():
        raise ConfigError(
            f"{quote(config.data_dir)} is not a vmferry data directory: it has no catalog. Name it with --data-dir."
        )
    catalog = open_catalog(config.catalog_url)
    try:
        yield catalog
    finally:
        catalog.close()


def snapshot_path(config: Config, snapshot_id: str) -> Path:
    """Where the disk image of a snapshot lies. Raises ``ConfigError``, ``BlobNotFoundError``."""
    with _existing_catalog(config) as catalog:
        snapshot = catalog.snapshots.find(snapshot_id)
    if snapshot is None:
        raise ConfigError(f"There is no snapshot {quote(snapshot_id)} in {quote(config.data_dir)}.")
    return Path(LocalStore(config.images_dir).locate(snapshot.bucket, snapshot.key))


def volume_path(config: Config, volume_id: str) -> Path:
    """Where the disk image of a volume lies, which from now on shares no bytes with a snapshot: it may be written. One
    of a smaller snapshot then has the size that the volume was asked for with, up to 4 TiB.

    Raises ``ConfigError``, ``BlobNotFoundError``, ``StoreError``.
    """
    with _existing_catalog(config) as catalog:
        volume = catalog.volumes.find(volume_id)
    if volume is None or volume.state == CREATING:
        what = "is being made" if volume is not None else "is not there"
        raise ConfigError(f"The volume {quote(volume_id)} {what} in {quote(config.data_dir)}.")
    images = LocalStore(config.images_dir)
    images.unshare(volume.bucket, volume.key)
    path = Path(images.locate(volume.bucket, volume.key))
    if to_gib(_disk_size(path)) < volume.size_gib:  # else it has the size of the disk that it was imported from
        grow_image(path, volume.size_gib * GIB)
    return path


def _disk_size(image: Path) -> int:
    blob = FileBlob(image)
    try:
        return read_header(blob).active.size
    finally:
        blob.close()
