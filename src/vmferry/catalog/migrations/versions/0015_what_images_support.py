"""What images and instances support; those of before have said ENA, and nothing else

Revision ID: 0015
Revises: 0014
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("image", "instance"):
        op.add_column(table, sa.Column("support", sa.JSON(), nullable=False, server_default='{"ena": true}'))
