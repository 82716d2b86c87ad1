"""Snapshots put together block by block, by botocore's own client; the images judged by qemu-img."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from tests.ebs.conftest import PLACE, House, block, checksum, put_arguments, refusal, running_house
from tests.ec2.running_gateway import ACCOUNT
from vmferry.digest import is_guest_digest
from vmferry.ebs.expiry import expire_uploads
from vmferry.errors import NotFoundError, TaskCancelledError
from vmferry.quotas import AWS
from vmferry.snapshot_blocks import EBS_BLOCK_SIZE, SnapshotBlocks, open_blocks
from vmferry.tasks._steps import CleanUp
from vmferry.units import GIB, KIB, MIB

pytestmark = pytest.mark.slow

ZEROS = bytes(EBS_BLOCK_SIZE)
INVALID = "ValidationException"


def linear(blocks: dict[int, bytes]) -> dict[str, Any]:
    """The checksum over all blocks, as coldsnap and ops compute it."""
    joined = b"".join(hashlib.sha256(blocks[index]).digest() for index in sorted(blocks))
    return {"Checksum": checksum(joined), "ChecksumAlgorithm": "SHA256", "ChecksumAggregationMethod": "LINEAR"}


def same_guest(image: Path, blocks: dict[int, bytes], size: int, folder: Path) -> bool:
    """Whether ``image`` is sound, stands alone, and holds ``blocks`` and nothing else, to qemu-img's eyes."""
    raw = folder / "expected.raw"
    with raw.open("wb") as file:
        file.truncate(size)
        for index, data in blocks.items():
            file.seek(index * EBS_BLOCK_SIZE)
            file.write(data)
    command = ["qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(image), str(raw)]
    compared = subprocess.run(command, capture_output=True, text=True)
    checked = subprocess.run(["qemu-img", "check", "-f", "qcow2", str(image)], capture_output=True, text=True)
    told = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", str(image)]))
    assert "backing-filename" not in told
    assert "No errors were found" in checked.stdout, checked.stdout
    return compared.returncode == 0 and "identical" in compared.stdout


def test_a_snapshot_is_put_together(house: House, tmp_path: Path) -> None:
    blocks = {2047: block(1), 0: block(2), 7: block(3)[: 64 * KIB].ljust(EBS_BLOCK_SIZE, b"\0"), 9: ZEROS}
    answer = house.ebs.start_snapshot(
        VolumeSize=1, Description="web", Tags=[{"Key": "Name", "Value": "a"}], Timeout=10, ClientToken="t"
    )
    snapshot_id = answer["SnapshotId"]
    assert (answer["Status"], answer["BlockSize"], answer["VolumeSize"]) == ("pending", EBS_BLOCK_SIZE, 1)
    assert (answer["OwnerId"], answer["Description"]) == (ACCOUNT, "web")
    assert answer["Tags"] == [{"Key": "Name", "Value": "a"}]
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert house.state(snapshot_id)["State"] == "pending"
    for index, data in blocks.items():
        put = house.put(snapshot_id, index, data, Progress=25)
        assert (put["Checksum"], put["ChecksumAlgorithm"]) == (checksum(data), "SHA256")
        assert put["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert house.state(snapshot_id)["Progress"] == "25%"
    done = house.ebs.complete_snapshot(SnapshotId=snapshot_id, ChangedBlocksCount=4, **linear(blocks))
    assert (done["Status"], done["ResponseMetadata"]["HTTPStatusCode"]) == ("pending", 202)
    state = house.state(snapshot_id)
    assert (state["State"], state["Progress"], state["VolumeSize"]) == ("completed", "100%", 1)
    tags = {tag["Key"]: tag["Value"] for tag in state["Tags"]}
    assert tags.pop("Name") == "a"
    assert is_guest_digest(tags.pop("vmferry:guest-digest"))
    path = house.path(snapshot_id)
    assert same_guest(path, blocks, GIB, tmp_path)
    assert path.stat().st_blocks * 512 < 4 * MIB
    assert house.files() == {path.name}
    assert house.read(snapshot_id) == {index: data for index, data in blocks.items() if data != ZEROS}


def test_the_parent_shows_where_nothing_was_put(house: House, tmp_path: Path) -> None:
    size = 3 * MIB + 64 * KIB
    parent = house.imported({0: block(1), MIB: block(2), 3 * MIB: block(3)[: 64 * KIB]}, size, "snap-00000000000000001")
    started = house.ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=parent)
    child = started["SnapshotId"]
    assert started["ParentSnapshotId"] == parent
    house.put(child, 2, ZEROS)
    house.put(child, 5, block(5))
    house.ec2.delete_snapshot(SnapshotId=parent)  # a child does not need it any more
    house.ebs.complete_snapshot(SnapshotId=child, ChangedBlocksCount=2)
    tail = block(3)[: 64 * KIB].ljust(EBS_BLOCK_SIZE, b"\0")
    assert same_guest(house.path(child), {0: block(1), 5: block(5), 6: tail}, GIB, tmp_path)
    assert house.files() == {house.path(child).name}
    grandchild = house.make({0: ZEROS}, ParentSnapshotId=child)
    assert [entry["BlockIndex"] for entry in house.changed(child, grandchild)] == [0]


def test_any_number_put_at_once(house: House, tmp_path: Path) -> None:
    blocks = {index: block(index) for index in range(0, 120, 3)}
    snapshot_id = house.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    client = house.ebs
    with ThreadPoolExecutor(16) as pool:
        calls = [put_arguments(snapshot_id, index, data) for index, data in blocks.items()] * 2
        list(pool.map(lambda arguments: client.put_snapshot_block(**arguments), calls))
    house.ebs.complete_snapshot(SnapshotId=snapshot_id, ChangedBlocksCount=len(blocks), **linear(blocks))
    assert same_guest(house.path(snapshot_id), blocks, GIB, tmp_path)


_CONTENTS = [ZEROS, block(1), block(2), bytes(64 * KIB) + block(3)[: 64 * KIB] + bytes(384 * KIB)]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    base=st.dictionaries(st.integers(0, 6), st.sampled_from(range(1, 4)), max_size=4),
    puts=st.lists(st.tuples(st.integers(0, 6), st.sampled_from(range(4))), max_size=12),
    child=st.booleans(),
)
def test_whatever_is_put_in_whatever_order_is_what_comes_back(
    house: House, base: dict[int, int], puts: list[tuple[int, int]], child: bool
) -> None:
    """The model: a dictionary, over the parent's."""
    model = {index: _CONTENTS[which] for index, which in base.items()} if child else {}
    more = {"ParentSnapshotId": house.make(model)} if child else {}
    snapshot_id = house.ebs.start_snapshot(VolumeSize=1, **more)["SnapshotId"]
    put: dict[int, bytes] = {}
    for index, which in puts:
        house.put(snapshot_id, index, _CONTENTS[which])
        put[index] = _CONTENTS[which]
    house.ebs.complete_snapshot(SnapshotId=snapshot_id, ChangedBlocksCount=len(put), **linear(put))
    found = {index: data for index, data in house.read(snapshot_id).items() if data != ZEROS}
    assert found == {index: data for index, data in (model | put).items() if data != ZEROS}
    checked = subprocess.run(["qemu-img", "check", str(house.path(snapshot_id))], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


# --- what is refused


def test_a_block_must_be_what_it_says(house: House) -> None:
    snapshot_id = house.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    good = put_arguments(snapshot_id, 0, block(1))
    for wrong in (
        {"Checksum": checksum(block(2))},
        {"Checksum": "AAAA"},
        {"Checksum": "A"},
        {"BlockData": block(1)[:-1]},
        {"BlockData": block(1) + b"x"},
        {"DataLength": 4096},
        put_arguments(snapshot_id, 0, block(1)[:4096]),
        put_arguments(snapshot_id, 0, b""),
        {"BlockIndex": 2048},
        {"BlockIndex": 2**31 - 1},
        {"BlockIndex": -1},
    ):
        code, reason = refusal(house.rude.put_snapshot_block, **{**good, **wrong})
        assert (code, reason) in ((INVALID, "INVALID_BLOCK"), (INVALID, "INVALID_PARAMETER_VALUE")), wrong
    assert refusal(house.rude.put_snapshot_block, **{**good, "ChecksumAlgorithm": "MD5"})[0] == INVALID
    assert refusal(house.rude.put_snapshot_block, **{**good, "Progress": 101})[0] == INVALID
    assert refusal(house.rude.complete_snapshot, SnapshotId=snapshot_id, ChangedBlocksCount=1)[0] == INVALID
    house.ebs.complete_snapshot(SnapshotId=snapshot_id, ChangedBlocksCount=0)
    assert house.read(snapshot_id) == {}


def test_what_completes_a_snapshot_must_fit_what_was_put(house: House) -> None:
    blocks = {0: block(1), 1: block(2)}
    snapshot_id = house.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    for index, data in blocks.items():
        house.put(snapshot_id, index, data)
    complete = house.rude.complete_snapshot
    swapped = linear({0: block(2), 1: block(1)})
    for wrong in (
        {"ChangedBlocksCount": 1},
        {"ChangedBlocksCount": -1},
        {"ChangedBlocksCount": 2, **swapped},
        {"ChangedBlocksCount": 2, "Checksum": swapped["Checksum"]},
        {"ChangedBlocksCount": 2, **swapped, "ChecksumAggregationMethod": "TREE"},
    ):
        assert refusal(complete, SnapshotId=snapshot_id, **wrong) == (INVALID, "INVALID_PARAMETER_VALUE")
    complete(SnapshotId=snapshot_id, ChangedBlocksCount=2, **linear(blocks))
    assert complete(SnapshotId=snapshot_id, ChangedBlocksCount=2)["Status"] == "completed"
    for wrong in ({"ChangedBlocksCount": 3}, {"ChangedBlocksCount": 2, **swapped}):
        assert refusal(complete, SnapshotId=snapshot_id, **wrong) == (INVALID, "INVALID_PARAMETER_VALUE")
    again = put_arguments(snapshot_id, 0, block(3))
    assert refusal(house.rude.put_snapshot_block, **again)[0] == "ConflictException"
    assert house.files() == {house.path(snapshot_id).name}
    assert house.read(snapshot_id) == blocks


def test_many_may_ask_for_completion_at_once(house: House) -> None:
    snapshot_id = house.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    house.put(snapshot_id, 0, block(1))
    client = house.ebs
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(client.complete_snapshot, SnapshotId=snapshot_id, ChangedBlocksCount=1) for _ in range(8)]
        assert {future.result()["Status"] for future in asked} <= {"pending", "completed"}
    assert house.read(snapshot_id) == {0: block(1)}


