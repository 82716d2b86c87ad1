"""The tables. A change here needs a migration in ``migrations/versions``; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, ForeignKeyConstraint, Index, String, Text, TypeDecorator, exists
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, relationship


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC, kept as ISO 8601 text: sorts rightly and reads the same in every database."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class Base(DeclarativeBase):
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON, list[str]: JSON, int: BigInteger}  # noqa: RUF012


class AccountRow(Base):
    __tablename__ = "account"

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]

    __table_args__ = (Index("account_name", "name", unique=True),)


class AccessKeyRow(Base):
    __tablename__ = "access_key"

    access_key_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    secret_access_key: Mapped[str] = mapped_column(String(128))
    account_id: Mapped[str] = mapped_column(String(12), index=True)
    created_at: Mapped[datetime]


EVERYBODY = "all"
"""EC2's group of all accounts, where something is shared with it."""


class PermissionRow(Base):
    """An account that an AMI may be launched by, or a snapshot read by, besides its owner; or ``EVERYBODY``."""

    __tablename__ = "permission"

    resource_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    account_id: Mapped[str] = mapped_column(String(12), primary_key=True)

    __table_args__ = (Index("permission_page", "account_id", "resource_id"),)


class ImageRow(Base):
    __tablename__ = "image"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    region: Mapped[str] = mapped_column(String(32))
    account_id: Mapped[str] = mapped_column(String(12))
    name: Mapped[str] = mapped_column(String(128))
    description: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    architecture: Mapped[str] = mapped_column(String(16))
    boot_mode: Mapped[str] = mapped_column(String(16))
    platform: Mapped[str | None] = mapped_column(String(16))
    usage_operation: Mapped[str | None] = mapped_column(String(64))
    root_device_name: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    support: Mapped[dict[str, Any]] = mapped_column(server_default='{"ena": true}')
    public: Mapped[bool] = column_property(
        exists()
        .where(PermissionRow.resource_id == id, PermissionRow.account_id == EVERYBODY)  # noqa: A003
        .correlate_except(PermissionRow)
    )
    hardware: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    block_devices: Mapped[list[BlockDeviceRow]] = relationship(
        order_by="BlockDeviceRow.position", cascade="all, delete-orphan", lazy="selectin"
    )

    __table_args__ = (
        Index("image_name", "region", "account_id", "name", unique=True),
        Index("image_page", "region", "account_id", "id"),
    )


class BlockDeviceRow(Base):
    __tablename__ = "block_device"

    image_id: Mapped[str] = mapped_column(ForeignKey("image.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    device_name: Mapped[str] = mapped_column(String(64))
    snapshot_id: Mapped[str] = mapped_column(ForeignKey("snapshot.id"), index=True)
    volume_size_gib: Mapped[int]
    delete_on_termination: Mapped[bool]
    volume_type: Mapped[str] = mapped_column(String(16), server_default="gp2")


class SnapshotRow(Base):
    __tablename__ = "snapshot"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    region: Mapped[str] = mapped_column(String(32))
    account_id: Mapped[str] = mapped_column(String(12))
    state: Mapped[str] = mapped_column(String(16))
    size: Mapped[int]
    description: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    bucket: Mapped[str] = mapped_column(String(255))
    key: Mapped[str] = mapped_column(String(1024))
    task_id: Mapped[str | None] = mapped_column(String(48), index=True)
    digest: Mapped[str | None] = mapped_column(String(96))
    volume_id: Mapped[str | None] = mapped_column(String(32))
    state_message: Mapped[str | None] = mapped_column(Text)
    progress: Mapped[int | None]

    __table_args__ = (Index("snapshot_page", "region", "account_id", "id"),)


class InstanceRow(Base):
    __tablename__ = "instance"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    reservation_id: Mapped[str] = mapped_column(String(32), index=True)
    region: Mapped[str] = mapped_column(String(32))
    account_id: Mapped[str] = mapped_column(String(12))
    state: Mapped[str] = mapped_column(String(16))
    state_reason: Mapped[str | None] = mapped_column(Text)
    image_id: Mapped[str | None] = mapped_column(String(32))
    instance_type: Mapped[str] = mapped_column(String(32))
    architecture: Mapped[str] = mapped_column(String(16))
    platform: Mapped[str | None] = mapped_column(String(16))
    boot_mode: Mapped[str] = mapped_column(String(16))
    root_device_name: Mapped[str] = mapped_column(String(64))
    zone: Mapped[str] = mapped_column(String(32))
    private_ip: Mapped[str | None] = mapped_column(String(45))
    launched_at: Mapped[datetime]
    launch_index: Mapped[int]
    key_name: Mapped[str | None] = mapped_column(String(255))
    security_groups: Mapped[list[str]]
    user_data: Mapped[str | None] = mapped_column(Text)
    shutdown_behavior: Mapped[str] = mapped_column(String(16))
    disable_api_termination: Mapped[bool]
    disable_api_stop: Mapped[bool]
    ebs_optimized: Mapped[bool]
    task_id: Mapped[str | None] = mapped_column(String(48))
    support: Mapped[dict[str, Any]] = mapped_column(server_default='{"ena": true}')
    usage_operation: Mapped[str | None] = mapped_column(String(64))
    hardware: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))

    __table_args__ = (Index("instance_page", "region", "account_id", "id"),)


