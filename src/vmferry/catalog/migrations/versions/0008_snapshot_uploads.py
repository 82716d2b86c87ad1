"""Snapshots that are put together block by block

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("snapshot", sa.Column("state_message", sa.Text(), nullable=True))
    op.add_column("snapshot", sa.Column("progress", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("client_token") as table:
        table.alter_column("token", existing_type=sa.String(length=64), type_=sa.String(length=255), nullable=False)
    op.create_table(
        "snapshot_upload",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("bucket", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=1024), nullable=False),
        sa.Column("parent_id", sa.String(length=32), nullable=True),
        sa.Column("timeout_minutes", sa.BigInteger(), nullable=False),
        sa.Column("changed_blocks", sa.BigInteger(), nullable=True),
        sa.Column("checksum", sa.String(length=64), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("waiting_for", sa.Text(), nullable=True),
        sa.Column("waiting_since", sa.String(length=32), nullable=True),
        sa.Column("dispatched", sa.Boolean(), nullable=False),
        sa.Column("cancel_sent", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("snapshot_upload_place", "snapshot_upload", ["region", "account_id"])
    op.create_index(op.f("ix_snapshot_upload_status"), "snapshot_upload", ["status"])
