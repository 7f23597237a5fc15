"""Files, batches with their lines, and webhooks with what is still to be sent."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True)
INSTANTS = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "files",
        _text("id", 40),
        _text("tenant_id", 32),
        _text("purpose", 16),
        _text("filename", 255),
        *_numbers("bytes", "created_ms", "expires_ms"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_files_tenant_id_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_files"),
    )
    op.create_index("ix_files_tenant_created", "files", ["tenant_id", "created_ms"])
    op.create_index("ix_files_expires_ms", "files", ["expires_ms"])
    op.create_table(
        "batches",
        _text("id", 40),
        _text("tenant_id", 32),
        _text("endpoint", 64),
        _text("completion_window", 8),
        _text("input_file_id", 40),
        _text("output_file_id", 40, nullable=True),
        _text("error_file_id", 40, nullable=True),
        sa.Column("output_ttl_ms", INTEGER, nullable=True),
        _text("status", 16),
        sa.Column("errors", JSON, nullable=True),
        sa.Column("details", JSON, nullable=True),
        *_numbers("total", "completed", "failed", "read_bytes", "read_lines"),
        _text("holder", 32, nullable=True),
        *_numbers("held_until_ms", "created_ms", "expires_ms"),
        *(sa.Column(f"{name}_ms", INTEGER, nullable=True) for name in INSTANTS),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_batches_tenant_id_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
    )
    op.create_index("ix_batches_tenant_created", "batches", ["tenant_id", "created_ms"])
    op.create_index("ix_batches_status", "batches", ["status"])
    op.create_table(
        "batch_lines",
        _text("batch_id", 40),
        *_numbers("number"),
        _text("custom_id", 512, nullable=True),
        _text("state", 16),
        *_numbers("offset", "length"),
        _text("job_id", 40, nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_batch_lines_batch_id_batches"),
        sa.PrimaryKeyConstraint("batch_id", "number", name="pk_batch_lines"),
    )
    op.create_index("ix_batch_lines_state", "batch_lines", ["batch_id", "state", "number"])
    op.create_index("ix_batch_lines_custom_id", "batch_lines", ["batch_id", "custom_id"])
    op.create_table(
        "webhook_endpoints",
        _text("id", 40),
        _text("tenant_id", 32),
        _text("name", 64),
        _text("url", 2048),
        sa.Column("event_types", sa.JSON(), nullable=False),
        _text("salt", 32),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        _text("disabled_reason", 200, nullable=True),
        *_numbers("created_ms", "updated_ms"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_webhook_endpoints_tenant_id_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_endpoints"),
    )
    op.create_index("ix_webhook_endpoints_tenant_id", "webhook_endpoints", ["tenant_id"])
    op.create_table(
        "webhook_deliveries",
        _text("id", 40),
        _text("endpoint_id", 40),
        _text("type", 32),
        sa.Column("body", sa.Text(), nullable=False),
        _text("state", 16),
        *_numbers("attempts", "next_ms", "created_ms"),
        sa.Column("ended_ms", INTEGER, nullable=True),
        sa.Column("answer_status", INTEGER, nullable=True),
        _text("answer", 500, nullable=True),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["webhook_endpoints.id"], name="fk_webhook_deliveries_endpoint_id_webhook_endpoints"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
    )
    op.create_index("ix_webhook_deliveries_endpoint_id", "webhook_deliveries", ["endpoint_id"])
    op.create_index("ix_webhook_deliveries_due", "webhook_deliveries", ["state", "next_ms"])
    op.create_table(
        "job_webhooks",
        _text("job_id", 40),
        _text("endpoint_id", 40, nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_webhooks_job_id_jobs"),
        sa.PrimaryKeyConstraint("job_id", name="pk_job_webhooks"),
    )


def downgrade() -> None:
    """Drop the tables; the indexes go with them."""
    for table in ("job_webhooks", "webhook_deliveries", "webhook_endpoints", "batch_lines", "batches", "files"):
        op.drop_table(table)


def _text(name: str, length: int, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length=length), nullable=nullable)


def _numbers(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, INTEGER, nullable=False) for name in names]