class VolumeRow(Base):
    __tablename__ = "volume"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    region: Mapped[str] = mapped_column(String(32))
    account_id: Mapped[str] = mapped_column(String(12))
    state: Mapped[str] = mapped_column(String(16))
    size_gib: Mapped[int]
    zone: Mapped[str] = mapped_column(String(32))
    snapshot_id: Mapped[str | None] = mapped_column(String(32))
    volume_type: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]
    bucket: Mapped[str] = mapped_column(String(255))
    key: Mapped[str] = mapped_column(String(1024))
    task_id: Mapped[str | None] = mapped_column(String(48))
    instance_id: Mapped[str | None] = mapped_column(ForeignKey("instance.id"), index=True)
    device_name: Mapped[str | None] = mapped_column(String(64))
    attached_at: Mapped[datetime | None]
    delete_on_termination: Mapped[bool]

    __table_args__ = (Index("volume_page", "region", "account_id", "id"),)


class SnapshotUploadRow(Base):
    __tablename__ = "snapshot_upload"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    region: Mapped[str] = mapped_column(String(32))
    account_id: Mapped[str] = mapped_column(String(12))
    created_at: Mapped[datetime]
    size: Mapped[int]
    bucket: Mapped[str] = mapped_column(String(255))
    key: Mapped[str] = mapped_column(String(1024))
    parent_id: Mapped[str | None] = mapped_column(String(32))
    timeout_minutes: Mapped[int]
    changed_blocks: Mapped[int | None]
    checksum: Mapped[str | None] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16), index=True)
    reason: Mapped[str | None] = mapped_column(Text)
    waiting_for: Mapped[str | None] = mapped_column(Text)
    waiting_since: Mapped[datetime | None]
    dispatched: Mapped[bool]
    cancel_sent: Mapped[bool]

    __table_args__ = (Index("snapshot_upload_quota", "region", "account_id", "status"),)


class ImportTaskRow(Base):
    __tablename__ = "import_image_task"

    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), server_default="import-image-task")
    region: Mapped[str] = mapped_column(String(32))
    account_id: Mapped[str] = mapped_column(String(12))
    created_at: Mapped[datetime]
    status: Mapped[str] = mapped_column(String(16), index=True)
    stage: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str | None] = mapped_column(Text)
    waiting_for: Mapped[str | None] = mapped_column(Text)
    waiting_since: Mapped[datetime | None]
    progress: Mapped[int]
    request: Mapped[dict[str, Any]]
    facts: Mapped[dict[str, Any]]
    image_id: Mapped[str | None] = mapped_column(String(32))
    receipt: Mapped[str | None] = mapped_column(Text)
    bytes_read: Mapped[int] = mapped_column(default=0, server_default="0")
    bytes_written: Mapped[int] = mapped_column(default=0, server_default="0")
    measured_since: Mapped[datetime | None]
    done_before: Mapped[int] = mapped_column(default=0, server_default="0")
    read_before: Mapped[int] = mapped_column(default=0, server_default="0")
    recorded_at: Mapped[datetime | None]
    dispatched: Mapped[bool]
    cancel_sent: Mapped[bool]
    slices: Mapped[list[SliceRow]] = relationship(cascade="all, delete-orphan", lazy="raise")

    __table_args__ = (
        Index("import_image_task_page", "region", "account_id", "kind", "created_at", "id"),
        Index("import_image_task_quota", "region", "account_id", "status", "kind"),
    )


