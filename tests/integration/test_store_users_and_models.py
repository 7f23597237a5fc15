"""Are users and models kept, checked and audited as promised, on both databases?"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from qosqueue.errors import Conflict, InvalidField, NotFound
from qosqueue.policy.terms import WeightClass
from qosqueue.policy.weight import GB, WeightBasis
from qosqueue.service.audit import Audit
from qosqueue.service.catalog import Catalog
from qosqueue.service.users import Users
from qosqueue.store.records import Model, Role
from qosqueue.store.session import Store
from qosqueue.store.tables import UserRow
from tests.support.manual_clock import ManualClock

pytest_plugins = ["tests.support.record"]

ACTOR = "cli:tester"
PASSWORD = "correct-horse-canary"


def test_a_user_is_let_in_with_the_right_password_only(record: Store) -> None:
    users = Users(record)
    assert users.count() == 0
    made = users.create_user("root", PASSWORD, Role.ADMIN, ACTOR)
    assert made.role is Role.ADMIN
    assert users.count() == 1
    assert users.get_user(made.id) == made
    assert users.get_user("usr_" + "0" * 24) is None
    assert users.get_user("\0") is None
    assert users.check_password("root", PASSWORD) == made
    for name, password in [
        ("root", PASSWORD + " "),
        ("root", ""),
        ("root", "\ud800"),
        ("root", "x" * 100_000),
        ("Root", PASSWORD),
        ("nobody", PASSWORD),
        ("a\0", PASSWORD),
        ("' OR 1=1 --", PASSWORD),
    ]:
        assert users.check_password(name, password) is None


def test_a_password_is_kept_as_an_argon2_hash_and_nowhere_else(record: Store, tmp_path: Path) -> None:
    made = Users(record).create_user("root", PASSWORD, "viewer", ACTOR)
    with record.session() as session:
        assert session.scalars(select(UserRow.password_hash)).one().startswith("$argon2id$")
    entry = Audit(record).list()[0]
    assert (entry.action, entry.subject, entry.after) == ("user.create", made.id, {"name": "root", "role": "viewer"})
    for file in tmp_path.iterdir():
        assert PASSWORD.encode() not in file.read_bytes()


@pytest.mark.alone
def test_an_unknown_name_takes_as_long_as_a_wrong_password(record: Store) -> None:
    users = Users(record)
    users.create_user("root", PASSWORD, "admin", ACTOR)

    def work_s(name: str) -> float:
        # Work of the processor, not time on the wall: the machine may be busy.
        began = time.process_time()
        assert users.check_password(name, "a wrong guess") is None
        return time.process_time() - began

    wrong = min(work_s("root") for _ in range(3))
    unknown = min(work_s("nobody") for _ in range(3))
    assert wrong / 2 < unknown < wrong * 2


def test_users_that_are_refused(record: Store) -> None:
    users = Users(record)
    users.create_user("root", PASSWORD, "admin", ACTOR)
    with pytest.raises(Conflict, match="name: a user named 'root' exists already"):
        users.create_user("root", PASSWORD, "viewer", ACTOR)
    with pytest.raises(InvalidField, match="role: expected one of admin, operator, viewer, got 'king'"):
        users.create_user("b", PASSWORD, "king", ACTOR)
    with pytest.raises(InvalidField, match="name: expected"):
        users.create_user("a b", PASSWORD, "viewer", ACTOR)
    for password in ("shortpass", "x" * 257):
        with pytest.raises(InvalidField, match="password: expected 10 to 256 characters") as refused:
            users.create_user("b", password, "viewer", ACTOR)
        assert password not in str(refused.value)
    assert users.count() == 1


def test_a_model_is_kept_with_all_that_was_given(record: Store) -> None:
    catalog = Catalog(record)
    made = catalog.add_model(
        "org/model:7b",
        "llama.cpp",
        actor=ACTOR,
        memory_bytes=14 * GB,
        context_tokens=8192,
        slots=4,
        options={"path": "/é", "threads": 2},
        enabled=False,
    )
    assert made.weight_class is WeightClass.HEAVY
    assert made.options == {"path": "/é", "threads": 2}
    assert not made.enabled
    assert catalog.get_model("org/model:7b") == made
    assert catalog.list_models() == [made]
    entry = Audit(record).list()[0]
    assert (entry.actor, entry.action, entry.subject) == (ACTOR, "model.add", "org/model:7b")
    assert entry.after is not None
    assert entry.after["slots"] == 4


def test_a_weight_class_that_was_given_wins(record: Store) -> None:
    made = Catalog(record).add_model(
        "m", "simulated", actor=ACTOR, memory_bytes=0, context_tokens=1, slots=1, weight_class="medium"
    )
    assert made.weight_class is WeightClass.MEDIUM
    assert made.options == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a b"),
        ("name", "a\n"),
        ("engine", "Llama CPP"),
        ("weight_class", "huge"),
        ("memory_bytes", -1),
        ("context_tokens", 0),
        ("slots", 0),
        ("slots", True),
        ("options", [1]),
        ("options", {"a": float("nan")}),
        ("options", {"a": {1, 2}}),
        ("enabled", 1),
        ("parameters", 0),
        ("measured_ms", -1),
        ("prewarm", "daily:24:00-25:00"),
        ("prewarm", "queued:0"),
        ("fallback_model", "nobody"),
    ],
)
def test_a_model_out_of_range_is_refused(record: Store, field: str, value: object) -> None:
    catalog = Catalog(record)
    given: dict[str, object] = {
        "name": "m",
        "engine": "simulated",
        "memory_bytes": 1,
        "context_tokens": 1,
        "slots": 1,
        field: value,
    }
    with pytest.raises(InvalidField, match=f"^{field}: expected"):
        catalog.add_model(actor=ACTOR, **given)  # type: ignore[arg-type]
    assert catalog.list_models() == []
    assert list(Audit(record).list()) == []


def add(catalog: Catalog, name: str = "m", **given: Any) -> Model:
    return catalog.add_model(
        name, "simulated", actor=ACTOR, **({"memory_bytes": GB // 2, "context_tokens": 10, "slots": 1} | given)
    )


def test_a_model_is_changed_at_once_and_the_change_is_audited(record: Store) -> None:
    catalog = Catalog(record)
    made = add(catalog, options={"step_ms": 1})
    assert catalog.get_model("m") == made
    changed = catalog.update_model("m", actor=ACTOR, slots=2, context_tokens=10, options={"step_ms": 3}, enabled=False)
    assert changed == replace(made, slots=2, options={"step_ms": 3}, enabled=False)
    assert catalog.get_model("m") == changed
    entry = Audit(record).list()[0]
    assert (entry.actor, entry.action, entry.subject) == (ACTOR, "model.update", "m")
    assert entry.before == {"slots": 1, "options": {"step_ms": 1}, "enabled": True}
    assert entry.after == {"slots": 2, "options": {"step_ms": 3}, "enabled": False}
    catalog.update_model("m", actor=ACTOR, slots=2)
    assert len(Audit(record).list()) == 2


def test_a_computed_weight_class_follows_the_memory_and_a_given_one_stays(record: Store) -> None:
    catalog = Catalog(record)
    add(catalog)
    add(catalog, "given", weight_class="heavy")
    assert catalog.update_model("m", actor=ACTOR, memory_bytes=3 * GB).weight_class is WeightClass.MEDIUM
    assert catalog.update_model("given", actor=ACTOR, memory_bytes=3 * GB).weight_class is WeightClass.HEAVY
    measured = catalog.update_model("m", actor=ACTOR, measured_ms=101)
    assert (measured.weight_class, measured.weight_basis) == (WeightClass.HEAVY, WeightBasis.MEASURED)
    back = catalog.update_model("given", actor=ACTOR, weight_class=None)
    assert (back.weight_class, back.weight_basis) == (WeightClass.MEDIUM, WeightBasis.MEMORY)
    guessed = add(catalog, "guessed", memory_bytes=0, parameters=7 * 10**9)
    assert (guessed.weight_class, guessed.weight_basis) == (WeightClass.HEAVY, WeightBasis.PARAMETERS)


def test_a_fallback_is_another_model_of_the_catalog_and_stays_there(record: Store) -> None:
    catalog = Catalog(record)
    add(catalog)
    for wrong in ("m", "nobody", "a b", 1):
        with pytest.raises(InvalidField, match="fallback_model: expected"):
            catalog.update_model("m", actor=ACTOR, fallback_model=wrong)
    add(catalog, "other", fallback_model="m", prewarm="daily:08:00-18:30")
    with pytest.raises(Conflict, match="model m is the fallback of other"):
        catalog.remove_model("m", actor=ACTOR)
    assert catalog.update_model("other", actor=ACTOR, fallback_model=None).fallback_model is None
    assert catalog.remove_model("m", actor=ACTOR).name == "m"


def test_a_removed_model_is_gone_at_once_and_on_the_trail(record: Store) -> None:
    catalog = Catalog(record)
    made = add(catalog)
    assert catalog.get_model("m") == catalog.remove_model("m", actor=ACTOR) == made
    assert catalog.list_models() == []
    for again in (
        catalog.get_model,
        partial(catalog.remove_model, actor=ACTOR),
        partial(catalog.update_model, actor=ACTOR),
    ):
        with pytest.raises(NotFound, match="no model 'm'"):
            again("m")
    entry = Audit(record).list()[0]
    assert (entry.action, entry.subject, entry.after) == ("model.remove", "m", None)
    assert entry.before is not None
    assert entry.before["slots"] == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slots", 0),
        ("options", [1]),
        ("enabled", None),
        ("memory_bytes", "1"),
        ("engine", "llama.cpp"),
        ("weight_class", "huge"),
        ("measured_ms", 1.5),
    ],
)
def test_a_change_out_of_range_changes_nothing(record: Store, field: str, value: Any) -> None:
    catalog = Catalog(record)
    made = add(catalog)
    with pytest.raises(InvalidField, match=f"^{field}: expected"):
        catalog.update_model("m", actor=ACTOR, **{field: value})
    assert catalog.list_models() == [made]


def test_what_is_not_approved_is_not_kept_but_may_be_taken_out_of_use(record: Store) -> None:
    asked: list[Model] = []

    def refuse(model: Model) -> None:
        asked.append(model)
        raise Conflict("no engine takes it")

    catalog = Catalog(record)
    with pytest.raises(Conflict, match="no engine"):
        add(catalog, approve=refuse)
    assert catalog.list_models() == []
    made = add(catalog)
    with pytest.raises(Conflict, match="no engine"):
        catalog.update_model("m", actor=ACTOR, approve=refuse, slots=7)
    assert catalog.list_models() == [made]
    assert [model.slots for model in asked] == [1, 7]
    assert not catalog.update_model("m", actor=ACTOR, approve=refuse, enabled=False).enabled


def test_a_model_is_known_once_and_found_within_two_seconds(record: Store) -> None:
    clock = ManualClock()
    catalog = Catalog(record, monotonic_clock_ms=clock)
    for unknown in ("m", "a\0", "x" * 1_000, "\ud800"):
        with pytest.raises(NotFound, match="no model"):
            catalog.get_model(unknown)
    elsewhere = Catalog(record)
    made = elsewhere.add_model("m", "simulated", actor=ACTOR, memory_bytes=1, context_tokens=1, slots=1)
    assert catalog.get_model("m") == made
    with pytest.raises(Conflict, match="name: a model named 'm' exists already"):
        catalog.add_model("m", "simulated", actor=ACTOR, memory_bytes=1, context_tokens=1, slots=1)
    assert len(Audit(record).list()) == 1
