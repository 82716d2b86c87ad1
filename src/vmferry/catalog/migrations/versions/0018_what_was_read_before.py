"""What a task had read when its rate began to be measured: the time that is left follows from what is stored, too

Revision ID: 0018
Revises: 0017
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("import_image_task", sa.Column("read_before", sa.BigInteger(), nullable=False, server_default="0"))
