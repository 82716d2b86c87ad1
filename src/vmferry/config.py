"""What an installation is: its data directory, its regions, its workers. Read once, at the start."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from vmferry.errors import ConfigError, quote
from vmferry.quotas import AWS, Quotas, read_quotas

DEFAULT_PORT = 8773
MAX_DEFAULT_WORKERS = 8
"""Workers that are started unasked; each takes about 100 MiB at rest."""

DEFAULT_REGIONS = ("us-east-1", "us-west-2")
CONFIG_FILE = "config.toml"
PREFLIGHTS = ("vmferry", "aws", "off")
CHOICES = ("none", "auto")
"""Of ``prepare`` and ``boot_check``."""


def default_data_dir() -> Path:
    """``$VMFERRY_DATA_DIR``, else ``$XDG_DATA_HOME/vmferry``, else ``~/.local/share/vmferry``."""
    if chosen := os.environ.get("VMFERRY_DATA_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "vmferry"


@dataclass(frozen=True, slots=True)
class Config:
    """One installation. Every path it owns lies below ``data_dir``."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    regions: tuple[str, ...] = DEFAULT_REGIONS
    """The regions that exist, the default one first; each has its own catalog namespace and store prefix."""
    workers: int = field(default_factory=lambda: min(os.cpu_count() or 1, MAX_DEFAULT_WORKERS))
    """Worker processes."""
    stall_seconds: float = 600.0
    """How long a step of a task may move no byte before it is begun again."""
    give_up_seconds: float = 24 * 3600.0
    """How long a task may wait for something that fails (S3 gone, a full disk) before it fails itself."""
    limits: Quotas = AWS
    """How much may be asked: the table ``limits`` names a profile, and each value that differs from it."""
    preflight: str = "vmferry"
    """By whose rules a machine is judged before it is imported: ``vmferry``, ``aws``, or ``off``."""
    prepare: str = "none"
    """Whether guests are prepared for the hardware here when the request does not say: ``none`` or ``auto``."""
    prepare_seconds: float = 3600.0
    """How long virt-v2v may take to prepare a guest; guestfish takes a quarter of an hour at the most."""
    guestfish: str = "guestfish"
    """The program, or its path, that writes to file systems which our own writer does not know; ``none`` for none."""
    virt_v2v: str = "virt-v2v-in-place"
    """The program, or its path, that prepares guests which are not prepared by our own means; ``none`` for none."""
    boot_check: str = "none"
    """Whether machines are started once before there is an AMI when the request does not say: ``none`` or ``auto``."""
    boot_seconds: float = 1200.0
    """How long a machine may take to show that it starts."""
    evidence_days: float = 30.0
    """How long what a boot check saw is kept."""
    evidence_bucket: str | None = None
    """Where it is put as objects, in an S3 service of one's own; it is there already. In the embedded one it goes to a
    bucket of the account's."""
    s3_endpoint: str | None = None
    """``http(s)://host[:port]`` of an S3 service of one's own; else the embedded SeaweedFS is started."""
    s3_access_key_id: str | None = None
    """Who reads there, for all accounts. Without keys they are looked for where AWS's own tools look."""
    s3_secret_access_key: str | None = None
    s3_region: str | None = None
    """The region to sign for there; else the task's."""

    @property
    def default_region(self) -> str:
        return self.regions[0]

    @property
    def catalog_url(self) -> str:
        return f"sqlite:///{self.data_dir / 'catalog.sqlite'}"

    @property
    def credentials_path(self) -> Path:
        """The first account's keys, mode 0600."""
        return self.data_dir / "credentials.json"

    @property
    def receipt_key_path(self) -> Path:
        """The key that receipts are signed with, mode 0600; made when the first is written."""
        return self.data_dir / "receipts.key"

    @property
    def token_key_path(self) -> Path:
        """The key of the tokens that the EBS direct API gives out, mode 0600; made at the first start."""
        return self.data_dir / "tokens.key"

    @property
    def endpoint_path(self) -> Path:
        """Where a running server says how to reach it."""
        return self.data_dir / "endpoint.json"

    @property
    def images_dir(self) -> Path:
        """The disk images behind snapshots."""
        return self.data_dir / "images"

    @property
    def evidence_dir(self) -> Path:
        """What boot checks saw: a folder for each task."""
        return self.data_dir / "evidence"

    @property
    def slices_dir(self) -> Path:
        """How far slices are that workers have in hand: a folder for each import."""
        return self.data_dir / "slices"

    @property
    def exports_dir(self) -> Path:
        """The plans of exports, and what is packed and not in S3 yet: a folder for each."""
        return self.data_dir / "exports"

    @property
    def log_dir(self) -> Path:
        return self.data_dir / "log"


