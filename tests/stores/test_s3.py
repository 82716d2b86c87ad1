from __future__ import annotations

import http.server
import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stores.contract import StoreContract, get, put
from tests.stores.running_s3 import READER, ROOT, WRITER, RunningS3
from vmferry.errors import (
    AccessDeniedError,
    BlobChangedError,
    BlobNotFoundError,
    StoreError,
    StoreUnavailableError,
)
from vmferry.stores import STORES, Pin, Store
from vmferry.stores._s3_upload import MIN_PART, PartSizes, S3Upload
from vmferry.stores.s3 import STORE, S3Store, parse_location
from vmferry.units import GIB, MIB, TIB

pytestmark = pytest.mark.server


def connect(s3: RunningS3, **changes: str) -> S3Store:
    return STORE.connect({**s3.options(), **changes})


def judge(s3: RunningS3) -> Any:
    """Another client of the same service."""
    return boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        aws_access_key_id=ROOT.access_key_id,
        aws_secret_access_key=ROOT.secret_access_key,
        region_name="us-east-1",
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def uploads(s3: RunningS3) -> list[str]:
    """The keys of multipart uploads that nobody finished."""
    return [upload["Key"] for upload in judge(s3).list_multipart_uploads(Bucket="bucket").get("Uploads", [])]


@pytest.fixture
def store(s3: RunningS3) -> S3Store:
    return connect(s3)


class TestS3Store(StoreContract):
    @pytest.fixture
    def store(self, s3: RunningS3) -> Store:
        return STORES["s3"].connect(s3.options())


# --- pins --------------------------------------------------------------------------------------------------------


def test_an_object_replaced_while_open_is_a_changed_blob(store: S3Store) -> None:
    put(store, "bucket", "pin/a", b"a" * 1000)
    blob = store.open("bucket", "pin/a")
    assert blob.read_at(0, 10) == b"a" * 10
    put(store, "bucket", "pin/a", b"b" * 1000)
    with pytest.raises(BlobChangedError, match=r"s3://bucket/pin/a: the object changed during the import"):
        blob.read_at(10, 10)


def test_an_object_deleted_while_open_is_named(store: S3Store) -> None:
    put(store, "bucket", "pin/gone", b"a" * 1000)
    blob = store.open("bucket", "pin/gone")
    store.delete("bucket", "pin/gone")
    with pytest.raises(BlobNotFoundError, match="pin/gone"):
        blob.read_at(0, 10)


def test_a_pin_of_an_object_put_back_with_the_same_bytes_opens(store: S3Store) -> None:
    put(store, "bucket", "pin/back", b"same bytes")
    pin = store.open("bucket", "pin/back").pin
    store.delete("bucket", "pin/back")
    put(store, "bucket", "pin/back", b"same bytes")
    assert store.open("bucket", "pin/back", pin).read_at(0, 10) == b"same bytes"


def test_in_a_versioned_bucket_a_replaced_object_reads_on(s3: RunningS3, store: S3Store) -> None:
    judge(s3).put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    put(store, "versioned", "key", b"first")
    blob = store.open("versioned", "key")
    assert blob.pin.version
    put(store, "versioned", "key", b"second")
    assert blob.read_at(0, 5) == b"first"
    assert get(store, "versioned", "key") == b"second"
    store.delete("versioned", "key")
    assert blob.read_at(1, 4) == b"irst"
    again = store.open("versioned", "key", blob.pin)
    assert again.read_at(0, 5) == b"first"
    assert again.pin == blob.pin


def test_a_version_that_was_removed_is_a_changed_blob(s3: RunningS3, store: S3Store) -> None:
    judge(s3).put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    put(store, "versioned", "lost", b"first")
    pin = store.open("versioned", "lost").pin
    put(store, "versioned", "lost", b"second")
    judge(s3).delete_object(Bucket="versioned", Key="lost", VersionId=pin.version)
    with pytest.raises(BlobChangedError):
        store.open("versioned", "lost", pin)


def test_a_pin_with_another_size_is_refused(store: S3Store) -> None:
    put(store, "bucket", "pin/size", b"12345")
    pin = store.open("bucket", "pin/size").pin
    with pytest.raises(BlobChangedError):
        store.open("bucket", "pin/size", Pin(6, pin.etag))


# --- what is wrong is told apart ------------------------------------------------------------------------------------


def test_a_wrong_secret_is_said(s3: RunningS3) -> None:
    with pytest.raises(AccessDeniedError, match="secret access key"):
        connect(s3, secret_access_key="wrong").open("bucket", "key")


