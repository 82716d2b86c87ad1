"""Kinds of resources: the prefix of their ids, their type in tags and ARNs, and the codes that speak of their ids."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ResourceKind:
    """One kind."""

    prefix: str
    """With its hyphen: ``ami-``."""
    tag_type: str
    """The ``ResourceType`` of tags, filters and ARNs."""
    malformed: str
    not_found: str


def _kind(prefix: str, tag_type: str, code: str, not_found: str | None = None) -> ResourceKind:
    return ResourceKind(prefix, tag_type, f"{code}.Malformed", not_found or f"{code}.NotFound")


# Import and conversion tasks share a pair of codes without ".NotFound"; snapshots and volumes have "ID" in one only.
KINDS = (
    _kind("import-ami-", "import-image-task", "InvalidConversionTaskId", "InvalidConversionTaskId"),
    _kind("import-snap-", "import-snapshot-task", "InvalidConversionTaskId", "InvalidConversionTaskId"),
    _kind("import-vol-", "conversion-task", "InvalidConversionTaskId", "InvalidConversionTaskId"),
    _kind("import-i-", "conversion-task", "InvalidConversionTaskId", "InvalidConversionTaskId"),
    _kind("export-ami-", "export-image-task", "InvalidExportTaskID"),
    _kind("export-i-", "export-instance-task", "InvalidExportTaskID"),
    _kind("ami-", "image", "InvalidAMIID"),
    _kind("snap-", "snapshot", "InvalidSnapshotID", "InvalidSnapshot.NotFound"),
    _kind("vol-", "volume", "InvalidVolumeID", "InvalidVolume.NotFound"),
    _kind("i-", "instance", "InvalidInstanceID"),
    _kind("r-", "reservation", "InvalidReservationID"),
    _kind("subnet-", "subnet", "InvalidSubnetID"),
    _kind("sg-", "security-group", "InvalidGroupId", "InvalidGroup.NotFound"),
    _kind("vpc-", "vpc", "InvalidVpcID"),
    _kind("eni-", "network-interface", "InvalidNetworkInterfaceID"),
    _kind("key-", "key-pair", "InvalidKeyPair"),
)
_BY_PREFIX = {kind.prefix: kind for kind in KINDS}


def kind_of(resource_id: str) -> ResourceKind | None:
    """The kind that ``resource_id``'s prefix (up to its last hyphen) shows, or ``None``."""
    head, hyphen, _ = resource_id.rpartition("-")
    return _BY_PREFIX.get(head + hyphen)


def kind_named(prefix: str) -> ResourceKind:
    """The kind with ``prefix`` (``"ami-"``). ``KeyError`` for one that does not exist."""
    return _BY_PREFIX[prefix]
