"""The hardware that AMIs and instances came from

Revision ID: 0017
Revises: 0016
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("image", "instance"):
        op.add_column(table, sa.Column("hardware", sa.JSON(none_as_null=True), nullable=True))
