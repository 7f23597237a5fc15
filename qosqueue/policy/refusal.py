"""How is a request refused? As a value with its reason, never as an exception."""

from __future__ import annotations

from dataclasses import dataclass

from qosqueue.policy.quota import Kind

LONGEST_RETRY_S = 120
"""A client that is told to wait for longer gives up: only what cannot be sooner (a spent day) says more."""


@dataclass(frozen=True)
class Rate:
    """How a tenant stands with what it may send: `most` in all, `remaining` now, all of it again in `reset_ms`."""

    most: int
    remaining: int
    reset_ms: int


@dataclass(frozen=True)
class Rates:
    """The tightest of a tenant's quotas of each kind; None: there is none."""

    requests: Rate | None = None
    tokens: Rate | None = None


NO_RATES = Rates()


@dataclass(frozen=True)
class Refusal:
    """Why a request was not admitted.

    `status` is the HTTP status, `code` the machine-readable reason (docs/design/api.md), `param` the field at
    fault if there is one, `retry_after_s` the seconds after which the same request may be admitted, `rates` what its
    tenant has left, where that was looked at, `lacks` what kind of quota has no room, `as_job` whether its tenant's
    policy would have it taken as a job instead.
    """

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after_s: int | None = None
    rates: Rates = NO_RATES
    lacks: Kind | None = None
    as_job: bool = False
