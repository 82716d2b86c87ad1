"""Exports of instances

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("export_image_task") as table:
        table.alter_column("image_id", existing_type=sa.String(length=32), nullable=True)
        table.add_column(sa.Column("instance_id", sa.String(length=32), nullable=True))
        table.add_column(sa.Column("target_environment", sa.String(length=16), nullable=True))
        table.create_index(op.f("ix_export_image_task_instance_id"), ["instance_id"])
