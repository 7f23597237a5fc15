"""What did the person type into the form of a tenant, and what is wrong with it?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qosqueue.errors import InvalidField
from qosqueue.policy.terms import Tier
from qosqueue.store.records import Tenant

NUMBERS = (
    *("weight", "online_target_ms", "success_target_percent", "requests_per_minute", "tokens_per_minute"),
    *("high_target_ms", "medium_target_ms", "low_target_ms", "error_budget_per_10k"),
    *("tokens_per_day", "gpu_seconds_per_day", "max_in_flight", "max_queued"),
    *("contracted_percent", "max_running"),
)
# Far beyond every limit, and far below what the database holds: the record says which range it takes.
WHOLE_NUMBER = re.compile(r"-?[0-9]{1,15}")
EXPECTED = "a whole number"


@dataclass
class TenantForm:
    """The fields as typed (`typed`, shown again), as read (all others), and the faults by field."""

    typed: dict[str, str]
    name: str = ""
    tier: Tier = Tier.STANDARD
    organisation: str | None = None
    numbers: dict[str, int | None] = field(default_factory=dict)
    on_late: str | None = None
    road: tuple[str, ...] | None = None
    enabled: bool = True
    why: str | None = None
    faults: dict[str, str] = field(default_factory=dict)

    def refuse(self, error: InvalidField) -> None:
        """Put the record's objection at its field."""
        got = "" if error.got is None else f", got {error.got!r:.60}"
        self.faults[error.field] = f"Expected {error.expected}{got}."

    def optional(self) -> dict[str, Any]:
        """The fields that a tenant need not have."""
        texts = {"organisation": self.organisation, "on_late": self.on_late, "road": self.road}
        return texts | self.numbers

    def changes(self, tenant: Tenant) -> dict[str, Any]:
        """The fields that differ from the record.

        A weight left as it was is no change: so a tenant with its tier's weight gets the next tier's with the tier.
        """
        wanted = {"name": self.name, "tier": self.tier, "enabled": self.enabled} | self.optional()
        return {name: value for name, value in wanted.items() if value != getattr(tenant, name)}


def blank() -> TenantForm:
    """The form of a tenant that is not there yet."""
    return TenantForm(typed={"tier": Tier.STANDARD.value, "enabled": "on"})


def of_tenant(tenant: Tenant) -> TenantForm:
    """The form filled from the record."""
    typed = {name: "" if (value := getattr(tenant, name)) is None else str(value) for name in NUMBERS}
    typed |= {"name": tenant.name, "tier": tenant.tier.value, "enabled": "on" if tenant.enabled else ""}
    typed["organisation"] = tenant.organisation or ""
    typed["on_late"] = tenant.on_late or ""
    typed["road"] = ", ".join(tenant.road or ())
    return TenantForm(
        typed=typed,
        name=tenant.name,
        tier=tenant.tier,
        organisation=tenant.organisation,
        on_late=tenant.on_late,
        road=tenant.road,
        enabled=tenant.enabled,
    )


def read(sent: Mapping[str, str]) -> TenantForm:
    """Read the fields of the form; whatever else was sent is not looked at. What is left empty reads as None."""
    names = ("name", "tier", "organisation", "on_late", "road", "enabled", "why", *NUMBERS)
    form = TenantForm(typed={name: sent.get(name, "").strip() for name in names})
    form.name = form.typed["name"]
    form.organisation = form.typed["organisation"] or None
    form.on_late = form.typed["on_late"] or None
    form.road = tuple(step.strip() for step in form.typed["road"].split(",")) if form.typed["road"] else None
    form.enabled = form.typed["enabled"] == "on"
    form.why = form.typed["why"] or None
    if form.typed["tier"] in {tier.value for tier in Tier}:
        form.tier = Tier(form.typed["tier"])
    else:
        form.refuse(InvalidField("tier", f"one of {', '.join(Tier)}", form.typed["tier"]))
    for name in NUMBERS:
        text = form.typed[name]
        form.numbers[name] = int(text) if WHOLE_NUMBER.fullmatch(text) else None
        if text and form.numbers[name] is None:
            form.refuse(InvalidField(name, EXPECTED, text))
    return form
