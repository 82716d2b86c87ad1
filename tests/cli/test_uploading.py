"""Uploads that go on where an earlier one was cut off, against a real S3: SeaweedFS."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError

from tests.stores.running_s3 import ROOT, RunningS3, running_s3
from vmferry.cli._client import ApiError, Clients
from vmferry.cli._uploading import upload_file
from vmferry.errors import BlobChangedError
from vmferry.units import MIB

pytestmark = pytest.mark.slow

SIZE = 20 * MIB + 17


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningS3]:
    with running_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def clients(s3: RunningS3) -> Clients:
    def make(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=s3.endpoint,
            aws_access_key_id=ROOT.access_key_id,
            aws_secret_access_key=ROOT.secret_access_key,
            region_name="us-east-1",
            config=Config(signature_version="s3v4", request_checksum_calculation="when_required"),
        )

    return Clients(make, is_aws=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "web.ova"
    path.write_bytes(random.Random(7).randbytes(SIZE))
    return path


def holds(clients: Clients, key: str, file: Path) -> bool:
    return bool(clients.s3.get_object(Bucket="bucket", Key=key)["Body"].read() == file.read_bytes())


def unfinished(clients: Clients, key: str) -> list[Any]:
    return list(clients.s3.list_multipart_uploads(Bucket="bucket", Prefix=key).get("Uploads", ()))


def sent_parts(clients: Clients) -> list[int]:
    """The numbers of the parts that are sent from now on."""
    numbers: list[int] = []
    clients.s3.meta.events.register(
        "provide-client-params.s3.UploadPart", lambda params, **_: numbers.append(params["PartNumber"])
    )
    return numbers


def test_parts_that_are_there_are_not_sent_again_and_wrong_ones_are(
    clients: Clients, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = {"Bucket": "bucket", "Key": "cut/web.ova"}
    upload_id = clients.s3.create_multipart_upload(**place)["UploadId"]
    content = file.read_bytes()
    for number, data in ((1, bytes(8 * MIB)), (2, content[8 * MIB : 16 * MIB]), (3, content[:17])):
        clients.s3.upload_part(**place, UploadId=upload_id, PartNumber=number, Body=data)
    numbers = sent_parts(clients)
    upload_file(clients, file, "bucket", "cut/web.ova", as_json=False)
    assert sorted(numbers) == [1, 3]
    assert "1 of 3 parts are there already" in capsys.readouterr().err
    assert holds(clients, "cut/web.ova", file)
    assert unfinished(clients, "cut/web.ova") == []
    upload_file(clients, file, "bucket", "cut/web.ova", as_json=False)
    assert "holds these very bytes already: nothing is sent" in capsys.readouterr().err
    assert sorted(numbers) == [1, 3]
    file.write_bytes(content[:-1] + b"!")
    upload_file(clients, file, "bucket", "cut/web.ova", as_json=False)
    assert sorted(numbers) == [1, 1, 2, 3, 3]
    assert holds(clients, "cut/web.ova", file)


@pytest.mark.parametrize("blow", [KeyboardInterrupt(), EndpointConnectionError(endpoint_url="http://s3")])
def test_what_was_sent_before_it_was_cut_off_is_kept(
    clients: Clients, file: Path, blow: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    key = f"{type(blow).__name__}.ova"

    def cut(params: Any, **_: Any) -> None:
        if params["PartNumber"] == 3:
            raise blow

    clients.s3.meta.events.register("provide-client-params.s3.UploadPart", cut)
    with pytest.raises((KeyboardInterrupt, ApiError)) as caught:
        upload_file(clients, file, "bucket", key, as_json=False)
    told = capsys.readouterr().err + str(caught.value)
    (upload,) = unfinished(clients, key)
    assert "the same command goes on from there" in told
    assert f"aws s3api abort-multipart-upload --bucket bucket --key {key} --upload-id {upload['UploadId']}" in told
    clients.s3.meta.events.unregister("provide-client-params.s3.UploadPart", cut)
    numbers = sent_parts(clients)
    upload_file(clients, file, "bucket", key, as_json=True)
    assert 3 in numbers
    assert len(numbers) < 3
    assert holds(clients, key, file)
    assert unfinished(clients, key) == []


@pytest.mark.parametrize("size", [0, 1, 8 * MIB, 8 * MIB + 1])
def test_files_of_every_size_go_up(clients: Clients, tmp_path: Path, size: int) -> None:
    file = tmp_path / "disk.raw"
    file.write_bytes(random.Random(size).randbytes(size))
    upload_file(clients, file, "bucket", f"sizes/{size}", as_json=False)
    assert holds(clients, f"sizes/{size}", file)


def test_a_file_that_is_written_to_meanwhile_does_not_become_an_object(clients: Clients, file: Path) -> None:
    def write(params: Any, **_: Any) -> None:
        if params["PartNumber"] == 3:
            with file.open("r+b") as disk:
                disk.write(b"of another state")

    clients.s3.meta.events.register("provide-client-params.s3.UploadPart", write)
    with pytest.raises(BlobChangedError, match="was changed while it was uploaded"):
        upload_file(clients, file, "bucket", "changed.ova", as_json=False)
    assert not clients.s3.list_objects_v2(Bucket="bucket", Prefix="changed.ova").get("Contents")
    clients.s3.meta.events.unregister("provide-client-params.s3.UploadPart", write)
    upload_file(clients, file, "bucket", "changed.ova", as_json=False)
    assert holds(clients, "changed.ova", file)


def test_a_file_that_is_removed_meanwhile_was_read_to_its_end(clients: Clients, file: Path) -> None:
    content = file.read_bytes()
    clients.s3.meta.events.register("provide-client-params.s3.UploadPart", lambda **_: file.unlink(missing_ok=True))
    upload_file(clients, file, "bucket", "removed.ova", as_json=False)
    assert clients.s3.get_object(Bucket="bucket", Key="removed.ova")["Body"].read() == content


def test_a_file_that_becomes_shorter_meanwhile_is_told(clients: Clients, file: Path) -> None:
    def cut(**_: Any) -> None:
        file.write_bytes(b"short")

    clients.s3.meta.events.register("provide-client-params.s3.CreateMultipartUpload", cut)
    with pytest.raises(BlobChangedError, match="became shorter while it was read"):
        upload_file(clients, file, "bucket", "short.ova", as_json=False)
