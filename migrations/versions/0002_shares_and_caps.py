"""Tenants get what the order needs to know of them: organisation, contracted share and cap."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
COLUMNS: dict[str, Any] = {"organisation": sa.String(length=64), "contracted_percent": INTEGER, "max_running": INTEGER}


def upgrade() -> None:
    """Add the columns; every tenant is its own organisation, without contract or cap."""
    for name, kind in COLUMNS.items():
        op.add_column("tenants", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    """Drop the columns, one by one: SQLite would refuse to make the table anew while keys and jobs point at it."""
    for name in reversed(COLUMNS):
        op.drop_column("tenants", name)
