"""Keys by which a client asks for the same thing once, and what they were answered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("claim", sa.String(length=32), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("made_id", sa.String(length=40), nullable=False),
        sa.Column("running_until_ms", INTEGER, nullable=True),
        sa.Column("expires_ms", INTEGER, nullable=False),
        sa.Column("answer", JSON, nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_idempotency_keys_tenant_id_tenants")),
        sa.PrimaryKeyConstraint("tenant_id", "key", name=op.f("pk_idempotency_keys")),
        sa.UniqueConstraint("claim", name=op.f("uq_idempotency_keys_claim")),
    )
    op.create_index(op.f("ix_idempotency_keys_expires_ms"), "idempotency_keys", ["expires_ms"], unique=False)


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("idempotency_keys")
