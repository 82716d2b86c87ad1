"""What an AMI can be exported as."""

from __future__ import annotations

EXPORT_FORMATS = {"VMDK": "vmdk", "RAW": "raw", "VHD": "vhd", "VHDX": "vhdx", "OVA": "ova"}
"""The format as a request names it → ours, which is the suffix of the object, too. EC2 has the first three."""


def export_key(prefix: str, task_id: str, export_format: str) -> str:
    """The object's key, as EC2 makes it: nothing is put between the prefix and the task's id."""
    return f"{prefix}{task_id}.{EXPORT_FORMATS[export_format]}"
