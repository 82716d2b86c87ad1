"""An index that holds the exports of instances in the order of their making

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    of_instances = sa.text("instance_id IS NOT NULL")
    op.create_index(
        "export_instance_task_page",
        "export_image_task",
        ["region", "account_id", "created_at", "id"],
        sqlite_where=of_instances,
        postgresql_where=of_instances,
    )
