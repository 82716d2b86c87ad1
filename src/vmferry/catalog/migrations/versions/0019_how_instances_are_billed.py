"""How the AMI of an instance was billed when it was launched: an AMI that is made of the instance is billed so, too

Revision ID: 0019
Revises: 0018
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("instance", sa.Column("usage_operation", sa.String(length=64), nullable=True))
