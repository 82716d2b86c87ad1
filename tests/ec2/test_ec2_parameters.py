"""Ids, choices, tags and zones as requests carry them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from vmferry.aws.errors import ApiError
from vmferry.aws.tags import check_tags
from vmferry.ec2.choices import choose
from vmferry.ec2.ids import check_id, check_ids, new_id
from vmferry.ec2.resources import KINDS, kind_of
from vmferry.ec2.tag_specifications import check_tag_specifications, tags_for
from vmferry.ec2.zones import zones_of


def error_of(call: Any, *arguments: Any) -> tuple[str, str]:
    with pytest.raises(ApiError) as caught:
        call(*arguments)
    return caught.value.code, str(caught.value)


def test_a_new_id_has_seventeen_hexadecimal_digits_and_is_new() -> None:
    ids = {new_id("import-ami-") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch("import-ami-[0-9a-f]{17}", value) for value in ids)


@pytest.mark.parametrize(
    ("value", "prefix"),
    [
        ("ami-0123456789abcdef0", "ami-"),
        ("ami-01234567", "ami-"),
        ("import-ami-ffmjni7l", "import-ami-"),
        ("import-snap-2b608c5f4fbcc276t", "import-snap-"),
        ("export-i-06deac721898e134d", "export-i-"),
    ],
)
def test_ids_old_and_new_are_accepted(value: str, prefix: str) -> None:
    assert check_id(value, prefix) == value
    kind = kind_of(value)
    assert kind is not None
    assert kind.prefix == prefix


@pytest.mark.parametrize(
    "value",
    [
        "",
        "ami",
        "ami-",
        "ami-1",
        "ami-ABCDEFGH",
        "ami-0123456789abcdef01",
        "snap-01234567",
        "import-ami-01234567",
        "ami-0123456\n",
    ],
)
def test_a_malformed_id_is_named(value: str) -> None:
    code, message = error_of(check_id, value, "ami-")
    assert code == "InvalidAMIID.Malformed"
    assert message.endswith('(expecting "ami-...")')
    assert "\n" not in message


def test_conversion_tasks_have_one_code_for_all_their_prefixes() -> None:
    assert error_of(check_id, "x", "import-i-", "import-vol-") == (
        "InvalidConversionTaskId.Malformed",
        'Invalid id: "x" (expecting "import-i-..." or "import-vol-...")',
    )


def test_ids_keep_their_order_and_lose_their_doubles() -> None:
    assert check_ids(["ami-22222222", "ami-11111111", "ami-22222222"], "ami-") == ["ami-22222222", "ami-11111111"]
    assert error_of(check_ids, ["ami-22222222", "bad", "worse"], "ami-")[1].startswith('Invalid id: "bad"')


def test_no_two_kinds_share_a_prefix() -> None:
    assert len({kind.prefix for kind in KINDS}) == len(KINDS)
    assert kind_of("nonsense") is None
    assert kind_of("ferry-0123") is None


def test_a_choice_is_spelled_as_it_is_allowed() -> None:
    assert choose("vmdk", ["OVA", "VMDK"], "Format") == "VMDK"
    assert error_of(choose, "BeOS", ["Windows", "Linux"], "Platform") == (
        "InvalidParameterValue",
        "Value (BeOS) for parameter Platform is invalid. Expected one of Windows, Linux.",
    )


def test_tag_specifications_give_the_tags_of_each_type() -> None:
    given = [
        {"ResourceType": "image", "Tags": [{"Key": "Name", "Value": "web"}, {"Key": "e", "Value": ""}]},
        {"ResourceType": "snapshot", "Tags": [{"Key": "a", "Value": "b"}]},
    ]
    assert check_tag_specifications(given, {"image", "snapshot"}) == {
        "image": {"Name": "web", "e": ""},
        "snapshot": {"a": "b"},
    }
    assert tags_for(given[:1], "image") == {"Name": "web", "e": ""}
    assert tags_for(None, "image") == {}


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (
            [{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}],
            "InvalidParameterValue",
            "'volume' is not a valid taggable resource type for this operation. | Allowed here: image.",
        ),
        ([{"ResourceType": "image"}], "InvalidParameterValue", "Tag specification must have at least one tag"),
        (
            [{"Tags": [{"Key": "a", "Value": "b"}]}],
            "MissingParameter",
            "The request must contain the parameter TagSpecification.ResourceType",
        ),
        (
            [{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "b"}]}] * 2,
            "InvalidParameterValue",
            "The resource type 'image' has more than one tag specification",
        ),
    ],
)
def test_a_wrong_tag_specification_is_refused(given: list[dict[str, Any]], code: str, message: str) -> None:
    assert error_of(check_tag_specifications, given, {"image"}) == (code, message)


@pytest.mark.parametrize(
    ("tags", "code", "part"),
    [
        ([{"Value": "v"}], "InvalidParameterValue", "key cannot be null"),
        ([{"Key": "", "Value": "v"}], "InvalidParameterValue", "key cannot be null"),
        ([{"Key": "k"}], "InvalidParameterValue", "Tag value cannot be null. Use empty string instead."),
        ([{"Key": "k" * 129, "Value": "v"}], "InvalidParameterValue", "128"),
        ([{"Key": "k", "Value": "v" * 257}], "InvalidParameterValue", "256"),
        ([{"Key": "AWS:k", "Value": "v"}], "InvalidParameterValue", "reserved"),
        ([{"Key": "k", "Value": "v"}] * 2, "InvalidParameterValue", "Duplicate tag key 'k'"),
        ([{"Key": str(n), "Value": ""} for n in range(51)], "TagLimitExceeded", "51 tags, at most 50"),
    ],
)
def test_a_wrong_tag_is_refused(tags: list[dict[str, str]], code: str, part: str) -> None:
    found, message = error_of(check_tags, tags)
    assert found == code
    assert part in message


def test_fifty_tags_of_the_greatest_length_are_well() -> None:
    tags = [{"Key": f"{n:0128}", "Value": "é" * 256} for n in range(50)]
    assert len(check_tags(tags)) == 50


@pytest.mark.parametrize(
    ("region", "zone", "zone_id"),
    [
        ("us-east-1", "us-east-1a", "use1-az1"),
        ("ap-southeast-2", "ap-southeast-2a", "apse2-az1"),
        ("eu-central-1", "eu-central-1a", "euc1-az1"),
        ("berlin", "berlina", "berlin-az1"),
    ],
)
def test_a_region_has_one_zone(region: str, zone: str, zone_id: str) -> None:
    (found,) = zones_of(region)
    assert (found.name, found.id, found.region) == (zone, zone_id, region)
