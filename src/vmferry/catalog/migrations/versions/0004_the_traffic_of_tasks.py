"""What a task has read and written, and since when it is measured: from it follow its rate and the time that is left

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("import_image_task", schema=None) as batch_op:
        batch_op.add_column(sa.Column("bytes_read", sa.BigInteger(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("bytes_written", sa.BigInteger(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("measured_since", sa.String(length=32), nullable=True))
        batch_op.add_column(sa.Column("done_before", sa.BigInteger(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("recorded_at", sa.String(length=32), nullable=True))
