"""An upload that another process goes on with, over a real S3: which parts are believed, and which are sent again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.running_s3 import RunningS3
from tests.stores.test_s3 import connect, uploads
from vmferry.errors import StoreError
from vmferry.stores._s3_kept_upload import KeptUpload
from vmferry.stores._s3_upload import MIN_PART
from vmferry.units import MIB

pytestmark = pytest.mark.server

BUDGET = 64 * MIB


@pytest.fixture
def key(s3: RunningS3, request: pytest.FixtureRequest) -> Iterator[str]:
    yield f"kept/{request.node.name}"
    assert uploads(s3) == []


def begin(s3: RunningS3, key: str, folder: Path) -> KeptUpload:
    return connect(s3).keep_upload("bucket", key, folder, BUDGET)


def go_on(s3: RunningS3, key: str, folder: Path, note: str) -> KeptUpload:
    upload = begin(s3, key, folder)
    assert upload.is_there(json.loads(note))
    upload.restore(json.loads(note))
    return upload


def read(s3: RunningS3, key: str) -> bytes:
    blob = connect(s3).open("bucket", key)
    return blob.read_at(0, blob.size)


def part(letter: str) -> bytes:
    return letter.encode() * MIN_PART


def test_what_comes_from_before_the_note_is_kept_and_the_rest_may_change(
    s3: RunningS3, key: str, tmp_path: Path
) -> None:
    first = begin(s3, key, tmp_path / "kept")
    first.begin()
    for number, letter in enumerate("abc"):
        first.reached = number + 1
        first.write_at(number * MIN_PART, part(letter))
    first.write_at(3 * MIN_PART, b"dd")
    note = json.dumps(first.note(2))
    first.saved()
    assert sorted(json.loads(note)["settled"]) == ["0", "1"]
    assert {path.name for path in (tmp_path / "kept").glob("part-*")} == {"part-2", "part-3"}
    first.detach()
    again = go_on(s3, key, tmp_path / "kept", note)
    again.write_at(MIN_PART, part("b"))  # as it is there
    again.write_at(2 * MIN_PART, part("c")[: MIN_PART // 2])
    again.write_at(2 * MIN_PART + MIN_PART // 2, part("x")[: MIN_PART // 2])  # not as it was
    again.write_at(3 * MIN_PART, b"DDD")
    again.set_size(3 * MIN_PART + 3)
    again.finish()
    half = MIN_PART // 2
    assert read(s3, key) == part("a") + part("b") + part("c")[:half] + part("x")[:half] + b"DDD"
    assert not (tmp_path / "kept").exists()


def test_what_a_part_lacks_that_is_in_s3_for_good_comes_too_late(s3: RunningS3, key: str, tmp_path: Path) -> None:
    first = connect(s3).keep_upload("bucket", key, tmp_path / "kept", 4 * MIN_PART)
    first.begin()
    for number in range(8):  # more than may be held: the second is sent with a gap
        first.write_at(number * MIN_PART, part("a")[: MIN_PART - (number > 0)])
    note = json.dumps(first.note(1))
    assert "1" in json.loads(note)["settled"]
    first.detach()
    again = go_on(s3, key, tmp_path / "kept", note)
    with pytest.raises(StoreError, match="comes too late"):
        again.write_at(2 * MIN_PART - 1, b"a")
    again.abort()


def test_one_process_at_a_time_has_the_folder(s3: RunningS3, key: str, tmp_path: Path) -> None:
    first = begin(s3, key, tmp_path / "kept")
    with pytest.raises(StoreError, match="Another process writes"):
        begin(s3, key, tmp_path / "kept")
    first.abort()
    begin(s3, key, tmp_path / "kept").abort()


def test_an_upload_that_begins_anew_removes_the_one_before(s3: RunningS3, key: str, tmp_path: Path) -> None:
    first = begin(s3, key, tmp_path / "kept")
    first.begin()
    first.write_at(0, part("a"))
    first.detach()
    again = begin(s3, key, tmp_path / "kept")
    again.begin()
    assert uploads(s3) == [key]
    again.abort()
