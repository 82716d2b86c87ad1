"""Parameters that an action declares as refused, and the gateway refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.ec2.running_gateway import GatewayRunner
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.refusals import ENCRYPTION, Refusals, all_but, check_refused, under

REFUSALS: Refusals = {
    **ENCRYPTION,
    "Operator": "nobody else manages",
    **under("Mappings.Ebs", {"Iops": "there is no rate", "Tags": "there are none"}),
}


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"Encrypted": False, "KmsKeyId": "", "Name": "x"},
        {"Mappings": [{"Ebs": {"Iops": 0, "Tags": []}}, {"DeviceName": "x"}, {}]},
        {"Mappings": "of another shape"},
    ],
)
def test_what_says_nothing_is_let_through(request_: dict[str, Any]) -> None:
    check_refused(request_, REFUSALS)


@pytest.mark.parametrize(
    ("request_", "code", "named"),
    [
        ({"Encrypted": True, "KmsKeyId": "k"}, "UnsupportedOperation", "vmferry does not take Encrypted: "),
        ({"KmsKeyId": "k"}, "InvalidParameterDependency", "[KmsKeyId] requires the parameter Encrypted"),
        ({"Operator": {"Principal": False}}, "UnsupportedOperation", "Operator: nobody else manages. Leave it out."),
        ({"Mappings": [{}, {"Ebs": {"Iops": 3}}]}, "UnsupportedOperation", "Mappings.Ebs.Iops: there is no rate"),
        ({"Mappings": [{"Ebs": {"Tags": [False]}}]}, "UnsupportedOperation", "Mappings.Ebs.Tags"),
    ],
)
def test_what_is_given_is_refused_wherever_it_stands(request_: dict[str, Any], code: str, named: str) -> None:
    with pytest.raises(Ec2Error) as caught:
        check_refused(request_, REFUSALS)
    assert caught.value.code == code
    assert named in str(caught.value)


def test_all_but_some_is_what_the_model_has_besides() -> None:
    found = all_but("DescribeTags", ("Filters", "MaxResults"), "why")
    assert found == {"NextToken": "why"}
    assert "Placement.HostId" in all_but("RunInstances", ("Tenancy",), "why", "Placement")
    assert "DiskContainers.UserBucket.S3Key" in all_but("ImportImage", (), "why", "DiskContainers.UserBucket")


def test_the_gateway_refuses_before_the_action_and_before_a_dry_run(serve: GatewayRunner) -> None:
    def run(_: RequestContext, __: Mapping[str, Any]) -> dict[str, Any]:
        raise AssertionError("the action ran")

    def check(_: RequestContext, __: Mapping[str, Any]) -> None:
        raise AssertionError("the check ran")

    action = Action("DeleteSnapshot", run, check, refuses={"SnapshotId": "it is not to be had"})
    with serve({"delete_snapshot": action}) as endpoint:
        for dry in (False, True):
            with pytest.raises(ClientError) as caught:
                endpoint.client().delete_snapshot(SnapshotId="snap-01234567", DryRun=dry)
            assert caught.value.response["Error"] == {
                "Code": "UnsupportedOperation",
                "Message": "vmferry does not take SnapshotId: it is not to be had. Leave it out.",
            }
