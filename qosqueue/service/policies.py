"""How is the whole policy read, changed by a file, and taken back to an old version?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from qosqueue.errors import Conflict, InvalidField, InvalidPolicy
from qosqueue.policy.document import (
    ABOUT,
    FROM_FILE,
    Difference,
    Document,
    Entry,
    difference,
    entry_key,
    faults,
    rolled_back,
    with_file,
)
from qosqueue.policy.terms import WeightClass
from qosqueue.service import policy_file
from qosqueue.service.catalog import Approve
from qosqueue.service.policy_versions import WHY_AT_MOST, PolicyVersions, policy_change, source_of
from qosqueue.service.policy_writing import write_policy
from qosqueue.store.policy_document import policy_document
from qosqueue.store.records import Model
from qosqueue.store.session import Store
from qosqueue.store.tables import TierRow

Make = Callable[[Document], Document]


@dataclass(frozen=True)
class Outcome:
    """What a change differs in, and the version that holds after it; None while there is none."""

    differences: list[Difference]
    version: int | None


def unheard() -> None:
    """Nobody is told of a change: for a record without a broker beside it."""


class Policies:
    """The whole policy. Every change is one transaction with its audit entries and one version.

    `tell` is called after a change, for this process and the order to hear of it at once. All methods raise
    StoreUnavailable.
    """

    def __init__(self, store: Store, *, tell: Callable[[], None] = unheard) -> None:
        self._store = store
        self._tell = tell
        self.versions = PolicyVersions(store)

    def current(self) -> Document:
        """The policy as the record has it."""
        with self._store.session() as session:
            return policy_document(session)

    def document_of(self, number: int) -> Document:
        """The policy of a version; raises NotFound, and Conflict if its document is no longer kept."""
        document = self.versions.get(number).document
        if document is None:
            raise Conflict(f"policy version {number} is too old: its document is no longer kept")
        return document

    def changed_in(self, number: int) -> list[Difference] | None:
        """What a version changed; None if its document or the one before is no longer kept. Raises NotFound."""
        after = self.versions.get(number).document
        before = {} if number == 1 else self.versions.get(number - 1).document
        return None if before is None or after is None else difference(before, after)

    def between(self, before: int, after: int | None = None) -> list[Difference]:
        """What differs between two versions, or between one and what holds now (None). Raises NotFound, and Conflict
        if a document is no longer kept."""
        return difference(self.document_of(before), self.current() if after is None else self.document_of(after))

    def check(self, file: Document) -> list[Difference]:
        """What applying a file would change; raises InvalidPolicy if it cannot hold."""
        return self._tried(lambda record: with_file(record, file))

    def check_rollback(self, number: int) -> list[Difference]:
        """What a rollback would change; raises NotFound, Conflict, InvalidPolicy."""
        version = self.document_of(number)
        return self._tried(lambda record: rolled_back(record, version))

    def apply(self, file: Document, *, actor: str, why: str, approve: Approve | None = None) -> Outcome:
        """Make the record say what a file says; the file's entries get the source `file`.

        Raises InvalidPolicy, and what `approve` raises for a model that is new or changed.
        """
        return self._change(lambda record: with_file(record, file), actor, why, FROM_FILE, approve)

    def rollback(self, number: int, *, actor: str, why: str = "", approve: Approve | None = None) -> Outcome:
        """Make the policy of an old version hold again, as a new version, whose reason names the old one.

        Raises NotFound, Conflict, InvalidPolicy, InvalidField, and what `approve` raises for a model that would be new
        or changed.
        """
        version = self.document_of(number)
        back = f"back to version {number}"
        room = WHY_AT_MOST - len(back) - len(": ")
        if len(why) > room:
            raise InvalidField("why", f"one line of at most {room} characters", why)
        told = f"{back}: {why}" if why not in ("", back) else back
        return self._change(lambda record: rolled_back(record, version), actor, told, source_of(actor), approve)

    def set_override(self, about: Mapping[str, str], values: Mapping[str, object], *, actor: str, why: str) -> Outcome:
        """Set what is overridden for a tenant, model and task type; None takes a value away, and the last one all.

        Raises InvalidPolicy.
        """
        return self._set("overrides", about, values, actor, why)

    def bound_scenario(
        self, about: Mapping[str, str], values: Mapping[str, object], *, actor: str, why: str
    ) -> Outcome:
        """Set the bounds of a scenario's learned budget; None takes one away. Raises InvalidPolicy."""
        return self._set("scenarios", about, values, actor, why)

    def _set(self, kind: str, about: Mapping[str, str], values: Mapping[str, object], actor: str, why: str) -> Outcome:
        read = policy_file.read_override if kind == "overrides" else policy_file.read_scenario

        def make(record: Document) -> Document:
            key = entry_key(kind, about)
            before: Entry = next((entry for entry in record[kind] if entry_key(kind, entry) == key), {})
            kept = {name: value for name, value in before.items() if name not in (*ABOUT, "source")}
            wanted = {name: value for name, value in {**kept, **values}.items() if value is not None}
            others = [entry for entry in record[kind] if entry is not before]
            if not wanted and before:
                return {**record, kind: others}
            return {**record, kind: [*others, {**read(key, {**about, **wanted}), "source": source_of(actor)}]}

        return self._change(make, actor, why, source_of(actor))

    def _tried(self, make: Make) -> list[Difference]:
        with self._store.session() as session:
            before = policy_document(session)
            return difference(before, _sound(session, before, make))

    def _change(self, make: Make, actor: str, why: str, source: str, approve: Approve | None = None) -> Outcome:
        if approve is not None:
            # Before the transaction: it may take seconds, and nobody else could write.
            with self._store.session() as session:
                before = policy_document(session)
                wanted = _sound(session, before, make)
            for name, entry in wanted["models"].items():
                if entry["enabled"] and entry != before["models"].get(name):
                    approve(_model(name, entry))
        with policy_change(self._store, actor=actor, why=why, source=source) as session:
            before = policy_document(session)
            after = _sound(session, before, make)
            write_policy(session, before, after, actor=actor)
        self._tell()
        newest = self.versions.list(1)
        return Outcome(difference(before, after), newest[0].number if newest else None)


def _sound(session: Session, before: Document, make: Make) -> Document:
    """The policy that is to be; raises InvalidPolicy if it cannot hold."""
    after = make(before)
    weights = {row.name: row.weight for row in session.scalars(select(TierRow))}
    tenants = {name: {"weight": weights[entry["tier"]], **entry} for name, entry in after["tenants"].items()}
    after = {**after, "tenants": tenants}
    changed = [name for name, entry in tenants.items() if entry != before["tenants"].get(name)]
    if found := faults(after, changed):
        raise InvalidPolicy([InvalidField(fault.key, fault.expected, fault.got) for fault in found])
    return after


def _model(name: str, entry: Mapping[str, Any]) -> Model:
    return Model(**{**entry, "name": name, "weight_class": WeightClass(entry["weight_class"]), "created_ms": 0})
