"""What is agreed for a tenant's requests to a model, and which start budget have those that state none?

Both are asked with every request, so they are kept for a second; with the record away the last known answer serves.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select

from qosqueue.errors import StoreUnavailable
from qosqueue.policy.agreement import AGREED_FIELDS, Agreed, Agreement, Rule, agreement
from qosqueue.policy.profile import DEFAULT_BUDGET_MS
from qosqueue.policy.scenario import bounds
from qosqueue.policy.terms import TaskType
from qosqueue.store.clock import monotonic_ms
from qosqueue.store.last_known import KEEP_MS, MAX_ENTRIES, LastKnown
from qosqueue.store.records import Override, Scenario, Tenant, override_of, scenario_of
from qosqueue.store.session import Store
from qosqueue.store.tables import OverrideRow, ScenarioRow

Place = tuple[str, str, TaskType]
EVERY = ""


class Agreements:
    """Reads overrides and scenarios; changes nothing."""

    def __init__(
        self, store: Store, *, keep_ms: int = KEEP_MS, monotonic_clock_ms: Callable[[], int] = monotonic_ms
    ) -> None:
        self._store = store
        self._rules: LastKnown[str, tuple[Rule, ...]] = LastKnown(
            self._all_rules, monotonic_ms=monotonic_clock_ms, keep_ms=keep_ms
        )
        # Made with every request otherwise, which takes longer than to ask a broker nearby.
        self._made: dict[Place, tuple[Tenant, tuple[Rule, ...], Agreement]] = {}
        self._scenarios: LastKnown[Place, Scenario] = LastKnown(
            self._scenario, monotonic_ms=monotonic_clock_ms, keep_ms=keep_ms
        )

    def of(self, tenant: Tenant, model: str, task_type: TaskType) -> Agreement:
        """What is agreed, at most a second old. Raises StoreUnavailable if the record never answered here."""
        rules, place = self._rules.get(EVERY) or (), (tenant.id, model, task_type)
        made = self._made.get(place)
        # Records are never changed: the same tenant and rules agree on the same.
        if made is not None and made[0] is tenant and made[1] is rules:
            return made[2]
        own = Agreed(**{name: getattr(tenant, name) for name in AGREED_FIELDS})
        found = agreement(tenant.id, own, rules, model, task_type)
        if len(self._made) >= MAX_ENTRIES:
            self._made.clear()
        self._made[place] = (tenant, rules, found)
        return found

    def default_budget_ms(self, tenant: Tenant, model: str, task_type: TaskType) -> int:
        """The start budget of a request that states none: learned, or the default of tier and task type, in bounds.

        With the record away, and nothing known of the scenario, it is that default.
        """
        default_ms = DEFAULT_BUDGET_MS[task_type][tenant.tier]
        try:
            found = self._scenarios.get((tenant.id, model, task_type))
        except StoreUnavailable:
            return default_ms
        if found is None:
            return default_ms
        within = bounds(default_ms, found.lower_ms, found.upper_ms)
        return within.held(default_ms if found.budget_ms is None else found.budget_ms)

    def scenarios(self) -> list[Scenario]:
        """Every scenario that was observed or bounded, by tenant, model and task type."""
        query = select(ScenarioRow).order_by(ScenarioRow.tenant_id, ScenarioRow.model, ScenarioRow.task_type)
        with self._store.session() as session:
            return [scenario_of(row) for row in session.scalars(query)]

    def overrides(self) -> list[Override]:
        """Every override, by scope."""
        with self._store.session() as session:
            return [override_of(row) for row in session.scalars(select(OverrideRow).order_by(OverrideRow.scope))]

    def forget(self) -> None:
        """Ask the record again: this process has changed the policy."""
        self._rules.forget()
        self._scenarios.forget()

    def _all_rules(self, _: str) -> tuple[Rule, ...]:
        return tuple(
            Rule(
                each.tenant_id,
                each.model,
                each.task_type,
                Agreed(**{name: getattr(each, name) for name in AGREED_FIELDS}),
            )
            for each in self.overrides()
        )

    def _scenario(self, place: Place) -> Scenario | None:
        tenant_id, model, task_type = place
        with self._store.session() as session:
            row = session.get(ScenarioRow, (tenant_id, model, task_type.value))
            # Not None, which is never kept: most scenarios have no row, and each request would ask again.
            if row is None:
                return Scenario(tenant_id, model, task_type, None, 0, None, None, 0, None)
            return scenario_of(row)
