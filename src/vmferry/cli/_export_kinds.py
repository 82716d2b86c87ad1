"""The two kinds of export, of an AMI and of an instance, and where they put what they make."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import typer

from vmferry.cli._options import given, tag_specification
from vmferry.errors import ConfigError, quote

FORMATS = ("VMDK", "VHD", "RAW", "VHDX", "OVA")
_AT_AWS = {"ami-": ("VMDK", "VHD", "RAW"), "i-": ("VMDK", "VHD", "OVA")}
_SUFFIXES = {".img": "RAW", **{f".{name.lower()}": name for name in FORMATS}}
_TARGETS = {"VMDK": "vmware", "OVA": "vmware", "VHD": "microsoft"}
"""Format of an instance's export → the environment that AWS makes it for, where none is named."""


@dataclass(frozen=True, slots=True)
class Export:
    """What is asked for."""

    subject: str
    """The id of an AMI or instance."""
    format: str
    bucket: str
    prefix: str
    description: str | None
    tags: list[str]
    role: str | None
    client_token: str | None
    target: str | None
    """The environment that an instance goes to."""

    @property
    def is_of_image(self) -> bool:
        return self.subject.startswith("ami-")

    @property
    def method(self) -> str:
        """boto3's."""
        return "export_image" if self.is_of_image else "create_instance_export_task"

    def parameters(self) -> dict[str, Any]:
        """Of ``method``."""
        if self.is_of_image:
            return {
                "ImageId": self.subject,
                "DiskImageFormat": self.format,
                "S3ExportLocation": {"S3Bucket": self.bucket, "S3Prefix": self.prefix},
                "ClientToken": self.client_token or str(uuid.uuid4()),
                **given(Description=self.description, RoleName=self.role),
                **tag_specification(self.tags, "export-image-task"),
            }
        formats = {"ContainerFormat": "ova", "DiskImageFormat": "VMDK"} if self.format == "OVA" else {}
        return {
            "InstanceId": self.subject,
            "TargetEnvironment": self.target or _TARGETS[self.format],
            "ExportToS3Task": {
                "DiskImageFormat": self.format,
                **formats,
                "S3Bucket": self.bucket,
                "S3Prefix": self.prefix,
            },
            **given(Description=self.description),
            **tag_specification(self.tags, "export-instance-task"),
        }

    def key(self, task_id: str) -> str:
        """Where the task puts what it makes: AWS's rule."""
        return f"{self.prefix}{task_id}.{self.format.lower()}"


def check_export(export: Export, *, is_aws: bool) -> None:
    """Raise Typer's usage error, ``ConfigError`` for what the API has no words for."""
    if not export.subject.startswith(("ami-", "i-")):
        raise typer.BadParameter(f"name an AMI (ami-…) or an instance (i-…), not {quote(export.subject)}.")
    if export.is_of_image and export.target is not None:
        raise typer.BadParameter("--target is for instances; an AMI is exported by --format alone.")
    if not export.is_of_image and (export.role is not None or export.client_token is not None):
        raise typer.BadParameter(
            "an instance's export has no role and no client token. Leave --role, --client-token out."
        )
    if not export.is_of_image and export.format not in _TARGETS:
        raise ConfigError(f"An instance is exported as OVA, VMDK or VHD, not as {export.format}. Its AMI goes as any.")
    allowed = _AT_AWS["ami-" if export.is_of_image else "i-"]
    if is_aws and export.format not in allowed:
        known = f"{', '.join(allowed[:-1])} and {allowed[-1]}"
        raise ConfigError(f"AWS exports {known}, not {export.format}: take one of those, and `vmferry convert` it.")


def choose_format(stated: str | None, target: str, subject: str) -> str:
    """The format that is stated, or that the target's suffix says; VMDK for AMIs and OVA for instances else.

    Raises Typer's usage error for one that is unknown.
    """
    if stated is None:
        suffix = _SUFFIXES.get(PurePath(target).suffix.lower())
        return suffix or ("OVA" if subject.startswith("i-") else "VMDK")
    if stated.upper() not in FORMATS:
        raise typer.BadParameter(f"--format is {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, not {quote(stated)}.")
    return stated.upper()
