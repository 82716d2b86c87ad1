"""Snapshots read block by block, and compared, by botocore's own client."""

from __future__ import annotations

import os
from datetime import timedelta
from itertools import islice

import pytest

from tests.ebs.conftest import House, block, follow, refusal
from tests.ec2.running_gateway import OTHER_KEY
from vmferry.ebs.operations import list_changed_blocks
from vmferry.ebs.tokens import load_token_key
from vmferry.snapshot_blocks import EBS_BLOCK_SIZE
from vmferry.units import GIB, KIB, MIB

ZEROS = bytes(EBS_BLOCK_SIZE)


def test_an_imported_snapshot_is_listed_and_read(house: House) -> None:
    """A volume that is no multiple of a block: the last one is filled up with zeros."""
    size = 3 * MIB + 64 * KIB
    tail, small = os.urandom(64 * KIB), os.urandom(64 * KIB)
    house.imported({0: block(1), MIB + 64 * KIB: small, 3 * MIB: tail}, size, "snap-00000000000000001")
    answer = house.ebs.list_snapshot_blocks(SnapshotId="snap-00000000000000001")
    assert (answer["VolumeSize"], answer["BlockSize"]) == (1, EBS_BLOCK_SIZE)
    assert "NextToken" not in answer
    assert answer["ExpiryTime"] - house.now() > timedelta(days=6)
    assert house.read("snap-00000000000000001") == {
        0: block(1),
        2: bytes(64 * KIB) + small + bytes(384 * KIB),
        6: tail + bytes(EBS_BLOCK_SIZE - 64 * KIB),
    }


def test_a_listing_is_cut_into_pages(house: House) -> None:
    parts = {index * EBS_BLOCK_SIZE: b"x" * (64 * KIB) for index in range(0, 500, 2)}
    snapshot_id = house.imported(parts, GIB, "snap-00000000000000001")
    arguments = {"SnapshotId": snapshot_id, "MaxResults": 100}
    pages = list(follow(house.ebs.list_snapshot_blocks, arguments))
    assert [len(page["Blocks"]) for page in pages] == [100, 100, 50]
    assert [b["BlockIndex"] for page in pages for b in page["Blocks"]] == list(range(0, 500, 2))
    assert list(house.listed(snapshot_id, StartingBlockIndex=251)) == list(range(252, 500, 2))
    assert house.listed(snapshot_id, StartingBlockIndex=1 << 30) == {}


def test_pages_are_those_of_their_listing(house: House) -> None:
    parts = {index * EBS_BLOCK_SIZE: b"x" * (64 * KIB) for index in range(200)}
    one, other = (house.imported(parts, GIB, f"snap-0000000000000000{n}") for n in (1, 2))
    token = house.ebs.list_snapshot_blocks(SnapshotId=one, MaxResults=100)["NextToken"]
    wrong = {"SnapshotId": other, "NextToken": token}
    assert refusal(house.ebs.list_snapshot_blocks, **wrong) == ("ValidationException", "INVALID_PAGE_TOKEN")
    house.ahead = timedelta(hours=2)
    late = {"SnapshotId": one, "NextToken": token}
    assert refusal(house.ebs.list_snapshot_blocks, **late) == ("ValidationException", "INVALID_PAGE_TOKEN")


def test_tokens_are_bound_expire_and_cannot_be_made_up(house: House) -> None:
    one = house.imported({0: block(1), MIB: block(2)}, GIB, "snap-00000000000000001")
    other = house.imported({0: block(3)}, GIB, "snap-00000000000000002")
    token = house.listed(one)[0]
    wrong = ("ValidationException", "INVALID_BLOCK_TOKEN")
    get = house.rude.get_snapshot_block
    assert refusal(get, SnapshotId=other, BlockIndex=0, BlockToken=token) == wrong
    assert refusal(get, SnapshotId=one, BlockIndex=2, BlockToken=token) == wrong
    for made_up in ("AAAA", "x", "-", token[:-4] + "AAAA", "A" * 64, "A" * 300):
        assert refusal(get, SnapshotId=one, BlockIndex=0, BlockToken=made_up) == wrong
    strange_key = load_token_key(house.folder / "strange.key")
    forged = strange_key.block_token(one, 0, house.now() + timedelta(days=1))
    assert refusal(get, SnapshotId=one, BlockIndex=0, BlockToken=forged) == wrong
    again = load_token_key(house.folder / "tokens.key")  # as after a start of the server
    assert house.get(one, 0, again.block_token(one, 0, house.now() + timedelta(days=1))) == block(1)
    house.ahead = timedelta(days=8)
    assert refusal(get, SnapshotId=one, BlockIndex=0, BlockToken=token) == wrong
    house.ahead = timedelta(days=6)
    assert house.get(one, 0, token) == block(1)


