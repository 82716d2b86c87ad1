"""Where ``convert`` writes to: a local file, or an object in S3."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from vmferry.blob import BlobWriter, KeptBlobWriter
from vmferry.cli._source import SCHEME, connect_object
from vmferry.stores.local import create_file, resume_file


class Destination(Protocol):
    """What is to be made, under the name that the user gave it."""

    @property
    def name(self) -> str:
        """As it was given: a path, or ``s3://bucket/key``."""

    @property
    def path(self) -> Path:
        """Its name as a path, for its last part, stem and suffix; a file only where it ``is_local``."""

    is_local: bool

    def create(self) -> BlobWriter:
        """What makes it: it appears when it is whole. Raises ``StoreError``."""

    def resume(self) -> tuple[Path, KeptBlobWriter]:
        """What goes on with making it, or begins, and where notes of it are kept: beside that path. Raises
        ``StoreError``, also where another process makes it just now."""

    def stored(self) -> int:
        """Bytes that it takes up where it lies, once it is there."""


class FileDestination:
    """A local file."""

    is_local = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = Path(name)

    def create(self) -> BlobWriter:
        return create_file(self.path, sync=False)

    def resume(self) -> tuple[Path, KeptBlobWriter]:
        # Beside the file itself: through another link to it the notes would be others, or be missed.
        return Path(os.path.realpath(self.path)), resume_file(self.path)

    def stored(self) -> int:
        return self.path.stat().st_blocks * 512


class ObjectDestination:
    """An object in S3, reached as ``AWS_*`` variables say."""

    is_local = False

    def __init__(self, name: str, memory: int) -> None:
        """An upload of it may hold ``memory`` bytes.

        Raises ``ConfigError`` and ``StoreError`` for what is no such URL, and where no S3 can be reached so.
        """
        self.name = name
        self._store, self._bucket, self._key = connect_object(name)
        self._memory = memory
        self.path = Path(self._key)

    def create(self) -> BlobWriter:
        return self._store.upload(self._bucket, self._key, self._memory)

    def resume(self) -> tuple[Path, KeptBlobWriter]:
        folder = _state_folder(self._store.endpoint, self.name)
        return folder / "upload", self._store.keep_upload(self._bucket, self._key, folder, self._memory)

    def stored(self) -> int:
        return self._store.open(self._bucket, self._key).size


def open_destination(name: str, memory: int) -> Destination:
    """The destination that ``name`` means; an upload may hold ``memory`` bytes."""
    return ObjectDestination(name, memory) if name.startswith(SCHEME) else FileDestination(name)


def _state_folder(endpoint: str, name: str) -> Path:
    """Where that is kept which is not in S3 yet of the object ``name``."""
    import hashlib  # OpenSSL's library takes two milliseconds to load

    state = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    return Path(state) / "vmferry" / hashlib.sha256(f"{endpoint} {name}".encode()).hexdigest()[:32]
