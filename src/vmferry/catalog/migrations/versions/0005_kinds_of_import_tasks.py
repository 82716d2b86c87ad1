"""Import tasks have a kind: those before all made AMIs; devices of AMIs have a volume type

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("import_image_task", schema=None) as batch_op:
        batch_op.add_column(sa.Column("kind", sa.String(length=32), nullable=False, server_default="import-image-task"))
    with op.batch_alter_table("block_device", schema=None) as batch_op:
        batch_op.add_column(sa.Column("volume_type", sa.String(length=16), nullable=False, server_default="gp2"))
