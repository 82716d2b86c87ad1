"""What AMIs support, kept from RegisterImage on: shown, copied, launched, made an AMI of again."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.ec2.material import make_image, make_snapshot
from tests.ec2.running_gateway import Endpoint
from vmferry.ec2.ids import new_id
from vmferry.ec2.services import Services

UEFI_DATA = base64.b64encode(b"AMZNUEFI" + bytes(range(64))).decode()
SHOWN = {"EnaSupport": True, "SriovNetSupport": "simple", "TpmSupport": "v2.0", "ImdsSupport": "v2.0"}
EVERYTHING = {**SHOWN, "BootMode": "uefi", "UefiData": UEFI_DATA}


@pytest.fixture(scope="module")
def ec2(endpoint: Endpoint) -> Any:
    return endpoint.client()


@pytest.fixture
def image_id(ec2: Any, services: Services) -> str:
    return make_image(ec2, make_snapshot(services), **EVERYTHING)


def shown(client: Any, image_id: str) -> dict[str, Any]:
    """What is said of the AMI, in the list and attribute by attribute."""
    (image,) = client.describe_images(ImageIds=[image_id])["Images"]
    found = {name: image[name] for name in (*SHOWN, "BootMode") if name in image}
    for member in ("SriovNetSupport", "TpmSupport", "ImdsSupport", "BootMode", "UefiData"):
        name = member[0].lower() + member[1:]
        value = client.describe_image_attribute(ImageId=image_id, Attribute=name)[member].get("Value")
        assert member == "UefiData" or value == found.get(member)
        found |= {"UefiData": value} if member == "UefiData" and value else {}
    return found


def test_what_an_ami_supports_is_kept_and_copied(ec2: Any, endpoint: Endpoint, image_id: str) -> None:
    assert shown(ec2, image_id) == EVERYTHING
    west = endpoint.client(region_name="us-west-2")
    copied = west.copy_image(Name=image_id, SourceImageId=image_id, SourceRegion="us-east-1")["ImageId"]
    assert shown(west, copied) == EVERYTHING


def test_an_instance_has_it_and_gives_it_on(ec2: Any, image_id: str) -> None:
    (instance,) = ec2.run_instances(ImageId=image_id, MinCount=1, MaxCount=1)["Instances"]
    assert (instance["TpmSupport"], instance["SriovNetSupport"], instance["EnaSupport"]) == ("v2.0", "simple", True)
    named = {"InstanceId": instance["InstanceId"]}
    assert ec2.describe_instance_attribute(Attribute="sriovNetSupport", **named)["SriovNetSupport"]["Value"] == "simple"
    ec2.deregister_image(ImageId=image_id)  # the instance needs it no longer
    assert shown(ec2, ec2.create_image(Name=new_id("made-"), **named)["ImageId"]) == EVERYTHING


def test_an_ami_that_says_nothing_supports_nothing(ec2: Any, services: Services) -> None:
    image_id = make_image(ec2, make_snapshot(services))
    assert shown(ec2, image_id) == {"EnaSupport": False, "BootMode": "legacy-bios"}
    found = ec2.describe_images(Filters=[{"Name": "ena-support", "Values": ["true"]}])["Images"]
    assert image_id not in {image["ImageId"] for image in found}


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"TpmSupport": "v2.0"}, "InvalidParameterCombination"),
        ({"TpmSupport": "v2.0", "BootMode": "uefi-preferred"}, "InvalidParameterCombination"),
        ({"UefiData": UEFI_DATA, "BootMode": "legacy-bios"}, "InvalidParameterCombination"),
        ({"TpmSupport": "v1.2", "BootMode": "uefi"}, "InvalidParameterValue"),
        ({"UefiData": "no base64!", "BootMode": "uefi"}, "InvalidParameterValue"),
        ({"UefiData": "A" * 64_004, "BootMode": "uefi"}, "InvalidParameterValue"),
        ({"ImdsSupport": "v1.0"}, "InvalidParameterValue"),
        ({"SriovNetSupport": "double"}, "InvalidParameterValue"),
    ],
)
def test_what_cannot_be_supported_is_refused(ec2: Any, services: Services, given: dict[str, str], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        make_image(ec2, make_snapshot(services), **given)
    assert caught.value.response["Error"]["Code"] == code


@pytest.mark.parametrize(
    "spelling", [{"ImdsSupport": {"Value": "v2.0"}}, {"Attribute": "imdsSupport", "Value": "v2.0"}]
)
def test_the_metadata_service_is_asked_for_afterwards(ec2: Any, services: Services, spelling: dict[str, Any]) -> None:
    image_id = make_image(ec2, make_snapshot(services), EnaSupport=True)
    ec2.modify_image_attribute(ImageId=image_id, **spelling)
    assert shown(ec2, image_id) == {"EnaSupport": True, "ImdsSupport": "v2.0", "BootMode": "legacy-bios"}
    with pytest.raises(ClientError, match="Expected one of v2"):
        ec2.modify_image_attribute(ImageId=image_id, ImdsSupport={"Value": "v3.0"})
