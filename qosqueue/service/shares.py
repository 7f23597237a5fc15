"""Who was promised what, and does the order know it?

The record says what each tenant was promised; the order must have it by organisation (shares) and by tenant (caps). The
two are compared when a tenant changes, and with each sweep of the watchdog: so an emptied broker heals, and so does a
change that was made while the broker was away. Nothing is written when nothing differs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import redis
import structlog
from sqlalchemy import or_, select

from qosqueue.broker.scripts import Scripts, row_parts, waiting_key
from qosqueue.errors import BrokerUnavailable, StoreUnavailable
from qosqueue.policy.order import contract_q10, steepness_q10
from qosqueue.policy.reference.claims import Share
from qosqueue.policy.reference.limits import tenant_limit
from qosqueue.policy.reference.message import Place, Stand
from qosqueue.store.records import Tenant
from qosqueue.store.session import Store
from qosqueue.store.tables import TenantRow, TierRow

# A tenant of the record, as the name of a limit. Other names are those of host projects' own tenants.
RECORDED_TENANT = re.compile(r"t:(ten_[0-9a-f]{24})")
RECHARGED_AT_ONCE = 250
# What a person who changes a tenant waits for: half a second, at most. The next sweep does the rest.
BATCHES_AT_ONCE = 2

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Promised:
    """What the record promises: shares by organisation, caps and tenant ids by tenant and organisation."""

    shares: dict[str, Share]
    caps: dict[str, int]
    tenants: dict[str, list[str]]


class Shares:
    """Keeps the order's shares and caps as the record has them."""

    def __init__(self, scripts: Scripts, store: Store) -> None:
        self._scripts = scripts
        self._client = scripts.client
        self._store = store
        # Tenants whose queued work has yet to be charged anew: what a process leaves undone, the next sweep does.
        self._to_recharge = f"{scripts.key}:recharge"

    def tell(self, tenant: Tenant | None = None) -> None:
        """One tenant (None: any) was made or changed: let it count at once, or, if the broker is away, with the next
        sweep."""
        try:
            self.refresh(tenant)
        except (BrokerUnavailable, StoreUnavailable) as error:
            changed = "any" if tenant is None else tenant.id
            log.warning("a change of tenants waits for the next sweep", tenant=changed, error=str(error))

    def refresh(self, changed: Tenant | None = None) -> dict[str, list[str]]:
        """Bring the order in step with the record: the organisations and limits that differed.

        What such an organisation has queued counts by its new share, too; a tenant that has just `changed` may have
        come from another organisation. Raises BrokerUnavailable, StoreUnavailable.
        """
        promised = self._promised()
        try:
            limits = self._set_caps(promised.caps)
            differing = self._differing(promised.shares)
            tenants = [tenant for name in differing for tenant in promised.tenants.get(name, [name])]
            if differing and changed is not None:
                tenants.append(changed.id)
            if tenants:
                self._client.sadd(self._to_recharge, *tenants)
            for name in differing:
                self._scripts.share(name, promised.shares.get(name))
            self._recharge(None if changed is None else BATCHES_AT_ONCE)
        except redis.RedisError as error:
            raise BrokerUnavailable(f"the order cannot be told of shares and caps: {error}") from error
        return {"shares": differing, "limits": limits}

    def _promised(self) -> Promised:
        """From the tenants that have anything of their own; all others have their tier's."""
        query = (
            select(
                TenantRow.id, TenantRow.organisation, TenantRow.contracted_percent, TenantRow.max_running,
                TenantRow.weight, TierRow.weight.label("default_weight"),
            )
            .join(TierRow, TierRow.name == TenantRow.tier)
            .where(
                or_(
                    TenantRow.organisation.is_not(None),
                    TenantRow.contracted_percent.is_not(None),
                    TenantRow.max_running.is_not(None),
                    TenantRow.weight != TierRow.weight,
                )
            )
        )  # fmt: skip
        with self._store.session() as session:
            rows = session.execute(query).all()
        members: dict[str, list[Any]] = {}
        for row in rows:
            members.setdefault(row.organisation or row.id, []).append(row)
        shares = {name: _share(rows) for name, rows in members.items()}
        return Promised(
            shares={name: share for name, share in shares.items() if share != Share()},
            caps={tenant_limit(row.id): row.max_running for row in rows if row.max_running is not None},
            tenants={name: [row.id for row in rows] for name, rows in members.items()},
        )

    def _differing(self, wanted: dict[str, Share]) -> list[str]:
        known = self._scripts.shares()
        return sorted(name for name in wanted.keys() | known.keys() if wanted.get(name) != known.get(name))

    def _set_caps(self, wanted: dict[str, int]) -> list[str]:
        known, now_ms = self._scripts.limits(), self._scripts.server_ms()
        recorded = {name for name in known if RECORDED_TENANT.fullmatch(name)}
        # One with an end is an operator's: it counts in place of the cap for as long as it lasts.
        for_a_time = {name for name in recorded if known[name].until > now_ms}
        differing = [
            name
            for name in sorted((wanted.keys() | recorded) - for_a_time)
            if name not in known or known[name].until or known[name].most != wanted.get(name)
        ]
        for name in differing:
            self._scripts.limit(name=name, most=wanted.get(name))
        return differing

    def _recharge(self, batches: int | None) -> None:
        """Charge anew what the marked tenants have queued, so many batches at most; then they are marked no longer."""
        marked = cast(Any, self._client.smembers(self._to_recharge))
        if not marked:
            return
        queued = self._queued_of({tenant.decode() for tenant in marked})
        for tasks in islice(queued, batches):
            self._scripts.recharge(tasks)
        if next(queued, None) is None:
            self._client.srem(self._to_recharge, *marked)

    def _queued_of(self, tenants: Collection[str]) -> Iterator[list[str]]:
        """Task ids of what these have in the order, in batches; the first of each row first."""
        rows = [row_parts(row) for row in cast(Any, self._client.hkeys(f"{self._scripts.key}:depth"))]
        for stand, lane, model in rows:
            # Only what is live stands by its key; what joins later is charged then, what is relegated never again.
            if stand == Stand.LIVE:
                for tenant in tenants:
                    yield from self._queued_at(tenant, (lane, model))

    def _queued_at(self, tenant: str, place: Place) -> Iterator[list[str]]:
        waiting = waiting_key(self._scripts.key, tenant, Stand.LIVE, place)
        tags = cast(Any, self._client.zrange(waiting, 0, -1))
        for start in range(0, len(tags), RECHARGED_AT_ONCE):
            with self._client.pipeline(transaction=False) as pipe:
                for tag in tags[start : start + RECHARGED_AT_ONCE]:
                    pipe.hget(f"{self._scripts.key}:msg:{tag.decode()}", "task")
                yield [task.decode() for task in pipe.execute() if task is not None]


def _share(tenants: list[Any]) -> Share:
    """What tenants are promised together: the sum of their contracts; as steep as their weights are to their tiers'."""
    return Share(
        contract_q10=contract_q10(sum(tenant.contracted_percent or 0 for tenant in tenants)),
        steepness_q10=steepness_q10(
            sum(tenant.default_weight for tenant in tenants), sum(tenant.weight for tenant in tenants)
        ),
    )
