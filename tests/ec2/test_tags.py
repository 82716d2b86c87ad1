"""Tags, by botocore's client: put, found, taken off; on everything that has an id."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.ec2.material import make_image, make_snapshot
from tests.ec2.running_gateway import Endpoint
from vmferry.ec2.services import Services


@pytest.fixture(scope="module")
def ec2(endpoint: Endpoint) -> Any:
    return endpoint.client()


def tags_of(ec2: Any, resource_id: str) -> dict[str, str]:
    found = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [resource_id]}])["Tags"]
    return {tag["Key"]: tag["Value"] for tag in found}


def test_tags_are_put_on_everything_and_taken_off_again(ec2: Any, services: Services) -> None:
    snapshot = make_snapshot(services)
    image = make_image(ec2, snapshot)
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    instance = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    everything = [snapshot, image, volume, instance]
    ec2.create_tags(Resources=everything, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}])
    assert all(tags_of(ec2, one) == {"a": "1", "b": ""} for one in everything)
    kinds = {tag["ResourceType"] for tag in ec2.describe_tags(Filters=[{"Name": "key", "Values": ["a"]}])["Tags"]}
    assert kinds >= {"snapshot", "image", "volume", "instance"}
    ec2.delete_tags(Resources=everything, Tags=[{"Key": "a", "Value": "other"}, {"Key": "b"}])
    assert all(tags_of(ec2, one) == {"a": "1"} for one in everything)
    ec2.delete_tags(Resources=everything)
    assert all(tags_of(ec2, one) == {} for one in everything)


def test_a_tag_on_nothing_is_refused_for_all(ec2: Any, services: Services) -> None:
    snapshot = make_snapshot(services)
    with pytest.raises(ClientError, match="does not exist"):
        ec2.create_tags(Resources=[snapshot, "vol-00000000"], Tags=[{"Key": "a", "Value": "1"}])
    assert tags_of(ec2, snapshot) == {}