def load_config(data_dir: Path, **overrides: Any) -> Config:
    """The configuration of ``data_dir``: its ``config.toml``, if it has one, under ``overrides`` that are not ``None``.

    Raises ``ConfigError`` for a file that is not TOML, an unknown key or a value of the wrong type.
    """
    path = data_dir / CONFIG_FILE
    values: dict[str, Any] = {}
    if path.exists():
        try:
            values = tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{quote(path)} cannot be read: {quote(error)}. Mend or remove it.") from error
    known = {f.name for f in fields(Config)} - {"data_dir"}
    if unknown := sorted(values.keys() - known):
        raise ConfigError(f"{quote(path)}: unknown key {quote(unknown[0])}; known keys are {', '.join(sorted(known))}.")
    if "regions" in values:
        values["regions"] = tuple(values["regions"])
    if "limits" in values:
        try:
            values["limits"] = read_quotas(values["limits"])
        except ConfigError as error:
            raise ConfigError(f"{quote(path)}: {error}") from error
    config = Config(data_dir=data_dir.absolute(), **{**values, **{k: v for k, v in overrides.items() if v is not None}})
    _check(config, path)
    return config


def _check(config: Config, path: Path) -> None:
    if not config.regions or not all(isinstance(region, str) and region for region in config.regions):
        raise ConfigError(f"{quote(path)}: regions must be a list of at least one name.")
    if not isinstance(config.workers, int) or not 1 <= config.workers <= 256:
        raise ConfigError(f"{quote(path)}: workers must be a number from 1 to 256, not {quote(config.workers)}.")
    if not isinstance(config.port, int) or not 0 <= config.port <= 65535:
        raise ConfigError(f"The port must be a number from 0 to 65535, not {quote(config.port)}.")
    if config.preflight not in PREFLIGHTS:
        known = ", ".join(PREFLIGHTS)
        raise ConfigError(f"{quote(path)}: preflight must be one of {known}, not {quote(config.preflight)}.")
    for name in ("prepare", "boot_check"):
        if (value := getattr(config, name)) not in CHOICES:
            raise ConfigError(f"{quote(path)}: {name} must be one of {', '.join(CHOICES)}, not {quote(value)}.")
    for name in ("prepare_seconds", "boot_seconds", "evidence_days"):
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigError(f"{quote(path)}: {name} must be a number above 0, not {quote(value)}.")
    for name in ("guestfish", "virt_v2v"):
        value = getattr(config, name)
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{quote(path)}: {name} is the program's name or path, or none; not {quote(value)}.")
    _check_s3(config, path)


def _check_s3(config: Config, path: Path) -> None:
    given = [config.s3_access_key_id, config.s3_secret_access_key, config.s3_region, config.evidence_bucket]
    if config.s3_endpoint is None and any(value is not None for value in given):
        raise ConfigError(
            f"{quote(path)}: s3_access_key_id, s3_secret_access_key, s3_region and evidence_bucket need s3_endpoint."
        )
    if not all(value is None or isinstance(value, str) for value in (config.s3_endpoint, *given)):
        raise ConfigError(
            f"{quote(path)}: s3_endpoint, s3_access_key_id, s3_secret_access_key, s3_region, evidence_bucket are text."
        )
