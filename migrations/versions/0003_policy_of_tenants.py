"""The policy of tenants and models: budgets, targets, overrides, learned defaults, and the versions of all of it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True)

# What a tenant has, and an override has in its place.
SHARED: dict[str, Any] = {
    "tokens_per_day": INTEGER,
    "gpu_seconds_per_day": INTEGER,
    "max_in_flight": INTEGER,
    "max_queued": INTEGER,
    "high_target_ms": INTEGER,
    "medium_target_ms": INTEGER,
    "low_target_ms": INTEGER,
    "error_budget_per_10k": INTEGER,
    "on_late": sa.String(length=16),
    "road": JSON,
}
TENANTS = SHARED | {"source": sa.String(length=16)}
MODELS: dict[str, Any] = {
    "parameters": INTEGER,
    "measured_ms": INTEGER,
    "weight_basis": sa.String(length=16),
    "fallback_model": sa.String(length=64),
    "prewarm": sa.String(length=32),
    "source": sa.String(length=16),
}
OVERRIDDEN = SHARED | dict.fromkeys(
    ("requests_per_minute", "tokens_per_minute", "online_target_ms", "success_target_percent"), INTEGER
)


def upgrade() -> None:
    """Add columns and tables; a weight class that is that of the memory is taken to come from it."""
    for table, columns in (("tenants", TENANTS), ("models", MODELS)):
        for name, kind in columns.items():
            op.add_column(table, sa.Column(name, kind, nullable=True))
    op.execute(
        "UPDATE models SET weight_basis = CASE WHEN weight_class = CASE WHEN memory_bytes < 1000000000 THEN 'light'"
        " WHEN memory_bytes <= 6000000000 THEN 'medium' ELSE 'heavy' END THEN 'memory' ELSE 'given' END"
    )
    op.create_table(
        "overrides",
        sa.Column("scope", sa.String(length=128), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=True),
        sa.Column("model", sa.String(length=64), nullable=True),
        sa.Column("task_type", sa.String(length=16), nullable=True),
        *[sa.Column(name, kind, nullable=True) for name, kind in OVERRIDDEN.items()],
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("updated_ms", INTEGER, nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_overrides_tenant_id_tenants")),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_overrides_model_models")),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_overrides")),
    )
    op.create_table(
        "scenario_defaults",
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("task_type", sa.String(length=16), nullable=False),
        sa.Column("budget_ms", INTEGER, nullable=True),
        sa.Column("observed", INTEGER, nullable=False),
        sa.Column("lower_ms", INTEGER, nullable=True),
        sa.Column("upper_ms", INTEGER, nullable=True),
        sa.Column("seen_ms", INTEGER, nullable=False),
        sa.Column("source", sa.String(length=16), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_scenario_defaults_tenant_id_tenants")),
        sa.ForeignKeyConstraint(
            ["model"], ["models.name"], name=op.f("fk_scenario_defaults_model_models"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "model", "task_type", name=op.f("pk_scenario_defaults")),
    )
    op.create_table(
        "policy_versions",
        sa.Column("number", INTEGER, autoincrement=False, nullable=False),
        sa.Column("at_ms", INTEGER, nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("why", sa.String(length=500), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("document", JSON, nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_policy_versions")),
    )
    op.create_index("ix_jobs_finished", "jobs", ["finished_ms"], unique=False)


def downgrade() -> None:
    """Drop them, columns one by one: SQLite would refuse to make a table anew while others point at it."""
    op.drop_index("ix_jobs_finished", table_name="jobs")
    for table in ("policy_versions", "scenario_defaults", "overrides"):
        op.drop_table(table)
    for table, columns in (("models", MODELS), ("tenants", TENANTS)):
        for name in reversed(columns):
            op.drop_column(table, name)
