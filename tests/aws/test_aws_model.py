"""botocore's model as typed facts."""

from __future__ import annotations

import pytest

from vmferry.aws.model import Kind, Service, load_service, snake_case


@pytest.fixture(scope="module")
def ec2() -> Service:
    return load_service("ec2")


@pytest.mark.parametrize(
    ("action", "member", "wire"),
    [
        ("ImportImage", "DiskContainers", "DiskContainer"),
        ("ImportImage", "LicenseSpecifications", "LicenseSpecifications"),
        ("ImportImage", "TagSpecifications", "TagSpecification"),
        ("DescribeImportImageTasks", "ImportTaskIds", "ImportTaskId"),
        ("DescribeImportImageTasks", "Filters", "Filters"),
        ("DescribeExportImageTasks", "Filters", "Filter"),
        ("CreateInstanceExportTask", "ExportToS3Task", "ExportToS3"),
        ("DescribeImages", "Owners", "Owner"),
    ],
)
def test_a_request_spells_members_by_the_rule_of_the_ec2_protocol(
    ec2: Service, action: str, member: str, wire: str
) -> None:
    operation = ec2.operation(action)
    assert operation is not None
    assert operation.input.members[member].request_name == wire
    assert operation.input.requested[wire].name == member


@pytest.mark.parametrize(
    ("member", "wire"), [("State", "imageState"), ("OwnerId", "imageOwnerId"), ("Public", "isPublic")]
)
def test_an_answer_spells_members_by_their_location_name(ec2: Service, member: str, wire: str) -> None:
    operation = ec2.operation("DescribeImages")
    assert operation is not None
    assert operation.output is not None
    images = operation.output.members["Images"].shape
    assert images.kind is Kind.LIST
    assert images.element is not None
    assert images.element.members[member].response_name == wire


def test_every_operation_compiles_and_no_two_members_share_a_request_name(ec2: Service) -> None:
    shared = []
    for name in ec2.operation_names:
        operation = ec2.operation(name)
        assert operation is not None
        if len(operation.input.requested) != len(operation.input.members):
            shared.append(name)
    assert len(ec2.operation_names) > 600
    assert shared == []


def test_an_operation_that_the_service_lacks_is_none(ec2: Service) -> None:
    assert ec2.operation("ImportFerry") is None
    assert ec2.operation("") is None


def test_actions_are_named_as_botocore_names_its_methods() -> None:
    assert snake_case("ImportImage") == "import_image"
    assert snake_case("DescribeImportImageTasks") == "describe_import_image_tasks"
    assert snake_case("CreateInstanceExportTask") == "create_instance_export_task"