def test_snapshots_of_others_do_not_exist(house: House) -> None:
    snapshot_id = house.imported({0: block(1)}, GIB, "snap-00000000000000001")
    missing = ("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")
    for client in (
        house.endpoint.client("ebs", aws_access_key_id=OTHER_KEY),
        house.endpoint.client("ebs", region_name="us-west-2"),
    ):
        assert refusal(client.list_snapshot_blocks, SnapshotId=snapshot_id) == missing
        assert refusal(client.start_snapshot, VolumeSize=1, ParentSnapshotId=snapshot_id) == missing
    assert refusal(house.ebs.list_snapshot_blocks, SnapshotId="snap-0123456789") == missing


def test_changes_are_those_of_content(house: House) -> None:
    one = house.imported({0: block(1), MIB: block(2), 5 * MIB: block(5)}, GIB, "snap-00000000000000001")
    data = {0: block(1), MIB: block(3), 2 * MIB: ZEROS, 3 * MIB: block(4)}
    other = house.make({offset // EBS_BLOCK_SIZE: part for offset, part in data.items()})
    changed = house.changed(one, other)
    assert [entry["BlockIndex"] for entry in changed] == [2, 6, 10]
    assert ["FirstBlockToken" in entry for entry in changed] == [True, False, True]
    assert ["SecondBlockToken" in entry for entry in changed] == [True, True, False]
    assert house.get(one, 2, changed[0]["FirstBlockToken"]) == block(2)
    assert house.get(other, 2, changed[0]["SecondBlockToken"]) == block(3)
    assert [entry["BlockIndex"] for entry in house.changed(one, other, StartingBlockIndex=3)] == [6, 10]


def test_zeros_and_nothing_are_the_same(house: House) -> None:
    """A block that lies there with zeros, by an earlier put, against one that is not there."""
    pending = house.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    house.put(pending, 3, block(1))
    house.put(pending, 3, ZEROS)
    house.put(pending, 4, block(2))
    house.ebs.complete_snapshot(SnapshotId=pending, ChangedBlocksCount=2)
    assert list(house.listed(pending)) == [3, 4]
    assert [b["BlockIndex"] for b in house.changed(house.make({}), pending)] == [4]


def test_what_is_known_to_be_the_same_is_not_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    one = house.imported({0: block(1)}, GIB, "snap-00000000000000001")
    copy = house.ec2.copy_snapshot(SourceRegion="us-east-1", SourceSnapshotId=one)["SnapshotId"]
    monkeypatch.setattr(list_changed_blocks, "find_changes", None)
    assert house.changed(one, copy) == house.changed(one, one) == []


def test_a_page_of_changes_ends_in_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that had no time is short, and the pages together are whole."""
    data = {index * MIB: block(index)[: 64 * KIB] for index in range(150)}
    one, empty = house.imported(data, GIB, "snap-00000000000000001"), house.make({})
    whole = house.changed(empty, one)
    assert [entry["BlockIndex"] for entry in whole] == list(range(0, 300, 2))
    assert len(house.changed(empty, one, MaxResults=100)) == 150
    following = follow(house.ebs.list_changed_blocks, {"FirstSnapshotId": empty, "SecondSnapshotId": one})
    with monkeypatch.context() as patched:
        patched.setattr(list_changed_blocks, "PAGE_SECONDS", 0.0)
        pages = list(islice(following, 10))
    assert sum(len(page["ChangedBlocks"]) for page in pages) < 150
    pages += following
    assert [entry["BlockIndex"] for page in pages for entry in page["ChangedBlocks"]] == list(range(0, 300, 2))


def test_volumes_of_two_sizes_are_compared(house: House) -> None:
    small = house.imported({0: block(1)}, MIB, "snap-00000000000000001")
    large = house.make({0: block(1), 4000: block(2)}, size_gib=2)
    for first, second, which in ((small, large, "SecondBlockToken"), (large, small, "FirstBlockToken")):
        answer = house.ebs.list_changed_blocks(FirstSnapshotId=first, SecondSnapshotId=second)
        assert answer["VolumeSize"] == 2
        (entry,) = answer["ChangedBlocks"]
        assert entry.keys() == {"BlockIndex", which}
        assert entry["BlockIndex"] == 4000


def test_the_first_snapshot_of_a_comparison_must_be_named(house: House) -> None:
    snapshot_id = house.make({})
    assert refusal(house.ebs.list_changed_blocks, SecondSnapshotId=snapshot_id) == (
        "ValidationException",
        "INVALID_PARAMETER_VALUE",
    )


def test_a_deleted_snapshot_is_read_no_more(house: House) -> None:
    snapshot_id = house.imported({0: block(1)}, GIB, "snap-00000000000000001")
    token = house.listed(snapshot_id)[0]
    house.ec2.delete_snapshot(SnapshotId=snapshot_id)
    answer = refusal(house.ebs.get_snapshot_block, SnapshotId=snapshot_id, BlockIndex=0, BlockToken=token)
    assert answer == ("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")
    house.ebs_services.disks.close_removed(house.catalog)
    assert house.ebs_services.disks._disks.held() == []
