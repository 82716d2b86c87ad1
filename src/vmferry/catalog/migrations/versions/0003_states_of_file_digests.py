"""How far the manifest's digest of a disk's file is, when a slice of the disk is done

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("import_slice", schema=None) as batch_op:
        batch_op.add_column(sa.Column("file_digest", sa.LargeBinary(), nullable=True))