def test_blocks_are_put_into_pending_snapshots_alone(house: House) -> None:
    imported = house.imported({0: block(1)}, GIB, "snap-00000000000000001")
    put = house.ebs.put_snapshot_block
    assert refusal(put, **put_arguments(imported, 0, block(2)))[0] == "ConflictException"
    assert refusal(house.rude.complete_snapshot, SnapshotId=imported, ChangedBlocksCount=0)[0] == "ConflictException"
    assert refusal(put, **put_arguments("snap-0123456789", 0, block(2))) == (
        "ResourceNotFoundException",
        "SNAPSHOT_NOT_FOUND",
    )
    assert refusal(put, **put_arguments("ami-0123456789", 0, block(2))) == (INVALID, "INVALID_SNAPSHOT_ID")
    pending = house.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    for call, arguments in (
        (house.ebs.list_snapshot_blocks, {"SnapshotId": pending}),
        (house.ebs.start_snapshot, {"VolumeSize": 1, "ParentSnapshotId": pending}),
    ):
        assert refusal(call, **arguments) == (INVALID, "INVALID_SNAPSHOT_ID")


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"VolumeSize": 0}, "INVALID_VOLUME_SIZE"),
        ({"VolumeSize": 2049}, "INVALID_VOLUME_SIZE"),
        ({"Encrypted": True}, "INVALID_PARAMETER_VALUE"),
        ({"KmsKeyArn": f"arn:aws:kms:us-east-1:{ACCOUNT}:key/x"}, "INVALID_CUSTOMER_KEY"),
        ({"Timeout": 9}, "INVALID_PARAMETER_VALUE"),
        ({"Timeout": 4321}, "INVALID_PARAMETER_VALUE"),
        ({"ClientToken": "two words"}, "INVALID_PARAMETER_VALUE"),
        ({"Description": "x" * 256}, "INVALID_PARAMETER_VALUE"),
        ({"Description": "\x00"}, "INVALID_PARAMETER_VALUE"),
        ({"Tags": [{"Key": "aws:x", "Value": "y"}]}, "INVALID_TAG"),
        ({"Tags": [{"Key": "x", "Value": "y"}] * 2}, "INVALID_TAG"),
        ({"Tags": [{"Value": "y"}]}, "INVALID_TAG"),
        ({"Tags": [{"Key": str(number), "Value": ""} for number in range(51)]}, "INVALID_TAG"),
        ({"ParentSnapshotId": "vol-01234567"}, "INVALID_SNAPSHOT_ID"),
    ],
)
def test_what_cannot_be_started_is_refused(quiet: House, parameters: dict[str, Any], reason: str) -> None:
    assert refusal(quiet.rude.start_snapshot, **{"VolumeSize": 1, **parameters}) == (INVALID, reason)


