"""SeaweedFS, the S3 service of an installation that names no other: one process with everything, ``weed mini``."""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import signal
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from vmferry.blob import foreign_error
from vmferry.embedded.child import Command, find_binary
from vmferry.embedded.ports import LOOPBACK
from vmferry.embedded.supervisor import Service, Supervisor
from vmferry.errors import StoreError, StoreUnavailableError, quote
from vmferry.private_file import replace_private_file

NAME = "seaweedfs"
_PARTS = ("master", "volume", "filer", "s3", "admin")
PORT_NAMES = tuple(f"{NAME}.{part}{suffix}" for part in _PARTS for suffix in ("", ".grpc"))
"""What ``load_ports`` shall choose for it."""

REGION = "us-east-1"
"""What ``ensure_bucket`` signs for; SeaweedFS takes any region."""
_ALL_ACTIONS = ("Admin", "Read", "Write", "List", "Tagging")
_OWN_BUCKET = "vmferry-internal"
_CODE = re.compile(rb"<Code>(\w+)</Code>")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who may do what in S3. An action is ``Read``, ``Write``, ``List``, ``Tagging`` or ``Admin``, for all buckets, for
    one (``Read:bucket``), or for those that begin so (``Read:team-*``). Several of one name are one, with several keys,
    and may do the same."""

    name: str
    access_key_id: str
    secret_access_key: str
    actions: tuple[str, ...] = _ALL_ACTIONS


class SeaweedFS:
    """An S3 service in ``data_dir/seaweedfs``. All it listens on is loopback.

    Access keys guard the S3 port alone; the filer's and the volume server's ports let in whoever reaches loopback.
    Run it where the machine's other users are trusted.
    """

    def __init__(self, data_dir: Path, identities: Sequence[Identity], ports: Mapping[str, int]) -> None:
        """``ports`` has one for each of ``PORT_NAMES``. Nothing is started: that is the supervisor's work."""
        self._folder = data_dir / NAME
        self._log = data_dir / "log" / f"{NAME}.log"
        self._ports = {name.removeprefix(f"{NAME}."): ports[name] for name in PORT_NAMES}
        self._identities = tuple(identities)
        self._names_told: set[str] = set()
        self._config_lock = threading.Lock()
        # Ours alone, for making buckets and to see whether a write goes through. New in each run.
        self._own = Identity("vmferry-internal", secrets.token_hex(10).upper(), secrets.token_urlsafe(30))

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self._ports['s3']}"

    def service(self, order: int = 0) -> Service:
        """What to give to a ``Supervisor``. Raises ``ConfigError`` when SeaweedFS is not installed."""
        command = Command(NAME, self._argv(find_binary("weed")), self._folder, self._log, self._environment())
        self._make_folders()
        return Service(
            command,
            self.is_ready,
            before_start=self._before_start,
            after_stop=self._remove_sockets,
            order=order,
            stop_seconds=6,
        )

    def set_identities(self, identities: Sequence[Identity], supervisor: Supervisor) -> None:
        """Let these identities in from now on, and no others; what runs goes on. Thread-safe. ``StoreError``."""
        self._write_config(tuple(identities))
        supervisor.send_signal(NAME, signal.SIGHUP)  # one that is just starting reads the file anyway

    def ensure_bucket(self, bucket: str) -> None:
        """Make ``bucket`` unless it is there. Raises ``StoreUnavailableError``, ``StoreError``."""
        status, body = self._send("PUT", f"/{bucket}")
        code = _CODE.search(body)
        exists = code is not None and code[1] in (b"BucketAlreadyExists", b"BucketAlreadyOwnedByYou")
        if status != 200 and not exists:
            reason = code[1].decode() if code else "no reason"
            raise StoreError(f"The bucket {quote(bucket)} cannot be made at {self.endpoint}: {status} {reason}.")

    def is_ready(self) -> bool:
        """Whether it answers and a small object can be written, which it takes some seconds for after it answers."""
        try:
            if self._send("GET", "/healthz", signed=False)[0] != 200:
                return False
            self.ensure_bucket(_OWN_BUCKET)
            return self._send("PUT", f"/{_OWN_BUCKET}/ready", b"ready")[0] == 200
        except StoreError:
            return False

    def _send(self, method: str, path: str, body: bytes = b"", *, signed: bool = True) -> tuple[int, bytes]:
        """One request, with our own keys or none."""
        credentials = Credentials(self._own.access_key_id, self._own.secret_access_key) if signed else None
        return _send(self.endpoint, method, path, body, credentials)

    def _argv(self, binary: str) -> tuple[str, ...]:
        """Every port is told, every extra listener is off, and it does not call home (``-master.telemetry``)."""
        places = [f"-{part}.port{'.grpc' * grpc}={port}" for part, grpc, port in self._listed_ports()]
        logging = (f"-logdir={self._folder}/log", "-alsologtostderr=false", "-log_max_size_mb=8", "-log_max_files=3")
        return (
            binary,
            *logging,
            "mini",
            f"-dir={self._folder}/vol",
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",
            *places,
            "-filer.localSocket=filer.sock",  # in its working directory: a socket's path has at most 107 bytes
            "-s3.localSocket=s3.sock",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={self._config_path}",
            "-s3.iam=false",
            "-s3.autoCreateBucket=false",
            "-s3.allowDeleteBucketNotEmpty=false",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
            "-master.electionTimeout=1s",
            "-master.volumeSizeLimitMB=1024",
        )

    def _listed_ports(self) -> list[tuple[str, bool, int]]:
        return [(part, grpc, self._ports[part + ".grpc" * grpc]) for part in _PARTS for grpc in (False, True)]

    def _environment(self) -> dict[str, str]:
        """Not ours: ``weed`` lets in whoever ``AWS_ACCESS_KEY_ID`` names, and reads ``WEED_…`` as options."""
        return {
            "PATH": os.defpath,
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder / "tmp"),
            # 512 MiB up take 8 s of CPU with a limit of 400 MiB, 5 s with 600 and with none: there it only costs room.
            "GOMEMLIMIT": "600MiB",
        }

    @property
    def _config_path(self) -> Path:
        return self._folder / "s3.json"

    def _make_folders(self) -> None:
        try:
            for folder in ("", "vol", "log", "tmp"):
                (self._folder / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise foreign_error(error, str(self._folder)) from error

    def _before_start(self) -> None:
        self._make_folders()
        self._write_config(None)
        self._remove_sockets()

    def _remove_sockets(self) -> None:
        """Their names are fixed in SeaweedFS, whatever TMPDIR says, and it leaves some behind, all after SIGKILL."""
        for part in _PARTS:
            with suppress(OSError):
                Path(f"/tmp/seaweedfs-{part}-grpc-{self._ports[part + '.grpc']}.sock").unlink(missing_ok=True)

    def _write_config(self, identities: tuple[Identity, ...] | None) -> None:
        """Whole or not at all, and never readable by others: it holds secrets. ``None``: the identities as they are.

        An identity that is only left out goes on until SeaweedFS is started again, so it is told as a disabled one.
        """
        with self._config_lock:
            self._identities = self._identities if identities is None else identities
            told = _describe_all((*self._identities, self._own))
            names = {identity.name for identity in self._identities}
            disabled = {"credentials": [], "actions": [], "disabled": True}
            told += [{"name": name, **disabled} for name in sorted(self._names_told - names)]
            self._names_told |= names
            self._write_secret({"identities": told})

    def _write_secret(self, config: Mapping[str, object]) -> None:
        try:
            replace_private_file(self._config_path, json.dumps(config, indent=1).encode())
        except OSError as error:
            raise foreign_error(error, str(self._config_path)) from error


def _describe_all(identities: Iterable[Identity]) -> list[dict[str, object]]:
    """Identities as SeaweedFS reads them, those of one name together."""
    by_name: dict[str, list[Identity]] = {}
    for identity in identities:
        by_name.setdefault(identity.name, []).append(identity)
    return [
        {
            "name": name,
            "credentials": [{"accessKey": one.access_key_id, "secretKey": one.secret_access_key} for one in held],
            "actions": list(held[0].actions),
        }
        for name, held in by_name.items()
    ]


def is_known(endpoint: str, access_key_id: str, secret_access_key: str) -> bool:
    """Whether the S3 service at ``endpoint`` lets the key in. Raises ``StoreUnavailableError``."""
    return _send(endpoint, "GET", "/", credentials=Credentials(access_key_id, secret_access_key))[0] == 200


def _send(
    endpoint: str, method: str, path: str, body: bytes = b"", credentials: Credentials | None = None
) -> tuple[int, bytes]:
    """One request straight to the embedded service, past any proxy and any of the user's AWS configuration."""
    request = AWSRequest(method=method, url=endpoint + path, data=body)
    if credentials is not None:
        S3SigV4Auth(credentials, "s3", REGION).add_auth(request)
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=2)
    try:
        connection.request(method, path, body, dict(request.headers.items()))
        answer = connection.getresponse()
        return answer.status, answer.read(65_536)
    except (OSError, http.client.HTTPException) as error:
        raise StoreUnavailableError(f"{endpoint} does not answer: {quote(error)}.") from error
    finally:
        connection.close()
