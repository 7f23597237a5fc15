"""Which policy do the tests of files and versions work on? Two models and two tenants, and a file that changes some."""

from __future__ import annotations

from qosqueue.service.accounts import Accounts
from qosqueue.service.catalog import Catalog
from qosqueue.store.session import Store

FILE = """
schema = 1

[tenants.acme]
tier = "vip"
tokens_per_day = 5000
road = ["retry", "fallback", "reject"]

[tenants."New Corp"]
tier = "basic"
contracted_percent = 30
on_late = "defer"

[models.small]
engine = "simulated"
memory_bytes = 1000
context_tokens = 64
fallback_model = "other"

[models.other]
engine = "simulated"
parameters = 7_000_000_000
context_tokens = 64
slots = 3
options = { step_ms = 2 }

[[overrides]]
tenant = "New Corp"
model = "small"
max_queued = 7

[[overrides]]
task_type = "batch"
tokens_per_minute = 100

[[scenarios]]
tenant = "acme"
model = "small"
task_type = "async"
lower_ms = 100
upper_ms = 400
"""


def furnish(store: Store) -> None:
    """Tenants `acme` (with a limit) and `beta` (with a contract of 40 %), models `small` and `kept`."""
    accounts, catalog = Accounts(store), Catalog(store)
    accounts.create_tenant("acme", "standard", actor="cli:test", requests_per_minute=60)
    accounts.create_tenant("beta", "basic", actor="user:root", contracted_percent=40)
    for name in ("small", "kept"):
        catalog.add_model(name, "simulated", actor="cli:test", memory_bytes=1, context_tokens=64, slots=2)
