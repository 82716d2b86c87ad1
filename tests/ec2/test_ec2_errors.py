"""Our errors as EC2's codes."""

from __future__ import annotations

import pytest

from vmferry import errors
from vmferry.aws.signature import Fault, SignatureError
from vmferry.ec2.errors import Ec2Error, from_error, from_signature


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (errors.NotFoundError("gone", resource_id="ami-01234567"), "InvalidAMIID.NotFound", 400),
        (errors.NotFoundError("gone", resource_id="snap-01234567"), "InvalidSnapshot.NotFound", 400),
        (errors.NotFoundError("gone", resource_id="import-ami-01234567"), "InvalidConversionTaskId", 400),
        (errors.NotFoundError("gone", resource_id="vol-01234567"), "InvalidVolume.NotFound", 400),
        (errors.NotFoundError("gone", resource_id="thing"), "InvalidID", 400),
        (errors.ConflictError("used", code="InvalidAMIName.Duplicate"), "InvalidAMIName.Duplicate", 400),
        (errors.ConflictError("used"), "IncorrectState", 400),
        (errors.BlobNotFoundError("no such key"), "InvalidParameter", 400),
        (errors.StoreUnavailableError("away"), "Unavailable", 503),
        (errors.CorruptDiskError("broken"), "InvalidParameter", 400),
        (errors.UnsupportedFeatureError("odd"), "Unsupported", 400),
        (errors.GuestError("no system"), "Unsupported", 400),
        (Ec2Error("InvalidAMIName.Malformed", "bad"), "InvalidAMIName.Malformed", 400),
    ],
)
def test_an_error_has_its_code_and_keeps_its_sentence(error: errors.VmferryError, code: str, status: int) -> None:
    found = from_error(error)
    assert found is not None
    assert (found.code, found.status, str(found)) == (code, status, str(error))


@pytest.mark.parametrize(
    "error", [errors.VmferryError("?"), errors.StoreError("?"), errors.ConfigError("?"), errors.ComputeError("?")]
)
def test_what_is_our_own_fault_has_no_code(error: errors.VmferryError) -> None:
    assert from_error(error) is None


def test_every_fault_of_a_client_is_told_as_one() -> None:
    kinds = [errors.VmferryError]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if kind.client_fault and kind.__module__ == "vmferry.errors" and kind is not errors.ConfigError:
            found = from_error(kind("sentence"))
            assert found is not None, kind
            assert found.status == 400, kind


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_of_a_signature_begins_with_the_sentence_of_aws(fault: Fault) -> None:
    error = from_signature(SignatureError(fault, "Why."))
    assert str(error).endswith(" | Why.")
    assert 400 <= error.status <= 403