def test_a_volume_that_the_file_system_cannot_hold_is_refused_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EFBIG, "too large")

    monkeypatch.setattr(os, "ftruncate", refuse)
    assert refusal(house.ebs.start_snapshot, VolumeSize=1) == (INVALID, "INVALID_VOLUME_SIZE")
    assert house.files() == set()


def test_a_full_disk_is_no_fault_of_the_clients(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The put is tried again, and is as if nothing had been."""
    snapshot_id = house.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOSPC, "full")

        patch.setattr(os, "pwrite", refuse)
        assert refusal(house.ebs.put_snapshot_block, **put_arguments(snapshot_id, 0, block(1)))[0] == (
            "InternalServerException"
        )
    house.put(snapshot_id, 0, block(1))
    house.ebs.complete_snapshot(SnapshotId=snapshot_id, ChangedBlocksCount=1)
    assert house.read(snapshot_id) == {0: block(1)}


def test_a_parent_is_no_larger_than_its_child(house: House) -> None:
    parent = house.make({}, size_gib=2)
    refused = refusal(house.rude.start_snapshot, VolumeSize=1, ParentSnapshotId=parent)
    assert refused == (INVALID, "INVALID_VOLUME_SIZE")


def test_the_same_request_twice_is_one_snapshot(house: House) -> None:
    request = {"VolumeSize": 1, "Description": "web", "ClientToken": "x" * 255}
    first = house.ebs.start_snapshot(**request)
    files = house.files()
    assert house.ebs.start_snapshot(**request)["SnapshotId"] == first["SnapshotId"]
    assert refusal(house.rude.start_snapshot, **{**request, "VolumeSize": 2})[0] == "ConflictException"
    assert house.files() == files
    assert len(files) == 2


def test_pending_snapshots_and_their_size_are_limited(tmp_path: Path) -> None:
    with running_house(tmp_path, replace(AWS, pending_snapshots=2, snapshot_gib=3)) as house:
        first = house.ebs.start_snapshot(VolumeSize=3)["SnapshotId"]
        assert refusal(house.rude.start_snapshot, VolumeSize=4)[1] == "INVALID_VOLUME_SIZE"
        house.ebs.start_snapshot(VolumeSize=1)
        quota = ("ServiceQuotaExceededException", "DEPENDENCY_SERVICE_QUOTA_EXCEEDED")
        assert refusal(house.rude.start_snapshot, VolumeSize=1) == quota
        house.ebs.complete_snapshot(SnapshotId=first, ChangedBlocksCount=0)
        house.ebs.start_snapshot(VolumeSize=1)


def test_fifty_tags_of_the_users_leave_no_room_for_ours(house: House) -> None:
    tags = [{"Key": str(number), "Value": ""} for number in range(50)]
    snapshot_id = house.make({}, Tags=tags)
    assert house.state(snapshot_id)["State"] == "completed"
    assert len(house.state(snapshot_id)["Tags"]) == 50


# --- the ends of a snapshot that is not completed


def test_a_pending_snapshot_can_be_deleted(house: House) -> None:
    parent = house.imported({0: block(1)}, GIB, "snap-00000000000000001")
    snapshot_id = house.ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=parent)["SnapshotId"]
    house.put(snapshot_id, 0, block(2))
    house.ec2.delete_snapshot(SnapshotId=snapshot_id)
    assert house.files() == {house.path(parent).name}
    late = put_arguments(snapshot_id, 0, block(2))
    assert refusal(house.rude.put_snapshot_block, **late)[0] == "ResourceNotFoundException"
    assert house.files() == {house.path(parent).name}


def test_a_snapshot_that_is_being_completed_can_be_deleted(house: House) -> None:
    house.works = False
    snapshot_id = house.make({0: block(1)})
    assert refusal(house.rude.put_snapshot_block, **put_arguments(snapshot_id, 0, block(2)))[0] == "ConflictException"
    house.ec2.delete_snapshot(SnapshotId=snapshot_id)
    assert house.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []
    (waiting,) = house.catalog.snapshot_uploads.undispatched()
    with pytest.raises(Exception, match="The snapshot was deleted"):
        ActivityEnvironment().run(house.activities.make_snapshot, waiting)
    ActivityEnvironment().run(house.activities.end_snapshot, CleanUp(waiting, "x"))
    assert house.files() == set()
    assert house.catalog.snapshot_uploads.unended() == []


def test_a_snapshot_that_is_deleted_at_the_last_moment_leaves_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the image that appears and the snapshot that completes."""
    house.works = False
    snapshot_id = house.make({0: block(1)})
    finish = SnapshotBlocks.finish

    def finish_and_delete(blocks: SnapshotBlocks) -> None:
        house.catalog.snapshots.remove(PLACE, snapshot_id)
        finish(blocks)

    monkeypatch.setattr(SnapshotBlocks, "finish", finish_and_delete)
    with pytest.raises(Exception, match="The snapshot was deleted"):
        ActivityEnvironment().run(house.activities.make_snapshot, snapshot_id)
    ActivityEnvironment().run(house.activities.end_snapshot, CleanUp(snapshot_id, "x"))
    assert house.files() == set()


def test_an_upload_that_nobody_goes_on_with_ends_in_error(house: House) -> None:
    snapshot_id = house.ebs.start_snapshot(VolumeSize=1, Timeout=10)["SnapshotId"]
    other = house.ebs.start_snapshot(VolumeSize=1, Timeout=4320)["SnapshotId"]
    house.put(snapshot_id, 0, block(1))
    house.ahead = timedelta(minutes=9)
    expire_uploads(house.ebs_services)
    house.put(snapshot_id, 1, block(1))
    house.ahead = timedelta(minutes=11)
    expire_uploads(house.ebs_services)
    state = house.state(snapshot_id)
    assert state["State"] == "error"
    assert state["StateMessage"] == "No block was put for 10 minutes, the Timeout of StartSnapshot."
    assert house.state(other)["State"] == "pending"
    late = put_arguments(snapshot_id, 2, block(1))
    assert refusal(house.rude.put_snapshot_block, **late)[0] == "ConflictException"
    assert all(other in name for name in house.files())
    house.ec2.delete_snapshot(SnapshotId=snapshot_id)
    house.ec2.delete_snapshot(SnapshotId=other)
    assert house.files() == set()


def test_whoever_puts_just_now_is_not_expired(house: House) -> None:
    snapshot_id = house.ebs.start_snapshot(VolumeSize=1, Timeout=10)["SnapshotId"]
    upload = house.catalog.snapshot_uploads.find(snapshot_id)
    assert upload is not None
    house.ahead = timedelta(days=1)
    with open_blocks(house.images, upload) as held:
        held.lock(shared=True)
        expire_uploads(house.ebs_services)
        assert house.state(snapshot_id)["State"] == "pending"
    expire_uploads(house.ebs_services)
    assert house.state(snapshot_id)["State"] == "error"


# --- what dies in between


def test_a_put_that_was_cut_off_leaves_no_trace_of_its_bytes(house: House, tmp_path: Path) -> None:
    """The record names a block whose bytes are half there; the put comes again, with other bytes."""
    snapshot_id = house.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    upload = house.catalog.snapshot_uploads.find(snapshot_id)
    assert upload is not None
    with open_blocks(house.images, upload) as blocks:
        blocks._record.write_at(3 * 32, hashlib.sha256(block(1)).digest())
        blocks._writer.write_at(blocks._place(3), block(1)[: 300 * KIB])
    sparse = bytes(448 * KIB) + block(2)[: 64 * KIB]
    house.put(snapshot_id, 3, sparse)
    house.ebs.complete_snapshot(SnapshotId=snapshot_id, ChangedBlocksCount=1)
    assert same_guest(house.path(snapshot_id), {3: sparse}, GIB, tmp_path)


def test_bytes_of_which_the_record_was_lost_do_not_show(house: House, tmp_path: Path) -> None:
    """As after a power cut, which may keep the one file's bytes and lose the other's."""
    parent = house.imported({5 * EBS_BLOCK_SIZE: block(5)}, GIB, "snap-00000000000000001")
    snapshot_id = house.ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=parent)["SnapshotId"]
    house.put(snapshot_id, 3, block(1))
    upload = house.catalog.snapshot_uploads.find(snapshot_id)
    assert upload is not None
    with open_blocks(house.images, upload) as blocks:
        for index in (4, 5):
            blocks._writer.write_at(blocks._place(index), block(9))
    house.ebs.complete_snapshot(SnapshotId=snapshot_id, ChangedBlocksCount=1)
    assert same_guest(house.path(snapshot_id), {3: block(1), 5: block(5)}, GIB, tmp_path)


