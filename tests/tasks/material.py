"""What the steps of imports are tried with."""

from __future__ import annotations

from pathlib import Path

from vmferry.catalog.places import Place
from vmferry.tasks import Services

PLACE = Place("us-east-1", "111122223333")


def put_object(services: Services, path: Path, key: str = "disk.raw") -> None:
    """Put the file at ``path`` where imports look for it: ``s3://imports/disk.raw``."""
    writer = services.objects(PLACE).create("imports", key)
    writer.write_at(0, path.read_bytes())
    writer.finish()