def test_an_unknown_access_key_is_said(s3: RunningS3) -> None:
    with pytest.raises(AccessDeniedError, match="access key id"):
        connect(s3, access_key_id="NOBODY").open("bucket", "key")


def test_a_missing_permission_is_named(s3: RunningS3, store: S3Store) -> None:
    put(store, "bucket", "rights/a", b"x")
    writer = STORE.connect(s3.options(WRITER))
    with pytest.raises(AccessDeniedError, match=r"Grant s3:GetObject on arn:aws:s3:::bucket/rights/a"):
        writer.open("bucket", "rights/a")
    with pytest.raises(AccessDeniedError, match=r"Grant s3:ListBucket on arn:aws:s3:::bucket\."):
        list(writer.keys("bucket"))
    put(writer, "bucket", "rights/b", b"a writer needs not list")
    reader = STORE.connect(s3.options(READER))
    assert get(reader, "bucket", "rights/b") == b"a writer needs not list"
    with pytest.raises(AccessDeniedError, match="s3:DeleteObject"):
        reader.delete("bucket", "rights/a")
    upload = reader.create("bucket", "rights/c")
    upload.write_at(0, b"x")
    with pytest.raises(AccessDeniedError, match="s3:PutObject"):
        upload.finish()
    upload.abort()
    upload = reader.create("bucket", "rights/parts")
    with pytest.raises(AccessDeniedError, match="s3:PutObject"):
        upload.write_at(0, bytes(2 * MIN_PART))
    upload.abort()


def test_a_missing_bucket_is_told_before_anything_is_uploaded(store: S3Store) -> None:
    with pytest.raises(BlobNotFoundError, match="no bucket nowhere-at-all"):
        store.create("nowhere-at-all", "key")


def test_a_bucket_is_made_once_and_found_there_again(s3: RunningS3) -> None:
    store = connect(s3, access_key_id=ROOT.access_key_id, secret_access_key=ROOT.secret_access_key)
    for _ in range(2):
        store.ensure_bucket("made-here")
    assert "made-here" in [bucket["Name"] for bucket in judge(s3).list_buckets()["Buckets"]]
    reader = connect(s3, access_key_id=READER.access_key_id, secret_access_key=READER.secret_access_key)
    with pytest.raises(AccessDeniedError, match=r"s3:CreateBucket"):
        reader.ensure_bucket("not-made")


def test_an_endpoint_where_nobody_listens_is_unavailable_within_the_budget(s3: RunningS3) -> None:
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="cannot be reached") as caught:
        connect(s3, endpoint="http://127.0.0.1:1", retry_seconds="1").open("bucket", "key")
    assert caught.value.retryable
    assert 0.3 < time.monotonic() - started < 3


def test_a_service_that_is_no_s3_is_said(s3: RunningS3) -> None:
    master = re.sub(r"\d+$", str(s3.server._ports["master"]), s3.endpoint)
    with pytest.raises(StoreError, match="not as S3 does"):
        connect(s3, endpoint=master).open("bucket", "key")


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../b", "a/./b", "a\nb", "x" * 1025])
def test_keys_that_another_key_would_be_read_for_are_refused(store: S3Store, key: str) -> None:
    with pytest.raises(BlobNotFoundError):
        store.open("bucket", key)


@pytest.mark.parametrize("bucket", ["", "ab", "UPPER", "a/b", "../x", "a..b", "127.0.0.1", "-ab", "x" * 64, "a_b"])
def test_impossible_buckets_are_refused(store: S3Store, bucket: str) -> None:
    with pytest.raises(BlobNotFoundError):
        store.open(bucket, "key")


class _Stubborn(http.server.BaseHTTPRequestHandler):
    """Answers with the whole, whatever is asked for, or with what its path names."""

    def do_GET(self) -> None:
        status = 503 if "busy" in self.path else 301 if "elsewhere" in self.path else 200
        body = b"<Error><Code>SlowDown</Code></Error>" if status == 503 else b"hello"
        if status == 301:
            body = (
                b"<Error><Code>PermanentRedirect</Code><Endpoint>bucket.s3.eu-west-1.amazonaws.com</Endpoint></Error>"
            )
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Mon, 23 Nov 2026 21:09:50 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def stubborn() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Stubborn) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_endpoint_without_ranges_is_said(s3: RunningS3, stubborn: str) -> None:
    with pytest.raises(StoreError, match="does not serve byte ranges"):
        connect(s3, endpoint=stubborn).open("bucket", "key")


def test_an_overloaded_service_is_unavailable(s3: RunningS3, stubborn: str) -> None:
    with pytest.raises(StoreUnavailableError, match="503 SlowDown"):
        connect(s3, endpoint=stubborn, retry_seconds="0.5").open("bucket", "busy")