class ExportTaskRow(Base):
    __tablename__ = "export_image_task"

    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    region: Mapped[str] = mapped_column(String(32))
    account_id: Mapped[str] = mapped_column(String(12))
    created_at: Mapped[datetime]
    image_id: Mapped[str | None] = mapped_column(String(32), index=True)
    instance_id: Mapped[str | None] = mapped_column(String(32), index=True)
    target_environment: Mapped[str | None] = mapped_column(String(16))
    format: Mapped[str] = mapped_column(String(16))
    bucket: Mapped[str] = mapped_column(String(255))
    prefix: Mapped[str] = mapped_column(String(1024))
    key: Mapped[str] = mapped_column(String(1088))
    description: Mapped[str | None] = mapped_column(Text)
    role_name: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16), index=True)
    stage: Mapped[str] = mapped_column(String(32))
    progress: Mapped[int]
    reason: Mapped[str | None] = mapped_column(Text)
    waiting_for: Mapped[str | None] = mapped_column(Text)
    waiting_since: Mapped[datetime | None]
    dispatched: Mapped[bool]
    cancel_sent: Mapped[bool]

    __table_args__ = (
        Index("export_image_task_page", "region", "account_id", "instance_id", "created_at", "id"),
        Index(
            "export_instance_task_page",
            "region",
            "account_id",
            "created_at",
            "id",
            sqlite_where=instance_id.is_not(None),  # PostgreSQL's is said by its migration: to say it loads its dialect
        ),
        Index("export_image_task_quota", "region", "account_id", "status"),
    )


class SliceRow(Base):
    __tablename__ = "import_slice"

    task_id: Mapped[str] = mapped_column(ForeignKey("import_image_task.id", ondelete="CASCADE"), primary_key=True)
    disk: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[int]
    end: Mapped[int]
    data: Mapped[int]
    done: Mapped[int]
    digest: Mapped[bytes | None]
    file_digest: Mapped[bytes | None]


class ClientTokenRow(Base):
    __tablename__ = "client_token"

    region: Mapped[str] = mapped_column(String(32), primary_key=True)
    account_id: Mapped[str] = mapped_column(String(12), primary_key=True)
    action: Mapped[str] = mapped_column(String(64), primary_key=True)
    token: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    resource_id: Mapped[str] = mapped_column(String(48))
    created_at: Mapped[datetime]


class TagRow(Base):
    __tablename__ = "tag"

    resource_id: Mapped[str] = mapped_column(String(48), primary_key=True)
    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    value: Mapped[str] = mapped_column(String(256))
    resource_type: Mapped[str] = mapped_column(String(48))
    region: Mapped[str] = mapped_column(String(32))
    account_id: Mapped[str] = mapped_column(String(12))

    __table_args__ = (
        Index("tag_page", "region", "account_id", "resource_id", "key"),
        Index("tag_value", "region", "account_id", "key", "value", "resource_id"),
    )


class RoleRow(Base):
    __tablename__ = "iam_role"

    account_id: Mapped[str] = mapped_column(String(12), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[str] = mapped_column(String(32))
    path: Mapped[str] = mapped_column(String(512))
    description: Mapped[str | None] = mapped_column(Text)
    trust: Mapped[str] = mapped_column(Text)
    max_session_seconds: Mapped[int]
    created_at: Mapped[datetime]
    tags: Mapped[dict[str, Any]]
    policies: Mapped[list[RolePolicyRow]] = relationship(
        order_by="RolePolicyRow.name", cascade="all, delete-orphan", lazy="selectin"
    )
    attachments: Mapped[list[AttachedPolicyRow]] = relationship(
        order_by="AttachedPolicyRow.arn", cascade="all, delete-orphan", lazy="selectin"
    )


class RolePolicyRow(Base):
    __tablename__ = "iam_role_policy"

    account_id: Mapped[str] = mapped_column(String(12), primary_key=True)
    role_name: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    document: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        ForeignKeyConstraint(["account_id", "role_name"], ["iam_role.account_id", "iam_role.name"], ondelete="CASCADE"),
    )


class AttachedPolicyRow(Base):
    __tablename__ = "iam_attached_policy"

    account_id: Mapped[str] = mapped_column(String(12), primary_key=True)
    role_name: Mapped[str] = mapped_column(String(64), primary_key=True)
    arn: Mapped[str] = mapped_column(String(768), primary_key=True)

    __table_args__ = (
        ForeignKeyConstraint(["account_id", "role_name"], ["iam_role.account_id", "iam_role.name"], ondelete="CASCADE"),
    )


class PolicyRow(Base):
    __tablename__ = "iam_policy"

    arn: Mapped[str] = mapped_column(String(768), primary_key=True)
    account_id: Mapped[str] = mapped_column(String(12), index=True)
    name: Mapped[str] = mapped_column(String(128))
    id: Mapped[str] = mapped_column(String(32))
    path: Mapped[str] = mapped_column(String(512))
    description: Mapped[str | None] = mapped_column(Text)
    document: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    tags: Mapped[dict[str, Any]]
