"""By whose licence a system is imported, and EC2's code for how a machine with it is billed.

VM Import/Export User Guide, *Licensing options*: Linux and clients of Windows come by their owner's licence only.
EC2 User Guide, *AMI billing information fields*: the codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vmferry.catalog.import_tasks import ImportRequest
from vmferry.errors import GuestError, quote

AWS, BYOL = "AWS", "BYOL"
LINUX, WINDOWS = "Linux", "Windows"
_OF_LINUX, _OF_WINDOWS, _OF_OWN_WINDOWS = "RunInstances", "RunInstances:0002", "RunInstances:0800"


@dataclass(frozen=True, slots=True)
class Billed:
    """What a code stands for."""

    platform: str
    license_type: str
    """``AWS`` where the system, or SQL Server on it, is paid for with the machine."""


USAGE_OPERATIONS: Mapping[str, Billed] = {
    _OF_LINUX: Billed(LINUX, BYOL),
    **{f"RunInstances:{code}": Billed(LINUX, AWS) for code in ("0004", "0100", "0200")},
    _OF_WINDOWS: Billed(WINDOWS, AWS),
    _OF_OWN_WINDOWS: Billed(WINDOWS, BYOL),
    **{f"RunInstances:{code}": Billed(WINDOWS, AWS) for code in ("0006", "0102", "0202")},
}
"""Every code that an import may name."""


def find_usage_operation(request: ImportRequest, platform: str, *, client: bool) -> str:
    """The code that the import ends with: what was asked for, else what goes with the licence and the system.

    ``platform`` is what was found or said, ``client`` whether it is a Windows for desktops. Raises ``GuestError`` for
    a licence or a code that the system cannot have.
    """
    if request.usage_operation:
        if USAGE_OPERATIONS[request.usage_operation].platform != platform:
            raise _refusal(f"The usage operation {request.usage_operation} is not for {quote(platform)}: leave it out.")
        return request.usage_operation
    if request.license_type == AWS and (client or platform != WINDOWS):
        what = "A client of Windows" if client else quote(platform)
        raise _refusal(f"{what} is imported by its owner's licence only: say LicenseType BYOL.")
    if platform != WINDOWS:
        return _OF_LINUX
    return _OF_OWN_WINDOWS if client or request.license_type == BYOL else _OF_WINDOWS


def _refusal(sentence: str) -> GuestError:
    return GuestError(sentence, ec2_words="")