def test_a_bucket_of_another_region_is_said(s3: RunningS3, stubborn: str) -> None:
    with pytest.raises(StoreError, match="is not in the region of"):
        connect(s3, endpoint=stubborn).open("bucket", "elsewhere")


# --- options ------------------------------------------------------------------------------------------------------


def test_the_environment_does_not_lead_astray(s3: RunningS3, store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "bucket", "env", b"x")
    for name, value in {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_SESSION_TOKEN": "another service's",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_REGION": "eu-north-1",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    assert get(connect(s3, retry_seconds="1"), "bucket", "env") == b"x"


# --- URLs ---------------------------------------------------------------------------------------------------------


def test_a_presigned_url_opens_with_the_stores_own_rights(s3: RunningS3, store: S3Store) -> None:
    put(store, "bucket", "url/a b+ü.ova", b"content")
    url = judge(s3).generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "url/a b+ü.ova"})
    assert store.open(*parse_location(url, s3.endpoint)).read_at(0, 7) == b"content"
    assert store.open(*parse_location("s3://bucket/url/a b+ü.ova", s3.endpoint)).size == 7
    with pytest.raises(AccessDeniedError):
        STORE.connect(s3.options(WRITER)).open(*parse_location(url, s3.endpoint))


# --- writing --------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_what_is_written_in_any_order_is_what_is_read(s3: RunningS3, data: st.DataObject) -> None:
    store = connect(s3)
    sizes = data.draw(st.lists(st.integers(1, 300_000), min_size=1, max_size=8))
    skips = data.draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))
    extra = data.draw(st.integers(0, 100_000))
    content = bytearray(sum(sizes) + extra)
    pieces, offset = [], 0
    for size, skip in zip(sizes, skips, strict=True):
        if not skip:
            content[offset : offset + size] = random.Random(size).randbytes(size)
            pieces.append((offset, bytes(content[offset : offset + size])))
        offset += size
    upload = store.create("bucket", "property")
    for start, piece in data.draw(st.permutations(pieces)):
        upload.write_at(start, piece)
    upload.set_size(len(content))
    upload.finish()
    assert judge(s3).get_object(Bucket="bucket", Key="property")["Body"].read() == content


def test_a_buffer_may_be_used_again_after_write_at(store: S3Store) -> None:
    buffer = bytearray(MIB)
    upload = store.create("bucket", "buffers")
    for index in (1, 0, 2):
        buffer[:] = bytes([index]) * MIB
        upload.write_at(index * MIB, buffer)
    buffer[:] = b"!" * MIB
    upload.finish()
    assert get(store, "bucket", "buffers") == b"".join(bytes([index]) * MIB for index in range(3))


def test_writing_twice_to_one_place_is_a_fault(store: S3Store) -> None:
    upload = store.create("bucket", "twice")
    upload.write_at(0, b"12345")
    with pytest.raises(ValueError, match="written already"):
        upload.write_at(3, b"x")
    upload.abort()


def test_parts_grow_so_that_ten_thousand_of_them_hold_a_large_object() -> None:
    sizes = PartSizes(128 * MIB)
    offset = count = 0
    while offset < sizes.most:
        number, start, size = sizes.find(offset)
        assert (number, start) == (count, offset)
        assert sizes.find(offset + size - 1) == (number, start, size)
        offset, count = offset + size, count + 1
    assert count == 10_000
    assert sizes.most > 270 * 1024 * MIB
    assert PartSizes(1024 * MIB).most > 2_000_000 * MIB
    largest = PartSizes(PartSizes.least_budget(64 * TIB, 24 * MIB))
    assert largest.locate(9_999)[1] == 5 * GIB  # S3 takes no larger part
    assert 39 * TIB < largest.most < 64 * TIB


def test_the_first_part_is_sent_last(s3: RunningS3, store: S3Store) -> None:
    upload = store.upload("bucket", "header-last", 4 * MIN_PART)
    content = random.Random(3).randbytes(20 * MIN_PART + 5)
    upload.write_at(512, content[512 : 6 * MIN_PART])
    for start in range(6 * MIN_PART, len(content), MIB):
        upload.write_at(start, content[start : start + MIB])
    upload.write_at(0, content[:512])
    upload.finish()
    assert judge(s3).get_object(Bucket="bucket", Key="header-last")["Body"].read() == content


