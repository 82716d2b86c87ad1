"""By whose licence a system is imported: what EC2's table says of each system, and what it does not allow."""

from __future__ import annotations

import pytest

from vmferry.catalog.import_tasks import ImportRequest
from vmferry.errors import GuestError
from vmferry.tasks._border import status_message
from vmferry.tasks.import_image.licences import USAGE_OPERATIONS, find_usage_operation


def found(platform: str, license_type: str | None = None, operation: str | None = None, client: bool = False) -> str:
    request = ImportRequest((), license_type=license_type, usage_operation=operation)
    return find_usage_operation(request, platform, client=client)


def test_a_system_has_the_code_of_its_licence() -> None:
    assert found("Linux") == found("Linux", "BYOL") == "RunInstances"
    assert found("Windows") == found("Windows", "AWS") == "RunInstances:0002"
    assert found("Windows", "BYOL") == "RunInstances:0800"
    assert found("Windows", client=True) == found("Windows", "BYOL", client=True) == "RunInstances:0800"


def test_a_code_that_was_asked_for_is_kept_where_it_is_of_the_system() -> None:
    for code, billed in USAGE_OPERATIONS.items():
        assert found(billed.platform, operation=code) == code
        with pytest.raises(GuestError, match="is not for"):
            found({"Linux": "Windows", "Windows": "Linux"}[billed.platform], operation=code)


def test_what_ec2_does_not_license_is_refused_with_the_way_out() -> None:
    for platform, client in (("Linux", False), ("Windows", True)):
        with pytest.raises(GuestError) as caught:
            found(platform, "AWS", client=client)
        said = status_message(caught.value)
        assert said.startswith("ClientError: ")
        assert said.endswith("is imported by its owner's licence only: say LicenseType BYOL.")
