"""Names of AMIs."""

from __future__ import annotations

import re

from vmferry.ec2.errors import Ec2Error

_NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")


def check_ami_name(name: str) -> None:
    """Raise ``Ec2Error`` for what no AMI can be called."""
    if not _NAME.fullmatch(name):
        raise Ec2Error(
            "InvalidAMIName.Malformed",
            "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, spaces, "
            "and ( ) [ ] . - / ' @ _",
        )