def test_what_is_reserved_waits_however_much_comes_behind_it(s3: RunningS3, store: S3Store) -> None:
    upload = store.upload("bucket", "reserved", 4 * MIN_PART)
    content = random.Random(4).randbytes(20 * MIN_PART)
    late = (2 * MIN_PART + 100, 2 * MIN_PART + 612)
    upload.reserve(*late)
    upload.write_at(0, content[: late[0]])
    for start in range(late[1], len(content), MIB):
        upload.write_at(start, content[start : start + MIB])
    upload.write_at(late[0], content[slice(*late)])
    upload.finish()
    assert judge(s3).get_object(Bucket="bucket", Key="reserved")["Body"].read() == content


def test_gaps_over_the_budget_become_zeros_and_come_too_late_then(s3: RunningS3, store: S3Store) -> None:
    upload = store.upload("bucket", "gaps", 4 * MIN_PART)
    content = bytearray(40 * MIN_PART)
    for part in range(0, 40, 2):
        content[part * MIN_PART : part * MIN_PART + 1000] = random.Random(part).randbytes(1000)
        upload.write_at(part * MIN_PART, content[part * MIN_PART : part * MIN_PART + 1000])
    with pytest.raises(StoreError, match="comes too late"):
        upload.write_at(2 * MIN_PART + 2000, b"x")
    upload.set_size(len(content))
    upload.finish()
    assert judge(s3).get_object(Bucket="bucket", Key="gaps")["Body"].read() == content


def test_the_last_part_is_never_sent_too_long(s3: RunningS3, store: S3Store) -> None:
    upload = store.upload("bucket", "end-first", 4 * MIN_PART)
    upload.write_at(0, b"begin")
    upload.write_at(20 * MIN_PART, b"end")  # a footer that is known early
    for part in range(1, 20):
        upload.write_at(part * MIN_PART + 1, b"x")
    upload.finish()
    found = judge(s3).get_object(Bucket="bucket", Key="end-first")["Body"].read()
    assert len(found) == 20 * MIN_PART + 3
    assert (found[:5], found[-3:], found[7 * MIN_PART + 1 : 7 * MIN_PART + 2]) == (b"begin", b"end", b"x")


def test_threads_that_begin_out_of_order_do_not_use_up_the_budget(s3: RunningS3, store: S3Store) -> None:
    """As when the pieces of a sparse disk come: each in a part of its own, the first of them not first."""
    upload = store.upload("bucket", "sparse", 3 * MIN_PART)
    order = [12, 8, 4, 0, *range(16, 80, 4)]
    for part in order:
        upload.write_at(part * MIN_PART + 1, b"data")
    upload.write_at(0, b"h")  # the header, and a table's end in the part where the data began
    upload.write_at(12 * MIN_PART, b"t")
    upload.set_size(81 * MIN_PART)
    upload.finish()
    blob = store.open("bucket", "sparse")
    assert blob.size == 81 * MIN_PART
    assert all(blob.read_at(part * MIN_PART + 1, 4) == b"data" for part in order)
    assert (blob.read_at(0, 1), blob.read_at(12 * MIN_PART, 1)) == (b"h", b"t")


def test_what_is_reserved_is_no_matter_of_the_budget(s3: RunningS3, store: S3Store) -> None:
    """An OVA of many disks: the header of each is known last."""
    upload = store.upload("bucket", "many-reserved", 4 * MIN_PART)
    for part in range(12):
        upload.reserve(part * MIN_PART, part * MIN_PART + 1)
        upload.write_at(part * MIN_PART + 1, bytes([part]) * (MIN_PART - 1))
    for part in range(12):
        upload.write_at(part * MIN_PART, b"!")
    upload.finish()
    found = judge(s3).get_object(Bucket="bucket", Key="many-reserved")["Body"].read()
    assert found == b"".join(b"!" + bytes([part]) * (MIN_PART - 1) for part in range(12))


def test_an_object_that_is_too_large_is_told_at_once(store: S3Store) -> None:
    upload = store.upload("bucket", "huge", 4 * MIN_PART)
    with pytest.raises(StoreError, match=r"larger than .* give it more"):
        upload.set_size(PartSizes(4 * MIN_PART).most + 1)
    upload.abort()
    expected = 4 * PartSizes(4 * MIN_PART).most
    upload = store.upload("bucket", "huge", 4 * MIN_PART, expected)
    upload.set_size(expected)
    upload.abort()


def test_an_aborted_multipart_upload_is_removed(s3: RunningS3, store: S3Store) -> None:
    upload: S3Upload = store.create("bucket", "multi/aborted")
    for index in range(3):
        upload.write_at(index * 16 * MIB, bytes(16 * MIB))
    assert "multi/aborted" in uploads(s3)
    upload.abort()
    assert "multi/aborted" not in uploads(s3)
    with pytest.raises(BlobNotFoundError):
        store.open("bucket", "multi/aborted")
    with pytest.raises(StoreError, match="the upload is over"):
        upload.write_at(0, b"x")


