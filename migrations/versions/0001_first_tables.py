"""The first tables: tiers, tenants, keys, users, models, jobs, audit and the watchdog's runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "audit",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        sa.Column("at_ms", INTEGER, nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("action", sa.String(length=48), nullable=False),
        sa.Column("subject", sa.String(length=120), nullable=False),
        sa.Column("before", JSON, nullable=True),
        sa.Column("after", JSON, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_at_ms"), "audit", ["at_ms"], unique=False)
    op.create_table(
        "models",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("engine", sa.String(length=32), nullable=False),
        sa.Column("weight_class", sa.String(length=16), nullable=False),
        sa.Column("memory_bytes", INTEGER, nullable=False),
        sa.Column("context_tokens", INTEGER, nullable=False),
        sa.Column("slots", INTEGER, nullable=False),
        sa.Column("options", JSON, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_ms", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_models")),
    )
    op.create_table(
        "tiers",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("priority_first", INTEGER, nullable=False),
        sa.Column("priority_last", INTEGER, nullable=False),
        sa.Column("weight", INTEGER, nullable=False),
        sa.Column("online_target_ms", INTEGER, nullable=False),
        sa.Column("success_target_percent", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tiers")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("password_hash", sa.String(length=256), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("created_ms", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
    )
    op.create_table(
        "watchdog_runs",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        sa.Column("task", sa.String(length=32), nullable=False),
        sa.Column("started_ms", INTEGER, nullable=False),
        sa.Column("duration_us", INTEGER, nullable=False),
        sa.Column("outcome", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_watchdog_runs")),
    )
    op.create_index(op.f("ix_watchdog_runs_started_ms"), "watchdog_runs", ["started_ms"], unique=False)
    op.create_table(
        "tenants",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("tier", sa.String(length=16), nullable=False),
        sa.Column("weight", INTEGER, nullable=False),
        sa.Column("online_target_ms", INTEGER, nullable=True),
        sa.Column("success_target_percent", INTEGER, nullable=True),
        sa.Column("requests_per_minute", INTEGER, nullable=True),
        sa.Column("tokens_per_minute", INTEGER, nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_ms", INTEGER, nullable=False),
        sa.Column("updated_ms", INTEGER, nullable=False),
        sa.ForeignKeyConstraint(["tier"], ["tiers.name"], name=op.f("fk_tenants_tier_tiers")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("name", name=op.f("uq_tenants_name")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_ms", INTEGER, nullable=False),
        sa.Column("revoked_ms", INTEGER, nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_api_keys_tenant_id_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_keys_sha256")),
    )
    op.create_index(op.f("ix_api_keys_tenant_id"), "api_keys", ["tenant_id"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("endpoint", sa.String(length=64), nullable=False),
        sa.Column("task_type", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("priority", INTEGER, nullable=False),
        sa.Column("routing_key", sa.String(length=32), nullable=False),
        sa.Column("latency_class", sa.String(length=16), nullable=False),
        sa.Column("latency_budget_ms", INTEGER, nullable=False),
        sa.Column("cost_tokens", INTEGER, nullable=False),
        sa.Column("body", JSON, nullable=False),
        sa.Column("details", JSON, nullable=False),
        sa.Column("result", JSON, nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("attempts", INTEGER, nullable=False),
        sa.Column("fence", INTEGER, nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("prompt_tokens", INTEGER, nullable=True),
        sa.Column("completion_tokens", INTEGER, nullable=True),
        sa.Column("created_ms", INTEGER, nullable=False),
        sa.Column("expires_ms", INTEGER, nullable=False),
        sa.Column("queued_ms", INTEGER, nullable=True),
        sa.Column("started_ms", INTEGER, nullable=True),
        sa.Column("first_token_ms", INTEGER, nullable=True),
        sa.Column("finished_ms", INTEGER, nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_jobs_tenant_id_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index("ix_jobs_status_created", "jobs", ["status", "created_ms"], unique=False)
    op.create_index("ix_jobs_tenant_created", "jobs", ["tenant_id", "created_ms"], unique=False)


def downgrade() -> None:
    """Drop the tables."""
    op.drop_index("ix_jobs_tenant_created", table_name="jobs")
    op.drop_index("ix_jobs_status_created", table_name="jobs")
    op.drop_table("jobs")
    op.drop_index(op.f("ix_api_keys_tenant_id"), table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_table("tenants")
    op.drop_index(op.f("ix_watchdog_runs_started_ms"), table_name="watchdog_runs")
    op.drop_table("watchdog_runs")
    op.drop_table("users")
    op.drop_table("tiers")
    op.drop_table("models")
    op.drop_index(op.f("ix_audit_at_ms"), table_name="audit")
    op.drop_table("audit")
