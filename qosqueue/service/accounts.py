"""Which tenants are there, what may they use, and whose key is this?"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable

from sqlalchemy import func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from qosqueue.errors import Conflict, NoRoom, NotFound, StoreUnavailable
from qosqueue.policy.terms import Tier
from qosqueue.service import audit
from qosqueue.service.fields import may_be_recorded
from qosqueue.service.policy_versions import policy_change, source_of
from qosqueue.service.tenant_fields import CLEARABLE, checked
from qosqueue.store.clock import monotonic_ms, now_ms
from qosqueue.store.ids import new_id
from qosqueue.store.last_known import KEEP_MS, LastKnown
from qosqueue.store.records import Key, NewKey, Tenant, key_of, tenant_of
from qosqueue.store.session import Store
from qosqueue.store.tables import KeyRow, TenantRow, TierRow

KEY_START = "qq_"
KEY_RANDOM_BYTES = 32
PREFIX_CHARS = 8

ALL_PERCENT = 100


def unheard(_: Tenant) -> None:
    """Nobody is told of a change: for a record without a broker beside it."""


class Accounts:
    """Tenants and their keys. Every change leaves an audit entry in the same transaction.

    `tell` is called after a tenant was made or changed, for the order to hear of it at once. All methods raise
    StoreUnavailable when the record is away, `authenticate` only for keys it has not seen.
    """

    def __init__(
        self,
        store: Store,
        *,
        tell: Callable[[Tenant], None] = unheard,
        keep_ms: int = KEEP_MS,
        monotonic_clock_ms: Callable[[], int] = monotonic_ms,
    ) -> None:
        self._store = store
        self._tell = tell
        self._owners: LastKnown[str, Tenant] = LastKnown(
            self._owner_of_hash, monotonic_ms=monotonic_clock_ms, keep_ms=keep_ms
        )

    def create_tenant(
        self, name: str, tier: Tier | str, *, actor: str, why: str | None = None, **given: object
    ) -> Tenant:
        """Make a tenant with what is `given` of CHANGEABLE; without a weight it gets its tier's.

        Raises InvalidField (also for a contract that does not fit beside all others: together they are at most 100
        percent), Conflict if the name is taken.
        """
        blank = dict.fromkeys(("weight", *CLEARABLE)) | {"enabled": True}
        values = checked({"name": name, "tier": tier, **blank, **given})
        made_ms, source = now_ms(), source_of(actor)
        why = why or f"tenant {name} made"
        with policy_change(self._store, actor=actor, why=why, source=source) as session:
            if values["weight"] is None:
                values["weight"] = _tier_weight(session, values["tier"])
            row = TenantRow(id=new_id("ten"), created_ms=made_ms, updated_ms=made_ms, source=source, **values)
            _hold_contracts(session, row.id, row.contracted_percent)
            session.add(row)
            _flush_tenant(session, name)
            audit.append(session, actor=actor, action="tenant.create", subject=row.id, after=values)
            made = tenant_of(row)
        self._tell(made)
        return made

    def update_tenant(self, tenant_id: str, *, actor: str, why: str | None = None, **changes: object) -> Tenant:
        """Change what is given of CHANGEABLE: name, tier, weight, targets, limits, conduct, shares or `enabled`.

        It is known at once here, elsewhere in a second; what is queued keeps the organisation with which it came.

        None takes a target or limit away, and gives the weight of the tier. A tenant that has its tier's weight
        and moves to another tier gets that tier's. Raises InvalidField (also for a contract that does not fit beside
        all others), NotFound, Conflict if the name is taken.
        """
        values, source = checked(changes), source_of(actor)
        why = why or f"tenant {tenant_id}: {', '.join(changes)}"
        with policy_change(self._store, actor=actor, why=why, source=source) as session:
            row = _tenant_row(session, tenant_id, for_update=True)
            if "tier" in values and "weight" not in values and row.weight == _tier_weight(session, row.tier):
                values["weight"] = None
            if values.get("weight", row.weight) is None:
                values["weight"] = _tier_weight(session, values.get("tier", row.tier))
            before = {field: getattr(row, field) for field in values}
            after = {field: value for field, value in values.items() if value != before[field]}
            if after:
                if "contracted_percent" in after:
                    _hold_contracts(session, row.id, after["contracted_percent"])
                for field, value in after.items():
                    setattr(row, field, value)
                row.updated_ms, row.source = now_ms(), source
                _flush_tenant(session, row.name)
                audit.append(
                    session,
                    actor=actor,
                    action="tenant.update",
                    subject=row.id,
                    before={field: before[field] for field in after},
                    after=after,
                )
            changed = tenant_of(row)
        self._owners.forget()
        self._tell(changed)
        return changed

    def list_tenants(self) -> list[Tenant]:
        """All tenants by name, disabled ones too."""
        with self._store.session() as session:
            return [tenant_of(row) for row in session.scalars(select(TenantRow).order_by(TenantRow.name))]

    def get_tenant(self, name_or_id: str) -> Tenant:
        """The tenant of that id or name; raises NotFound."""
        with self._store.session() as session:
            return tenant_of(_tenant_row(session, name_or_id))

    def create_key(self, tenant: str, *, actor: str) -> NewKey:
        """Make a key for the tenant of that id or name; raises NotFound. The record keeps only its hash."""
        secret = secrets.token_urlsafe(KEY_RANDOM_BYTES)
        key, prefix = KEY_START + secret, secret[:PREFIX_CHARS]
        with self._store.change() as session:
            owner = _tenant_row(session, tenant)
            row = KeyRow(
                id=new_id("key"),
                tenant_id=owner.id,
                prefix=prefix,
                sha256=_hash(key),
                created_ms=now_ms(),
                revoked_ms=None,
            )
            session.add(row)
            audit.append(
                session,
                actor=actor,
                action="key.create",
                subject=row.id,
                after={"tenant_id": owner.id, "prefix": prefix},
            )
            return NewKey(id=row.id, key=key, prefix=prefix, tenant=owner.name)

    def list_keys(self, tenant_id: str | None = None) -> list[Key]:
        """Keys of a tenant (id or name; raises NotFound), or of all tenants; oldest first, revoked ones too."""
        query = select(KeyRow).order_by(KeyRow.created_ms, KeyRow.id)
        with self._store.session() as session:
            if tenant_id is not None:
                query = query.where(KeyRow.tenant_id == _tenant_row(session, tenant_id).id)
            return [key_of(row) for row in session.scalars(query)]

    def revoke_key(self, key_id: str, *, actor: str) -> Key:
        """End a key: at once in this process, within 2 s in the others. A second time changes nothing.

        Raises NotFound.
        """
        with self._store.change() as session:
            row = None
            if may_be_recorded(key_id):
                row = session.scalar(select(KeyRow).where(KeyRow.id == key_id).with_for_update())
            if row is None:
                raise NotFound(f"no key {key_id!r}")
            if row.revoked_ms is None:
                row.revoked_ms = now_ms()
                audit.append(
                    session,
                    actor=actor,
                    action="key.revoke",
                    subject=row.id,
                    before={"revoked_ms": None},
                    after={"revoked_ms": row.revoked_ms},
                )
            revoked = key_of(row)
        self._owners.forget()
        return revoked

    def authenticate(self, key: str) -> Tenant | None:
        """The tenant that owns a key; None for a key that is unknown or revoked, or whose tenant is disabled.

        Found by the key's hash: how long the search takes tells nothing about the key. The answer is at most a
        second old; with the record away the last known answer serves, and StoreUnavailable is raised for a key
        that this process has not seen.
        """
        if not key.startswith(KEY_START):
            return None
        return self._owners.get(_hash(key))

    def forget(self) -> None:
        """Ask the record again: this process has changed the policy by other means."""
        self._owners.forget()

    def _owner_of_hash(self, sha256: str) -> Tenant | None:
        query = (
            select(TenantRow)
            .join(KeyRow, KeyRow.tenant_id == TenantRow.id)
            .where(KeyRow.sha256 == sha256, KeyRow.revoked_ms.is_(None), TenantRow.enabled.is_(True))
        )
        with self._store.session() as session:
            row = session.scalar(query)
            return None if row is None else tenant_of(row)


def _hash(key: str) -> str:
    # "replace": a header may hold anything; what is no text can be no key either.
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def _tenant_row(session: Session, name_or_id: str, *, for_update: bool = False) -> TenantRow:
    query = select(TenantRow).where(or_(TenantRow.id == name_or_id, TenantRow.name == name_or_id))
    row = None
    if may_be_recorded(name_or_id):
        row = session.scalar(query.with_for_update() if for_update else query)
    if row is None:
        raise NotFound(f"no tenant {name_or_id!r}")
    return row


def _tier_weight(session: Session, tier: str) -> int:
    weight = session.scalar(select(TierRow.weight).where(TierRow.name == tier))
    if weight is None:
        raise StoreUnavailable(f"the record has no tier {tier}: its tables were made but not seeded")
    return weight


def _hold_contracts(session: Session, tenant_id: str, percent: int | None) -> None:
    """Refuse a contract that does not fit beside those of all other tenants, disabled ones too."""
    if not percent:
        return
    others = select(func.coalesce(func.sum(TenantRow.contracted_percent), 0)).where(TenantRow.id != tenant_id)
    taken = int(session.scalar(others) or 0)
    if taken + percent > ALL_PERCENT:
        free = ALL_PERCENT - taken
        raise NoRoom("contracted_percent", f"at most {free} (other tenants' contracts come to {taken})", percent)


def _flush_tenant(session: Session, name: str) -> None:
    try:
        session.flush()
    except IntegrityError as error:
        # The tier was just read, so only the name can be in the way.
        raise Conflict(f"name: a tenant named {name!r} exists already") from error
