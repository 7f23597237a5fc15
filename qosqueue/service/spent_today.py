"""How much has each tenant spent today, for a broker that has lost its count?

The record has what was served today. A broker that was emptied would let every tenant spend its whole daily budget once
more: there the count is raised to what the record has, and never above it, so that raising it twice does no harm.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from redis.client import Pipeline

from qosqueue.broker.scripts import Scripts
from qosqueue.policy.quota import DAY_KEPT_MS, DAY_MS, Kind
from qosqueue.policy.reference.limits import tenant_limit
from qosqueue.store.usage import UsageRecord, day_of


class SpentToday:
    """Raises StoreUnavailable and redis.RedisError: what was not raised then is raised by another call."""

    def __init__(self, scripts: Scripts, usage: UsageRecord) -> None:
        self._scripts = scripts
        self._usage = usage

    def put_back(self) -> None:
        """Count for every tenant at least what the record has of today.

        To be called before open jobs are counted again, for these are not in the record's figures. What came since the
        broker was emptied may be: the larger of both counts, which never counts twice.
        """
        now = self._scripts.server_ms()
        today = day_of(now)
        spent: Counter[tuple[Kind, str]] = Counter()
        for usage in self._usage.list(since=today, until=today):
            spent[Kind.DAY_TOKENS, usage.tenant_id] += usage.prompt_tokens + usage.completion_tokens
            spent[Kind.DAY_GPU_MS, usage.tenant_id] += usage.gpu_ms
        for (kind, tenant_id), amount in spent.items():
            self._raise_to(amount, f"{self._scripts.key}:used:{kind}:{tenant_limit(tenant_id)}", now - now % DAY_MS)

    def _raise_to(self, amount: int, key: str, day_ms: int) -> None:
        def raised(pipe: Pipeline) -> None:
            counted, _, since = (cast(Any, pipe.get(key)) or b"0:0").partition(b":")
            pipe.multi()
            # What counts for a later day (the clock went back) stays.
            if amount and (int(since), int(counted)) < (day_ms, amount):
                pipe.set(key, f"{amount}:{day_ms}", px=DAY_KEPT_MS)

        self._scripts.client.transaction(raised, key)
