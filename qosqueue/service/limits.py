"""What may run at once, and which of these limits did an operator set?

A limit caps the attempts that run under a name: a tenant's, a tier's, a lane's, a model's, or one lane's on one model.
It counts from the next pick on, for queued work too; what runs goes on. A tenant's cap for good is in the record:
shares.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import redis
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from qosqueue.broker.scripts import Scripts
from qosqueue.errors import BrokerUnavailable, Conflict, InvalidField, NotFound
from qosqueue.policy.reference.limits import Limit, lane_limit, model_limit, place_limit, tenant_limit
from qosqueue.policy.terms import SYSTEM_LANE
from qosqueue.service import audit
from qosqueue.service.fields import checked_whole, may_be_recorded
from qosqueue.service.shares import RECORDED_TENANT, Shares
from qosqueue.store.session import Store
from qosqueue.store.tables import Json, TenantRow

MOST = 1_000_000
LONGEST_S = 30 * 86_400
LONGEST_NAME = 120
EXPECTED = "t:TENANT, c:TIER, l:LANE, m:MODEL or p:LENGTH OF LANE:LANE:MODEL"
NAMED = re.compile(r"[tclm]:.+|p:[0-9]{1,3}:.+", re.DOTALL)


@dataclass(frozen=True)
class LimitView:
    """One limit in force: its name, what it is about (a tenant by its id), how many at most, until when (ms since the
    epoch; None: for good), how many run under it now."""

    name: str
    tenant: str | None
    lane: str | None
    model: str | None
    most: int
    until_ms: int | None
    running: int


def limit_name(*, lane: str | None = None, model: str | None = None, tenant: str | None = None) -> str:
    """The name of a limit on a lane, a model, a lane on a model, or a tenant (its id); raises InvalidField."""
    if tenant is not None and lane is None and model is None:
        return tenant_limit(tenant)
    if tenant is None and lane is not None:
        return lane_limit(lane) if model is None else place_limit(lane, model)
    if tenant is None and model is not None:
        return model_limit(model)
    given = "a tenant and a lane or model" if tenant is not None else None
    raise InvalidField("name", "a lane, a model, both, or a tenant alone", given)


class Limits:
    """Sets, lifts and lists limits. Every change leaves an audit entry, or is not made.

    All methods raise BrokerUnavailable and StoreUnavailable.
    """

    def __init__(self, scripts: Scripts, store: Store, shares: Shares) -> None:
        self._scripts = scripts
        self._store = store
        self._shares = shares

    def list(self) -> list[LimitView]:
        """The limits in force, by name."""
        try:
            limits, running, now_ms = self._scripts.limits(), self._scripts.running(), self._scripts.server_ms()
        except redis.RedisError as error:
            raise BrokerUnavailable(f"limits cannot be read: {error}") from error
        return [
            _view(name, limit, running.get(name, 0))
            for name, limit in sorted(limits.items())
            if not limit.until or limit.until > now_ms
        ]

    def set(self, name: str, most: int, *, actor: str, for_s: int | None = None) -> LimitView:
        """Let at most `most` attempts run under a name, for so many seconds or for good.

        `t:` takes a tenant's name or id; one of the record only for a time: for good its cap is in the record.
        Raises InvalidField.
        """
        checked_whole("most", most, 0, MOST)
        if for_s is not None:
            checked_whole("for_s", for_s, 1, LONGEST_S)
        with self._store.session() as session:
            name = _checked_name(session, name)
            if for_s is None and RECORDED_TENANT.fullmatch(name):
                told = "a time for a tenant's limit (for good: `qosqueue tenant update --max-running`)"
                raise InvalidField("for_s", told, None)
            before = self._in_force(name)
            after: Json = {"most": most, "for_s": for_s}
            audit.append(session, actor=actor, action="limit.set", subject=name, before=before, after=after)
            self._tell(session, name, most, 0 if for_s is None else for_s * 1000)
        (made,) = [view for view in self.list() if view.name == name]
        return made

    def lift(self, name: str, *, actor: str) -> None:
        """Take a limit away. Raises NotFound, and Conflict for a tenant's cap that is in the record."""
        with self._store.session() as session:
            name = _checked_name(session, name)
            before = self._in_force(name)
            if before is None:
                raise NotFound(f"no limit {name!r}")
            if RECORDED_TENANT.fullmatch(name) and before["until_ms"] is None:
                raise Conflict(
                    f"{name} is the tenant's cap: `qosqueue tenant update --clear max_running` takes it away"
                )
            audit.append(session, actor=actor, action="limit.lift", subject=name, before=before)
            self._tell(session, name, None, 0)
        if RECORDED_TENANT.fullmatch(name):
            # It stood in place of the tenant's cap, which counts again.
            self._shares.refresh()

    def _tell(self, session: Session, name: str, most: int | None, for_ms: int) -> None:
        # Before the order hears of it: what cannot be written down is not done.
        session.flush()
        try:
            self._scripts.limit(name=name, most=most, for_ms=for_ms)
        except redis.RedisError as error:
            raise BrokerUnavailable(f"the broker did not take the limit: {error}") from error

    def _in_force(self, name: str) -> Json | None:
        found = [view for view in self.list() if view.name == name]
        return {"most": found[0].most, "until_ms": found[0].until_ms} if found else None


def _checked_name(session: Session, name: str) -> str:
    """The name with a tenant's id in it where a tenant of the record is meant."""
    if not NAMED.fullmatch(name) or len(name) > LONGEST_NAME or not may_be_recorded(name):
        raise InvalidField("name", EXPECTED, name)
    kind, _, rest = name.partition(":")
    if kind == "p":
        length, _, place = rest.partition(":")
        lane, _, _ = place.partition(":")
        if _parts(name) is None:
            raise InvalidField("name", f"the length of {lane!r} after p:, {len(lane.encode())}", int(length))
    if kind == "l" and rest == SYSTEM_LANE:
        raise InvalidField("name", f"another lane than {SYSTEM_LANE}, in which the watchdog runs", name)
    if kind == "t":
        query = select(TenantRow.id).where(or_(TenantRow.name == rest, TenantRow.id == rest))
        return tenant_limit(session.scalar(query) or rest)
    return name


def _parts(name: str) -> tuple[str, str] | None:
    """Lane and model of a name `p:…`; None if its length is wrong."""
    length, _, place = name.removeprefix("p:").partition(":")
    raw = place.encode()
    size = int(length)
    if raw[size : size + 1] != b":":
        return None
    return raw[:size].decode(errors="replace"), raw[size + 1 :].decode(errors="replace")


def _view(name: str, limit: Limit, running: int) -> LimitView:
    kind, _, rest = name.partition(":")
    lane, model = (_parts(name) or (None, None)) if kind == "p" else (None, None)
    return LimitView(
        name=name,
        tenant=rest if kind == "t" else None,
        lane=rest if kind == "l" else lane,
        model=rest if kind == "m" else model,
        most=limit.most,
        until_ms=limit.until or None,
        running=running,
    )
