"""What calls of the EC2 API cost that only read, through a running server whose catalog holds ten thousand of each."""

from __future__ import annotations

import http.client
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from sqlalchemy import insert

from bench_runs import Figure, say
from vmferry.catalog._database import Database
from vmferry.catalog._schema import Base, BlockDeviceRow, ExportTaskRow, ImageRow, ImportTaskRow, SnapshotRow, TagRow
from vmferry.errors import VmferryError
from vmferry.units import GIB

_THINGS = 10_000
_PAGE = 1_000
_MAX_PAGE_SECONDS = 0.3
_MAX_CALL_SECONDS = 1 / 200
_THREADS = 4
_LOAD_SECONDS = 5.0
_LOOKS = 9
_LISTS = {
    "DescribeImages": "imageId",
    "DescribeSnapshots": "snapshotId",
    "DescribeImportImageTasks": "importTaskId",
    "DescribeTags": "resourceId",
}
"""Actions with pages of a thousand, and what each item of their answers has once."""


def measure_calls(data_dir: Path, variables: Mapping[str, str], account_id: str) -> list[Figure]:
    """Fill the catalog of the server in ``data_dir``, then ask it. ``variables`` are those of its clients."""
    _fill(data_dir, variables["AWS_DEFAULT_REGION"], account_id)
    say(f"calls, over {_THINGS:,} images, snapshots, tasks and tags")
    pages = [_measure_page(variables, action, item) for action, item in _LISTS.items()]
    return [*pages, _measure_load(variables)]


@dataclass(frozen=True, slots=True)
class _Call:
    """A request, signed once: whoever sends it again does no more than send it."""

    host: str
    body: bytes
    headers: Mapping[str, str]

    def send(self, connection: http.client.HTTPConnection) -> bytes:
        connection.request("POST", "/", self.body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise VmferryError(f"A call was answered with {answer.status}: {content[:500].decode(errors='replace')}")
        return content


def _sign(variables: Mapping[str, str], action: str, parameters: Mapping[str, object]) -> _Call:
    from botocore.auth import SigV4Auth  # not before: a child process counts its parent's memory as its own peak
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    endpoint = variables["AWS_ENDPOINT_URL_EC2"]
    body = urlencode({"Action": action, "Version": "2016-11-15", **parameters}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    request = AWSRequest(method="POST", url=f"{endpoint}/", data=body, headers=headers)
    keys = Credentials(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(keys, "ec2", variables["AWS_DEFAULT_REGION"]).add_auth(request)
    return _Call(urlsplit(endpoint).netloc, body, dict(request.headers.items()))


def _measure_page(variables: Mapping[str, str], action: str, item: str) -> Figure:
    """One client alone, the page of a thousand that comes first."""
    call = _sign(variables, action, {"MaxResults": _PAGE})
    connection, times = http.client.HTTPConnection(call.host), []
    for _ in range(_LOOKS + 1):
        begun = time.perf_counter()
        content = call.send(connection)
        times.append(time.perf_counter() - begun)
        if (found := content.count(f"<{item}>".encode())) != _PAGE:
            raise VmferryError(f"{action} answered {found} of {_PAGE} items")
    connection.close()
    return Figure(f"{action}: {_PAGE:,} of {_THINGS:,}", statistics.median(times[1:]), "s", _MAX_PAGE_SECONDS)


def _measure_load(variables: Mapping[str, str]) -> Figure:
    """Some clients at once, each asking for one AMI again and again, over connections that stay open."""
    call = _sign(variables, "DescribeImages", {"ImageId.1": _id("ami-", 7)})
    counts, failures, end = [0] * _THREADS, list[Exception](), time.monotonic() + _LOAD_SECONDS

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection(call.host)
        try:
            while time.monotonic() < end:
                call.send(connection)
                counts[number] += 1
        except (OSError, http.client.HTTPException, VmferryError) as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    what = f"DescribeImages of one AMI in {_THINGS:,}, per call with {_THREADS} clients at once"
    return Figure(what, _LOAD_SECONDS / sum(counts), "s", _MAX_CALL_SECONDS)


def _id(prefix: str, number: int) -> str:
    return f"{prefix}{number * 7919 % _THINGS:017x}"


def _fill(data_dir: Path, region: str, account_id: str) -> None:
    rows: dict[type[Base], list[dict[str, Any]]] = {}
    for number in range(_THINGS):
        for table, row in _things(number):
            place = {} if table is BlockDeviceRow else {"region": region, "account_id": account_id}
            rows.setdefault(table, []).append({**row, **place})
    database = Database(f"sqlite:///{data_dir / 'catalog.sqlite'}")
    with database.write() as session:
        for table, values in rows.items():
            session.execute(insert(table), values)
    database.close()


def _things(number: int) -> Iterator[tuple[type[Base], dict[str, Any]]]:
    """An AMI with a snapshot and a tag, and tasks that have ended."""
    image_id, snapshot_id = _id("ami-", number), _id("snap-", number)
    made = {"created_at": datetime.now(UTC) - timedelta(seconds=_THINGS - number)}
    blob = {"bucket": "bench", "key": "none"}
    yield SnapshotRow, {"id": snapshot_id, "state": "completed", "size": GIB, **made, **blob}
    machine = {"architecture": "x86_64", "boot_mode": "uefi", "root_device_name": "/dev/sda1"}
    yield ImageRow, {"id": image_id, "name": f"machine {number}", "state": "available", **made, **machine}
    disk = {"device_name": "/dev/sda1", "volume_size_gib": 1, "delete_on_termination": True}
    yield BlockDeviceRow, {"image_id": image_id, "position": 0, "snapshot_id": snapshot_id, **disk}
    yield TagRow, {"resource_id": image_id, "resource_type": "image", "key": "Name", "value": f"machine {number}"}
    ended = {"status": "completed", "stage": "", "progress": 100, "dispatched": True, "cancel_sent": False}
    found: dict[str, Any] = {"request": {"containers": []}, "facts": {"pins": [], "disks": [], "notes": []}}
    task = {"id": _id("import-ami-", number), "kind": "import-image-task"}
    yield ImportTaskRow, {**task, **made, **ended, **found}
    sent = {"id": _id("export-ami-", number), "image_id": image_id, "format": "VMDK", "prefix": ""}
    yield ExportTaskRow, {**sent, **made, **ended, **blob}
