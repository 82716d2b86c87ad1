"""Indexes by which tasks that have not ended are counted

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_PLACE = ["region", "account_id"]


def upgrade() -> None:
    op.create_index("import_image_task_quota", "import_image_task", [*_PLACE, "status", "kind"])
    op.create_index("export_image_task_quota", "export_image_task", [*_PLACE, "status"])
    op.drop_index("snapshot_upload_place", "snapshot_upload")
    op.create_index("snapshot_upload_quota", "snapshot_upload", [*_PLACE, "status"])
