"""Accounts with names; those of before have keys, and no name

Revision ID: 0016
Revises: 0015
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("account_name", "account", ["name"], unique=True)
    op.execute(
        "INSERT INTO account (id, created_at) SELECT account_id, MIN(created_at) FROM access_key GROUP BY account_id"
    )
