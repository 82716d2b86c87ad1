"""Indexes that hold rows in the order of their pages

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_PLACE = ["region", "account_id"]
_PAGES = {
    "image": ["id"],
    "snapshot": ["id"],
    "instance": ["id"],
    "volume": ["id"],
    "import_image_task": ["kind", "created_at", "id"],
    "export_image_task": ["instance_id", "created_at", "id"],
    "tag": ["resource_id", "key"],
}


def upgrade() -> None:
    for table, order in _PAGES.items():
        if table != "image":  # which has one by name
            op.drop_index(f"{table}_place", table)
        op.create_index(f"{table}_page", table, [*_PLACE, *order])
    op.create_index("tag_value", "tag", [*_PLACE, "key", "value", "resource_id"])
    op.drop_index("ix_permission_account_id", "permission")
    op.create_index("permission_page", "permission", ["account_id", "resource_id"])
