"""Accounts that AMIs and snapshots are shared with

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "permission",
        sa.Column("resource_id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.PrimaryKeyConstraint("resource_id", "account_id"),
    )
    op.create_index(op.f("ix_permission_account_id"), "permission", ["account_id"])
