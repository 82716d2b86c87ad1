"""The first catalog

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "access_key",
        sa.Column("access_key_id", sa.String(length=128), nullable=False),
        sa.Column("secret_access_key", sa.String(length=128), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("access_key_id"),
    )
    with op.batch_alter_table("access_key", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_access_key_account_id"), ["account_id"], unique=False)

    op.create_table(
        "client_token",
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("resource_id", sa.String(length=48), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("region", "account_id", "action", "token"),
    )
    op.create_table(
        "image",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("architecture", sa.String(length=16), nullable=False),
        sa.Column("boot_mode", sa.String(length=16), nullable=False),
        sa.Column("platform", sa.String(length=16), nullable=True),
        sa.Column("usage_operation", sa.String(length=64), nullable=True),
        sa.Column("root_device_name", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("image", schema=None) as batch_op:
        batch_op.create_index("image_name", ["region", "account_id", "name"], unique=True)

    op.create_table(
        "import_image_task",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("stage", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("waiting_for", sa.Text(), nullable=True),
        sa.Column("waiting_since", sa.String(length=32), nullable=True),
        sa.Column("progress", sa.BigInteger(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("image_id", sa.String(length=32), nullable=True),
        sa.Column("dispatched", sa.Boolean(), nullable=False),
        sa.Column("cancel_sent", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("import_image_task", schema=None) as batch_op:
        batch_op.create_index("import_image_task_place", ["region", "account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_import_image_task_status"), ["status"], unique=False)

    op.create_table(
        "snapshot",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("bucket", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=1024), nullable=False),
        sa.Column("task_id", sa.String(length=48), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("snapshot", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_snapshot_task_id"), ["task_id"], unique=False)
        batch_op.create_index("snapshot_place", ["region", "account_id"], unique=False)

    op.create_table(
        "tag",
        sa.Column("resource_id", sa.String(length=48), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("value", sa.String(length=256), nullable=False),
        sa.Column("resource_type", sa.String(length=48), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.PrimaryKeyConstraint("resource_id", "key"),
    )
    with op.batch_alter_table("tag", schema=None) as batch_op:
        batch_op.create_index("tag_place", ["region", "account_id"], unique=False)

    op.create_table(
        "block_device",
        sa.Column("image_id", sa.String(length=32), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("device_name", sa.String(length=64), nullable=False),
        sa.Column("snapshot_id", sa.String(length=32), nullable=False),
        sa.Column("volume_size_gib", sa.BigInteger(), nullable=False),
        sa.Column("delete_on_termination", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["snapshot_id"],
            ["snapshot.id"],
        ),
        sa.PrimaryKeyConstraint("image_id", "position"),
    )
    with op.batch_alter_table("block_device", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_block_device_snapshot_id"), ["snapshot_id"], unique=False)

    op.create_table(
        "import_slice",
        sa.Column("task_id", sa.String(length=48), nullable=False),
        sa.Column("disk", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["import_image_task.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "disk", "number"),
    )


def downgrade() -> None:
    op.drop_table("import_slice")
    with op.batch_alter_table("block_device", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_block_device_snapshot_id"))

    op.drop_table("block_device")
    with op.batch_alter_table("tag", schema=None) as batch_op:
        batch_op.drop_index("tag_place")

    op.drop_table("tag")
    with op.batch_alter_table("snapshot", schema=None) as batch_op:
        batch_op.drop_index("snapshot_place")
        batch_op.drop_index(batch_op.f("ix_snapshot_task_id"))

    op.drop_table("snapshot")
    with op.batch_alter_table("import_image_task", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_import_image_task_status"))
        batch_op.drop_index("import_image_task_place")

    op.drop_table("import_image_task")
    with op.batch_alter_table("image", schema=None) as batch_op:
        batch_op.drop_index("image_name")

    op.drop_table("image")
    op.drop_table("client_token")
    with op.batch_alter_table("access_key", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_access_key_account_id"))

    op.drop_table("access_key")
