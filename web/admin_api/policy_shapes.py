"""What do programs send and get of the policy, its versions, overrides and learned budgets?"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from qosqueue.service.policy_versions import LARGEST_NUMBER
from qosqueue.service.whole import WHOLE

MOST_VERSIONS = 1_000
Whole = Annotated[int, Field(strict=True), WHOLE]
Number = Annotated[int, Field(ge=1, le=LARGEST_NUMBER)]
TaskTypeName = Literal["online", "async", "batch"]


class VersionPath(BaseModel):
    """Which version of the policy."""

    number: Number


class PolicyQuery(BaseModel):
    """An old version; without it what holds now."""

    model_config = ConfigDict(extra="forbid")

    version: Number | None = None


class VersionsQuery(BaseModel):
    """How many versions."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=MOST_VERSIONS)] = 100


class DiffQuery(BaseModel):
    """From which version to which; without `after` to what holds now."""

    model_config = ConfigDict(extra="forbid")

    before: Number
    after: Number | None = None


class PolicyText(BaseModel):
    """A whole policy, as policy.toml says it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    toml: str


class PolicyBody(PolicyText):
    """A policy that is to hold, and why."""

    why: str = ""


class WhyBody(BaseModel):
    """The reason, kept with the change."""

    model_config = ConfigDict(extra="forbid", strict=True)

    why: str = ""


class OverrideQuery(BaseModel):
    """Which override, by what it is about; the tenant by name or id, none: each tenant's."""

    model_config = ConfigDict(extra="forbid")

    tenant: str | None = None
    model: str | None = None
    task_type: TaskTypeName | None = None
    why: str = ""


class OverrideBody(OverrideQuery):
    """What holds for requests to a model, of a task type, or both, in place of a tenant's own. What is not sent stays;
    null takes a value away, and with the last one the override."""

    requests_per_minute: Whole | None = None
    tokens_per_minute: Whole | None = None
    tokens_per_day: Whole | None = None
    gpu_seconds_per_day: Whole | None = None
    max_in_flight: Whole | None = None
    max_queued: Whole | None = None
    online_target_ms: Whole | None = None
    high_target_ms: Whole | None = None
    medium_target_ms: Whole | None = None
    low_target_ms: Whole | None = None
    success_target_percent: Whole | None = None
    error_budget_per_10k: Whole | None = None
    on_late: str | None = None
    road: list[str] | None = None


class BoundsBody(BaseModel):
    """Bounds of a learned start budget (ms). What is not sent stays; null takes a bound away."""

    model_config = ConfigDict(extra="forbid")

    tenant: str
    model: str
    task_type: TaskTypeName
    lower_ms: Whole | None = None
    upper_ms: Whole | None = None
    why: str = ""


class DifferenceShape(BaseModel):
    """One value that differs; null: it is not set."""

    key: str
    before: Any
    after: Any


class PolicyShape(BaseModel):
    """A policy: as policy.toml, and as the document that versions keep."""

    version: int | None
    toml: str
    document: dict[str, Any]


class VersionShape(BaseModel):
    """Who changed the policy, when, why, and from where (page, command or file)."""

    number: int
    at_ms: int
    actor: str
    why: str
    source: str


class VersionList(BaseModel):
    """Versions, the newest first."""

    data: list[VersionShape]


class VersionDetail(VersionShape):
    """A version with what it changed; null: its document, or the one before, is no longer kept."""

    differences: list[DifferenceShape] | None


class DifferenceList(BaseModel):
    """What differs, by key."""

    data: list[DifferenceShape]


class FaultShape(BaseModel):
    """What is wrong with a policy: at which key, and what was expected there."""

    key: str
    expected: str


class CheckedShape(BaseModel):
    """Whether a policy could hold; then what applying it would change, else what is wrong with it."""

    valid: bool
    faults: list[FaultShape]
    differences: list[DifferenceShape]


class OutcomeShape(BaseModel):
    """The version that holds after a change, and what it changed."""

    version: int | None
    differences: list[DifferenceShape]


class OverrideShape(BaseModel):
    """An override; a null tenant is each tenant, another null is not overridden."""

    tenant: str | None
    model: str | None
    task_type: str | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    tokens_per_day: int | None
    gpu_seconds_per_day: int | None
    max_in_flight: int | None
    max_queued: int | None
    online_target_ms: int | None
    high_target_ms: int | None
    medium_target_ms: int | None
    low_target_ms: int | None
    success_target_percent: int | None
    error_budget_per_10k: int | None
    on_late: str | None
    road: list[str] | None
    source: str | None


class OverrideList(BaseModel):
    """All overrides."""

    data: list[OverrideShape]


class ScenarioShape(BaseModel):
    """The start budget of requests that state none: learned from `observed` of them, within the bounds."""

    tenant: str
    model: str
    task_type: str
    budget_ms: int | None
    observed: int
    lower_ms: int | None
    upper_ms: int | None
    seen_ms: int
    source: str | None


class ScenarioList(BaseModel):
    """All scenarios that were observed or bounded."""

    data: list[ScenarioShape]
