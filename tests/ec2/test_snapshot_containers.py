"""ImportImage with disk containers that name snapshots, by botocore's clients of two accounts."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.ec2.material import make_snapshot
from tests.ec2.running_gateway import OTHER_ACCOUNT, OTHER_KEY, Endpoint
from vmferry.ec2.services import Services


@pytest.fixture(scope="module")
def ec2(endpoint: Endpoint) -> Any:
    return endpoint.client()


def refusal(ec2: Any, **container: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        ec2.import_image(DiskContainers=[container])
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_snapshot_is_recorded_and_shown_as_it_was_asked_for(ec2: Any, services: Services) -> None:
    snapshot_id = make_snapshot(services)
    asked = {"SnapshotId": snapshot_id, "Format": "raw", "Description": "root"}
    answer = ec2.import_image(DiskContainers=[asked])
    assert answer["SnapshotDetails"] == [
        {"SnapshotId": snapshot_id, "Format": "RAW", "Description": "root", "DiskImageSize": 0.0}
    ]
    (container,) = services.catalog.import_tasks.get(answer["ImportTaskId"]).request.containers
    assert (container.snapshot_id, container.bucket, container.format) == (snapshot_id, None, "RAW")
    (task,) = ec2.describe_import_image_tasks(ImportTaskIds=[answer["ImportTaskId"]])["ImportImageTasks"]
    assert task["Status"] == "active"


def test_snapshots_that_cannot_be_imported_are_refused(ec2: Any, services: Services) -> None:
    assert refusal(ec2, SnapshotId="snap-0123456789abcdef0")[0] == "InvalidSnapshot.NotFound"
    assert refusal(ec2, SnapshotId="ami-0123456789abcdef0")[0] == "InvalidSnapshotID.Malformed"
    assert refusal(ec2, SnapshotId=make_snapshot(services, whole=False))[0] == "IncorrectState"
    assert refusal(ec2, SnapshotId=make_snapshot(services), Format="OVA")[0] == "InvalidParameterCombination"
    both = {"SnapshotId": make_snapshot(services), "Url": "s3://imports/disk.raw"}
    code, message = refusal(ec2, **both)
    assert code == "InvalidParameterCombination"
    assert message.endswith("it has SnapshotId and Url.")


def test_another_account_imports_a_snapshot_that_is_shared_with_it(
    ec2: Any, endpoint: Endpoint, services: Services
) -> None:
    snapshot_id, other = make_snapshot(services), endpoint.client(aws_access_key_id=OTHER_KEY)
    assert refusal(other, SnapshotId=snapshot_id)[0] == "InvalidSnapshot.NotFound"
    ec2.modify_snapshot_attribute(SnapshotId=snapshot_id, OperationType="add", UserIds=[OTHER_ACCOUNT])
    assert other.import_image(DiskContainers=[{"SnapshotId": snapshot_id}])["Status"] == "active"
    assert refusal(endpoint.client(region_name="us-west-2"), SnapshotId=snapshot_id)[0] == "InvalidSnapshot.NotFound"
