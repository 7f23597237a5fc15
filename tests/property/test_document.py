"""Does a file change what it names and what came from files alone, and does an old version come back whole?"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qosqueue.policy.document import Document, difference, entries, entry_key, faults, rolled_back, with_file

NAMES = st.sampled_from(["a", "b", "c"])
SOURCES = st.sampled_from(["page", "command", "file", None])
PERCENT = st.none() | st.integers(0, 60)


def without_none(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if value is not None or name == "source"}


TENANT = st.fixed_dictionaries(
    {"tier": st.sampled_from(["vip", "basic"]), "enabled": st.booleans(), "contracted_percent": PERCENT}
).map(without_none)
MODEL = st.fixed_dictionaries(
    {"engine": st.just("e"), "enabled": st.booleans(), "fallback_model": st.none() | NAMES}
).map(without_none)
ABOUT = st.tuples(st.none() | NAMES, st.none() | NAMES, st.sampled_from(["batch", "online"]))


def listed(field: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    entry = st.tuples(ABOUT, st.integers(1, 9)).map(
        lambda made: without_none(dict(zip(("tenant", "model", "task_type"), made[0], strict=True)) | {field: made[1]})
    )
    return st.lists(entry, unique_by=lambda each: entry_key("x", each), max_size=4)


FILES: st.SearchStrategy[Document] = st.fixed_dictionaries(
    {
        "tenants": st.dictionaries(NAMES, TENANT),
        "models": st.dictionaries(NAMES, MODEL),
        "overrides": listed("max_queued"),
        "scenarios": listed("lower_ms"),
    }
)


@st.composite
def records(draw: st.DrawFn) -> Document:
    document = draw(FILES)
    for kind in ("tenants", "models"):
        for name, entry in document[kind].items():
            entry["source"] = draw(SOURCES)
            if kind == "tenants":
                entry["id"] = f"id of {name}"
    for kind in ("overrides", "scenarios"):
        for entry in document[kind]:
            entry["source"] = draw(SOURCES.filter(bool))
    return document


@given(records(), FILES)
def test_what_a_file_names_is_as_it_says_and_comes_from_it(record: Document, file: Document) -> None:
    before = deepcopy(record)
    after = entries(with_file(record, file))
    for key, entry in entries(file).items():
        assert {name: after[key].get(name) for name in (*entry, "source")} == entry | {"source": "file"}
        known = {"id", "source", *entry}
        assert set(after[key]) <= known, "what a file leaves out is not set"
    assert record == before, "a rule changes nothing that it was given"


@given(records(), FILES)
def test_what_a_file_does_not_name_stays_unless_it_came_from_one(record: Document, file: Document) -> None:
    after, told = entries(with_file(record, file)), entries(file)
    for key, entry in entries(record).items():
        if key in told:
            continue
        if entry["source"] != "file":
            assert after[key] == entry
        elif key.startswith(("tenants.", "models.")):
            assert after[key] == entry | {"enabled": False}
        else:
            assert key not in after


@given(records(), FILES)
def test_a_file_that_was_applied_differs_in_nothing(record: Document, file: Document) -> None:
    once = with_file(record, file)
    assert difference(once, with_file(once, file)) == []
    assert {name: entry["id"] for name, entry in once["tenants"].items() if "id" in entry} == {
        name: entry["id"] for name, entry in record["tenants"].items()
    }


@given(records(), records())
def test_a_difference_names_every_value_that_differs_and_no_other(one: Document, other: Document) -> None:
    told = {each.key: (each.before, each.after) for each in difference(one, other)}
    both = entries(one), entries(other)
    for key in both[0].keys() | both[1].keys():
        before, after = (side.get(key, {}) for side in both)
        for field in before.keys() | after.keys():
            if field in ("id", "source", "tenant", "model", "task_type"):
                continue
            values = (before.get(field), after.get(field))
            assert told.pop(f"{key}.{field}", (values[0], values[0])) == values
    assert told == {}


@given(records(), records())
def test_an_old_version_is_whole_again_and_what_came_later_is_out_of_use(record: Document, version: Document) -> None:
    back = rolled_back(record, version)
    assert {kind: back[kind] for kind in ("overrides", "scenarios")} == {
        kind: version[kind] for kind in ("overrides", "scenarios")
    }
    for kind in ("tenants", "models"):
        assert back[kind].keys() == record[kind].keys() | version[kind].keys()
        for name, entry in back[kind].items():
            assert entry == version[kind].get(name, record[kind].get(name, {}) | {"enabled": False})


def test_a_tenant_that_was_renamed_since_comes_back_under_its_old_name_once() -> None:
    old = {"tenants": {"a": {"id": "1", "enabled": True}}, "models": {}, "overrides": [], "scenarios": []}
    now = {**old, "tenants": {"b": {"id": "1", "enabled": True}}}
    assert rolled_back(now, old)["tenants"] == old["tenants"]


@given(records())
def test_faults_are_dangling_names_and_contracts_beyond_the_pool(document: Document) -> None:
    keys = {fault.key for fault in faults(document)}
    for kind in ("overrides", "scenarios"):
        for entry in document[kind]:
            for what, known in (("tenant", "tenants"), ("model", "models")):
                dangles = entry.get(what) is not None and entry[what] not in document[known]
                assert dangles == (f"{entry_key(kind, entry)}.{what}" in keys)
    for name, model in document["models"].items():
        fallback = model.get("fallback_model")
        dangles = fallback is not None and (fallback == name or fallback not in document["models"])
        assert dangles == (f"models.{name}.fallback_model" in keys)
    total = sum(tenant.get("contracted_percent", 0) for tenant in document["tenants"].values())
    assert (total > 100) == any(key.endswith(".contracted_percent") for key in keys)


def test_too_large_a_sum_is_told_at_what_was_changed() -> None:
    tenants = {name: {"contracted_percent": 60} for name in ("new", "there")}
    document = {"tenants": tenants, "models": {}, "overrides": [], "scenarios": []}
    (fault,) = faults(document, ["new"])
    assert (fault.key, fault.got) == ("tenants.new.contracted_percent", 60)
    assert fault.expected.startswith("at most 40 ")
