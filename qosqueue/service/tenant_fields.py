"""What may be set of a tenant, and of an override in its place, and to which values?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qosqueue.errors import InvalidField
from qosqueue.policy.terms import MAX_BUDGET_MS, OnLate, RoadStep, Tier
from qosqueue.service.fields import (
    ORGANISATION_NAME,
    TENANT_NAME,
    checked_choice,
    checked_flag,
    checked_name,
    checked_whole,
    one_of,
)

# Smallest and largest value of each number that may be given.
WEIGHT_RANGE = (1, 1_000)
TARGET_RANGES: dict[str, tuple[int, int]] = {
    "online_target_ms": (1, MAX_BUDGET_MS),
    "high_target_ms": (1, MAX_BUDGET_MS),
    "medium_target_ms": (1, MAX_BUDGET_MS),
    "low_target_ms": (1, MAX_BUDGET_MS),
    "success_target_percent": (1, 100),
    "error_budget_per_10k": (0, 10_000),
}
LIMIT_RANGES: dict[str, tuple[int, int]] = {
    "requests_per_minute": (1, 10**9),
    "tokens_per_minute": (1, 10**12),
    "tokens_per_day": (1, 10**15),
    "gpu_seconds_per_day": (1, 10**9),
    "max_in_flight": (0, 1_000_000),
    "max_queued": (0, 10**9),
}
SHARE_RANGES: dict[str, tuple[int, int]] = {"contracted_percent": (0, 100), "max_running": (0, 1_000_000)}
RANGES = TARGET_RANGES | LIMIT_RANGES | SHARE_RANGES
CONDUCT = ("on_late", "road")

# What a tenant need not have, and may be taken from it again.
CLEARABLE = (*RANGES, *CONDUCT, "organisation")
CHANGEABLE = ("name", "tier", "weight", *CLEARABLE, "enabled")
OVERRIDABLE = (*TARGET_RANGES, *LIMIT_RANGES, *CONDUCT)


def checked(values: Mapping[str, object], allowed: Iterable[str] = CHANGEABLE) -> dict[str, Any]:
    """The values as the record keeps them; raises InvalidField for the first that it does not take."""
    return {field: _checked_field(field, value, allowed) for field, value in values.items()}


def _checked_field(field: str, value: object, allowed: Iterable[str]) -> str | int | bool | list[str] | None:
    if field not in allowed:
        raise InvalidField(field, one_of(allowed), value)
    if field == "name":
        return checked_name(field, value, TENANT_NAME)
    if field == "tier":
        return checked_choice(field, value, Tier).value
    if field == "enabled":
        return checked_flag(field, value)
    if value is None:
        return None
    if field == "organisation":
        return checked_name(field, value, ORGANISATION_NAME)
    if field == "on_late":
        return checked_choice(field, value, OnLate).value
    if field == "road":
        return _checked_road(value)
    return checked_whole(field, value, *(RANGES | {"weight": WEIGHT_RANGE})[field])


def _checked_road(value: object) -> list[str]:
    """A list of different steps, in the order in which they are tried; what stands behind `reject` is never reached."""
    expected = f"different steps of {', '.join(RoadStep)}, with reject last or left out"
    if not isinstance(value, list | tuple) or not value or not set(map(str, value)) <= set(RoadStep):
        raise InvalidField("road", expected, value)
    steps = [RoadStep(step).value for step in value]
    if len(set(steps)) < len(steps) or RoadStep.REJECT in steps[:-1]:
        raise InvalidField("road", expected, value)
    return steps