def test_what_dead_processes_have_sent_can_be_removed(s3: RunningS3, store: S3Store) -> None:
    dead = [store.upload("bucket", "multi/dead", 4 * MIN_PART) for _ in range(2)]
    other = store.upload("bucket", "multi/dead.other", 4 * MIN_PART)
    for upload in (*dead, other):
        upload.write_at(0, bytes(2 * MIN_PART))
    connect(s3).abort_uploads("bucket", "multi/dead")
    connect(s3).abort_uploads("bucket", "multi/dead")
    assert "multi/dead" not in uploads(s3)
    assert "multi/dead.other" in uploads(s3)
    other.abort()
    with pytest.raises(StoreError, match="swept away"):
        dead[0].finish()


def test_whether_an_upload_may_be_is_checked_without_a_trace(s3: RunningS3, store: S3Store) -> None:
    store.check_upload("bucket", "multi/checked")
    assert "multi/checked" not in uploads(s3)
    assert list(store.keys("bucket", "multi/checked")) == []
    with pytest.raises(AccessDeniedError, match="s3:PutObject"):
        STORE.connect(s3.options(READER)).check_upload("bucket", "multi/checked")
    with pytest.raises(BlobNotFoundError, match="no bucket"):
        store.check_upload("no-such-bucket", "multi/checked")


def test_whether_a_bucket_may_be_viewed_is_checked(s3: RunningS3, store: S3Store) -> None:
    store.check_acl("bucket")
    with pytest.raises(AccessDeniedError, match="s3:GetBucketAcl"):
        STORE.connect(s3.options(WRITER)).check_acl("bucket")
    with pytest.raises(BlobNotFoundError, match="no bucket"):
        store.check_acl("no-such-bucket")


# --- memory, and a service that comes and goes ----------------------------------------------------------------------


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_reading_for_long_does_not_leak(store: S3Store) -> None:
    size = 128 * MIB
    upload = store.create("bucket", "leak")
    for offset in range(0, size, 8 * MIB):
        upload.write_at(offset, random.Random(offset).randbytes(8 * MIB))
    upload.finish()
    blob = store.open("bucket", "leak")

    def rounds(count: int) -> None:
        with ThreadPoolExecutor(4) as pool:
            for _ in range(count):
                lengths = pool.map(lambda start: len(blob.read_at(start, 8 * MIB)), range(0, size, 8 * MIB))
                assert sum(lengths) == size

    rounds(3)
    before = rss()
    rounds(12)
    assert rss() - before < 64 * MIB


@pytest.mark.slow
def test_reads_go_on_over_a_killed_service(s3_alone: RunningS3) -> None:
    store = STORE.connect(s3_alone.options(retry_seconds=30))
    content = random.Random(2).randbytes(32 * MIB)
    put(store, "bucket", "big", content)
    blob = store.open("bucket", "big")
    failures: list[BaseException] = []
    stop = threading.Event()
    reads = 0

    def read() -> None:
        nonlocal reads
        chance = random.Random(threading.get_ident())
        while not stop.is_set():
            offset = chance.randrange(0, len(content) - 4 * MIB)
            try:
                assert blob.read_at(offset, 4 * MIB) == content[offset : offset + 4 * MIB]
            except BaseException as error:  # noqa: BLE001  # told to the test's own thread
                failures.append(error)
                return
            reads += 1

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    killed = s3_alone.pid
    os.kill(killed, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while s3_alone.supervisor.status()[0].restarts == 0 or s3_alone.supervisor.status()[0].state.value != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    before = reads
    time.sleep(2.0)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert reads > before


@pytest.mark.slow
def test_a_hung_and_a_stopped_service_are_unavailable_within_the_budget(s3_alone: RunningS3) -> None:
    store = STORE.connect(s3_alone.options(retry_seconds=3))
    put(store, "bucket", "key", b"content")
    blob = store.open("bucket", "key")
    os.kill(s3_alone.pid, signal.SIGSTOP)
    time.sleep(0.2)  # its threads stop one by one
    try:
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            blob.read_at(0, 7)
        assert time.monotonic() - started < 6
    finally:
        os.kill(s3_alone.pid, signal.SIGCONT)
    assert blob.read_at(0, 7) == b"content"
    s3_alone.supervisor.stop()
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=re.escape(s3_alone.endpoint)):
        blob.read_at(0, 7)
    assert time.monotonic() - started < 5
