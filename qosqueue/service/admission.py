"""May this request be queued, and with which profile?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import redis
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.profile import Facts, make_profile
from qosqueue.policy.refusal import Refusal
from qosqueue.service.agreements import Agreements
from qosqueue.service.asked_model import find_model
from qosqueue.service.catalog import Catalog
from qosqueue.service.requests import Admitted, JobRequest
from qosqueue.store.records import Tenant


class Admission:
    """Looks up the model, holds the tenant's quotas, makes the profile.

    Quotas are counted on the broker's Redis, so that they hold over all web processes; a sliding window of one
    minute. A request that is refused for its tokens has still used one of its requests.
    """

    def __init__(self, catalog: Catalog, agreements: Agreements, client: redis.Redis, url: str, group: str) -> None:
        self._catalog = catalog
        self._agreements = agreements
        self._group = group
        storage = RedisStorage(url, connection_pool=client.connection_pool, key_prefix=f"{{{group}}}:quota")
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    def admit(self, tenant: Tenant, request: JobRequest) -> Admitted | Refusal:
        """The request's model and profile, or why it is refused. Raises BrokerUnavailable, StoreUnavailable."""
        model = find_model(self._catalog, request.model)
        if isinstance(model, Refusal):
            return model
        agreed = self._agreements.of(tenant, model.name, request.task_type).agreed
        profile = make_profile(
            Facts(
                tier=tenant.tier,
                weight_class=model.weight_class,
                task_type=request.task_type,
                prompt_tokens=request.prompt_tokens,
                max_output_tokens=request.max_output_tokens,
                latency_budget_ms=request.latency_budget_ms,
                tenant_budget_ms=agreed.online_target_ms,
                scenario_budget_ms=self._agreements.default_budget_ms(tenant, model.name, request.task_type),
                ttl_ms=request.ttl_ms,
            )
        )
        try:
            refusal = self._over_quota(tenant, "requests", tenant.requests_per_minute, 1) or self._over_quota(
                tenant, "tokens", tenant.tokens_per_minute, profile.cost_tokens
            )
        except redis.RedisError as error:
            raise BrokerUnavailable(f"quotas cannot be counted: {error}") from error
        return refusal or Admitted(model, profile)

    def _over_quota(self, tenant: Tenant, what: str, limit: int | None, cost: int) -> Refusal | None:
        if limit is None:
            return None
        item: RateLimitItem = RateLimitItemPerMinute(limit)
        if cost > limit:
            return Refusal(
                429,
                "insufficient_quota",
                f"This request needs {cost} {what}, and tenant {tenant.name!r} may use {limit} per minute in all: "
                "make it smaller.",
            )
        names = (tenant.id, what)
        if self._limiter.hit(item, *names, cost=cost):
            return None
        window = self._limiter.get_window_stats(item, *names)
        used = limit - window.remaining
        retry_after_s = seconds_until(window.reset_time, time.time)
        return Refusal(
            429,
            "rate_limit_exceeded",
            f"Limit of tenant {tenant.name!r} reached: {limit} {what} per minute, {used} used, this request needs "
            f"{cost}. Try again in {retry_after_s} s.",
            retry_after_s=retry_after_s,
        )


def seconds_until(at_s: float, clock: Callable[[], float]) -> int:
    """Whole seconds from now until an instant (s since the epoch), at least 1."""
    return max(1, math.ceil(at_s - clock()))
