"""Volumes and instances

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "instance",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("reservation_id", sa.String(length=32), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_reason", sa.Text(), nullable=True),
        sa.Column("image_id", sa.String(length=32), nullable=True),
        sa.Column("instance_type", sa.String(length=32), nullable=False),
        sa.Column("architecture", sa.String(length=16), nullable=False),
        sa.Column("platform", sa.String(length=16), nullable=True),
        sa.Column("boot_mode", sa.String(length=16), nullable=False),
        sa.Column("root_device_name", sa.String(length=64), nullable=False),
        sa.Column("zone", sa.String(length=32), nullable=False),
        sa.Column("private_ip", sa.String(length=45), nullable=True),
        sa.Column("launched_at", sa.String(length=32), nullable=False),
        sa.Column("launch_index", sa.BigInteger(), nullable=False),
        sa.Column("key_name", sa.String(length=255), nullable=True),
        sa.Column("security_groups", sa.JSON(), nullable=False),
        sa.Column("user_data", sa.Text(), nullable=True),
        sa.Column("shutdown_behavior", sa.String(length=16), nullable=False),
        sa.Column("disable_api_termination", sa.Boolean(), nullable=False),
        sa.Column("disable_api_stop", sa.Boolean(), nullable=False),
        sa.Column("ebs_optimized", sa.Boolean(), nullable=False),
        sa.Column("task_id", sa.String(length=48), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "volume",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("size_gib", sa.BigInteger(), nullable=False),
        sa.Column("zone", sa.String(length=32), nullable=False),
        sa.Column("snapshot_id", sa.String(length=32), nullable=True),
        sa.Column("volume_type", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("bucket", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=1024), nullable=False),
        sa.Column("task_id", sa.String(length=48), nullable=True),
        sa.Column("instance_id", sa.String(length=32), nullable=True),
        sa.Column("device_name", sa.String(length=64), nullable=True),
        sa.Column("attached_at", sa.String(length=32), nullable=True),
        sa.Column("delete_on_termination", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    for table, name, columns in (
        ("instance", "instance_place", ["region", "account_id"]),
        ("instance", op.f("ix_instance_reservation_id"), ["reservation_id"]),
        ("volume", "volume_place", ["region", "account_id"]),
        ("volume", op.f("ix_volume_instance_id"), ["instance_id"]),
    ):
        op.create_index(name, table, columns)
    op.add_column("snapshot", sa.Column("volume_id", sa.String(length=32), nullable=True))
