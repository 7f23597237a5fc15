"""What was decided about requests and what they used: decisions, usage, and two figures of each job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True)
JOB_COLUMNS = ("cost_ms", "gpu_ms")
FIGURES = ("requests", "prompt_tokens", "completion_tokens", "gpu_ms")


def upgrade() -> None:
    """Make the tables; of jobs from before it is not known what they cost and used."""
    for name in JOB_COLUMNS:
        op.add_column("jobs", sa.Column(name, INTEGER, nullable=True))
    op.create_index("ix_jobs_model_started", "jobs", ["model", "started_ms"], unique=False)
    op.create_table(
        "decisions",
        sa.Column("request_id", sa.String(length=40), nullable=False),
        sa.Column("number", INTEGER, nullable=False),
        sa.Column("at_ms", INTEGER, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("facts", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["request_id"], ["jobs.id"], name=op.f("fk_decisions_request_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("request_id", "number", name=op.f("pk_decisions")),
    )
    op.create_table(
        "usage",
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        *(sa.Column(name, INTEGER, nullable=False) for name in FIGURES),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_usage_tenant_id_tenants")),
        sa.PrimaryKeyConstraint("day", "tenant_id", "model", name=op.f("pk_usage")),
    )


def downgrade() -> None:
    """Drop them, the columns one by one: SQLite would refuse to make the table anew while others point at it."""
    op.drop_table("usage")
    op.drop_table("decisions")
    op.drop_index("ix_jobs_model_started", table_name="jobs")
    for name in reversed(JOB_COLUMNS):
        op.drop_column("jobs", name)
