"""Roles and policies; accounts that are there get the role ``vmimport``, as new ones do

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TRUST = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "vmie.amazonaws.com"}, '
    '"Action": "sts:AssumeRole", "Condition": {"StringEquals": {"sts:Externalid": "vmimport"}}}]}'
)
_POLICY = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:GetBucketAcl", '
    '"s3:GetBucketLocation", "s3:GetObject", "s3:ListBucket", "s3:PutObject"], "Resource": ["*"]}, '
    '{"Effect": "Allow", "Action": ["ec2:ModifySnapshotAttribute", "ec2:CopySnapshot", "ec2:RegisterImage", '
    '"ec2:Describe*"], "Resource": "*"}]}'
)


def upgrade() -> None:
    roles = op.create_table(
        "iam_role",
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("max_session_seconds", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "name"),
    )
    policies = op.create_table(
        "iam_role_policy", *_of_role("name", 128), sa.Column("document", sa.Text(), nullable=False)
    )
    op.create_table("iam_attached_policy", *_of_role("arn", 768))
    op.create_table(
        "iam_policy",
        sa.Column("arn", sa.String(length=768), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("arn"),
    )
    op.create_index(op.f("ix_iam_policy_account_id"), "iam_policy", ["account_id"])
    _give_accounts_their_role(roles, policies)


def _of_role(key: str, length: int) -> list[sa.Column[str] | sa.Constraint]:
    return [
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("role_name", sa.String(length=64), nullable=False),
        sa.Column(key, sa.String(length=length), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "role_name"], ["iam_role.account_id", "iam_role.name"], ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("account_id", "role_name", key),
    ]


def _give_accounts_their_role(roles: sa.Table, policies: sa.Table) -> None:
    connection = op.get_bind()
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    for account_id in connection.scalars(sa.text("SELECT DISTINCT account_id FROM access_key")).all():
        role = {
            "account_id": account_id,
            "name": "vmimport",
            "id": "AROA" + secrets.token_hex(9).upper()[:17],
            "path": "/",
            "description": None,
            "trust": _TRUST,
            "max_session_seconds": 3600,
            "created_at": now,
            "tags": {},
        }
        connection.execute(roles.insert().values(role))
        policy = {"account_id": account_id, "role_name": "vmimport", "name": "vmimport", "document": _POLICY}
        connection.execute(policies.insert().values(policy))