def test_a_block_that_is_not_what_the_record_says_is_never_passed_on(house: House) -> None:
    house.works = False
    snapshot_id = house.make({0: block(1), 1: block(2)})
    upload = house.catalog.snapshot_uploads.find(snapshot_id)
    assert upload is not None
    with open_blocks(house.images, upload) as blocks:
        blocks._writer.write_at(blocks._place(1), block(3)[:4096])
    house.works = True
    house.work()
    state = house.state(snapshot_id)
    assert state["State"] == "error"
    assert state["StateMessage"].startswith(f"Block 1 of {snapshot_id} was not wholly written")
    assert house.files() == set()


@pytest.mark.parametrize("step", ["check", "inherit", "finish"])
def test_completion_goes_on_where_it_died(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    house.works = False
    parent = house.imported({0: block(1), MIB: block(2)}, GIB, "snap-00000000000000001")
    snapshot_id = house.make({2: block(3), 9: block(4)}, ParentSnapshotId=parent)
    with monkeypatch.context() as patch, suppress(Exception):
        real = getattr(SnapshotBlocks, step)

        def die(*arguments: Any) -> None:
            real(*arguments)
            raise RuntimeError("killed")

        patch.setattr(SnapshotBlocks, step, die)
        ActivityEnvironment().run(house.activities.make_snapshot, snapshot_id)
        raise AssertionError("it lived")
    assert house.state(snapshot_id)["State"] == "pending"
    for _ in range(2):  # and once more after its end
        ActivityEnvironment().run(house.activities.make_snapshot, snapshot_id)
    ActivityEnvironment().run(house.activities.end_snapshot, CleanUp(snapshot_id, "late"))
    assert house.state(snapshot_id)["State"] == "completed"
    assert same_guest(house.path(snapshot_id), {0: block(1), 2: block(3), 9: block(4)}, GIB, tmp_path)
    assert house.files() == {house.path(parent).name, house.path(snapshot_id).name}


def test_one_worker_at_a_time_completes_a_snapshot(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that wakes would empty the blocks that another has filled from the parent meanwhile."""
    house.works = False
    snapshot_id = house.make({2: block(3)})
    real = SnapshotBlocks.check

    def while_frozen(blocks: SnapshotBlocks, go: Any) -> None:
        monkeypatch.setattr(SnapshotBlocks, "check", real)
        with pytest.raises(ApplicationError, match="shows no life") as refused:
            ActivityEnvironment().run(house.activities.make_snapshot, snapshot_id)
        assert not refused.value.non_retryable
        real(blocks, go)

    monkeypatch.setattr(SnapshotBlocks, "check", while_frozen)
    ActivityEnvironment().run(house.activities.make_snapshot, snapshot_id)
    assert house.state(snapshot_id)["State"] == "completed"


def test_the_catalog_refuses_what_came_too_late(house: House) -> None:
    uploads = house.catalog.snapshot_uploads
    snapshot_id = house.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    with pytest.raises(TaskCancelledError):
        uploads.complete(snapshot_id, "guest1:0")  # nobody has asked for it
    house.ec2.delete_snapshot(SnapshotId=snapshot_id)
    with pytest.raises(NotFoundError):
        uploads.end(snapshot_id, "late")
    uploads.report(snapshot_id, 50)
    with pytest.raises(ClientError):
        house.state(snapshot_id)


def test_the_checksum_is_over_binary_digests() -> None:
    assert (
        linear({1: b"b", 0: b"a"})["Checksum"]
        == base64.b64encode(
            hashlib.sha256(hashlib.sha256(b"a").digest() + hashlib.sha256(b"b").digest()).digest()
        ).decode()
    )
