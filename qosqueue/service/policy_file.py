"""What does a policy file say, and is every key and value in it one that the policy takes?

TOML with a schema version. The file becomes a document (policy/document.py) of what it names; unknown keys, wrong
values and double entries are all told, each by its key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import tomli_w

from qosqueue.errors import Conflict, InvalidField, InvalidPolicy
from qosqueue.policy.document import ABOUT, LISTED, Document, Entry, entry_key
from qosqueue.policy.terms import MAX_BUDGET_MS, TaskType
from qosqueue.policy.weight import WeightBasis
from qosqueue.service import catalog, tenant_fields
from qosqueue.service.fields import (
    ENGINE_NAME,
    MODEL_NAME,
    TENANT_NAME,
    checked_choice,
    checked_name,
    checked_whole,
    one_of,
)

SCHEMA = 1
SECTIONS = ("schema", "tenants", "models", "overrides", "scenarios")
TENANT_KEYS = tuple(name for name in tenant_fields.CHANGEABLE if name != "name")
MODEL_KEYS = ("engine", *catalog.CHANGEABLE)
OVERRIDE_KEYS = (*ABOUT, *tenant_fields.OVERRIDABLE)
BOUNDS = ("lower_ms", "upper_ms")
# Engine options may nest; what nests much deeper has no meaning here, and cannot be written down.
MOST_LEVELS = 32
SHALLOW = f"tables and lists in at most {MOST_LEVELS} levels"
# What only the record knows of an entry.
NOT_IN_FILES = ("id", "source", "weight_basis")


def parse(text: str) -> Document:
    """The document of a file; raises InvalidPolicy with everything that is wrong with it."""
    given = _loaded(text)
    reading = _Reading()
    for key in given.keys() - set(SECTIONS):
        reading.refuse(key, one_of(SECTIONS), key)
    if given.get("schema") != SCHEMA:
        reading.refuse("schema", f"{SCHEMA}, the version of this file's format", given.get("schema"))
    document = {
        "tenants": {name: reading.tenant(name, entry) for name, entry in reading.table(given, "tenants").items()},
        "models": {name: reading.model(name, entry) for name, entry in reading.table(given, "models").items()},
        "overrides": reading.entries(given, "overrides", reading.override),
        "scenarios": reading.entries(given, "scenarios", reading.scenario),
    }
    if reading.faults:
        raise InvalidPolicy(reading.faults)
    return document


def _loaded(text: str) -> dict[str, Any]:
    """What the text holds, before its keys are looked at; whatever it holds can be shown and written."""
    try:
        given = tomllib.loads(text)
    except RecursionError as error:
        raise _unreadable(SHALLOW) from error
    except ValueError as error:
        # Of TOML, or of Python: it reads no number of so many digits.
        raise _unreadable(f"TOML ({str(error).partition(';')[0]})") from error
    level: list[Any] = [given]
    for _ in range(MOST_LEVELS):
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        if any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in level):
            raise _unreadable("whole numbers of at most 64 bits")
        level = [value for value in level if isinstance(value, dict | list)]
    if level:
        raise _unreadable(SHALLOW)
    return given


def _unreadable(expected: str) -> InvalidPolicy:
    return InvalidPolicy([InvalidField("policy.toml", expected, None)])


def written(document: Document) -> str:
    """The file that says what a document holds. Raises Conflict for engine options that TOML cannot hold."""
    plain: dict[str, Any] = {"schema": SCHEMA}
    for kind in ("tenants", "models"):
        plain[kind] = {name: _for_file(entry) for name, entry in document[kind].items()}
    for kind in LISTED:
        plain[kind] = [_for_file(entry) for entry in document[kind]]
    try:
        return tomli_w.dumps({name: value for name, value in plain.items() if value})
    except TypeError as error:
        raise Conflict(f"models: the options of one hold what TOML cannot: {error}") from error


def read_override(key: str, entry: Mapping[str, Any]) -> Entry:
    """One override, checked as one of a file is; raises InvalidPolicy."""
    return _read_one(lambda reading: reading.override(key, entry))


def read_scenario(key: str, entry: Mapping[str, Any]) -> Entry:
    """The bounds of one scenario, checked as those of a file are; raises InvalidPolicy."""
    return _read_one(lambda reading: reading.scenario(key, entry))


def _read_one(read: Callable[[_Reading], Entry]) -> Entry:
    reading = _Reading()
    entry = read(reading)
    if reading.faults:
        raise InvalidPolicy(reading.faults)
    return entry


def _for_file(entry: Entry) -> dict[str, Any]:
    left_out = {*NOT_IN_FILES, *([] if entry.get("weight_basis", "given") == WeightBasis.GIVEN else ["weight_class"])}
    return {name: value for name, value in entry.items() if name not in left_out}


class _Reading:
    """Collects the faults while the entries are read."""

    def __init__(self) -> None:
        self.faults: list[InvalidField] = []

    def refuse(self, key: str, expected: str, got: object) -> None:
        self.faults.append(InvalidField(key, expected, got))

    def table(self, given: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
        found = given.get(kind, {})
        if not isinstance(found, dict):
            self.refuse(kind, f"tables [{kind}.NAME]", found)
            return {}
        return found

    def entries(
        self, given: Mapping[str, Any], kind: str, read: Callable[[str, Mapping[str, Any]], Entry]
    ) -> list[Entry]:
        found = given.get(kind, [])
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            self.refuse(kind, f"tables [[{kind}]]", found)
            return []
        made: dict[str, Entry] = {}
        for place, entry in enumerate(found):
            faulty, key = len(self.faults), f"{kind}[{place}]"
            read_entry = read(key, entry)
            if len(self.faults) == faulty and entry_key(kind, read_entry) in made:
                self.refuse(key, "a tenant, model and task type that no other entry names", _about(entry))
            made[entry_key(kind, read_entry)] = read_entry
        return list(made.values())

    def tenant(self, name: str, entry: object) -> Entry:
        key = f"tenants.{name}"
        self._check(key, lambda: checked_name("name", name, TENANT_NAME))
        read = self._fields(key, entry, TENANT_KEYS, lambda field, value: tenant_fields.checked({field: value})[field])
        self._need(key, read, "tier")
        return {"enabled": True} | read

    def model(self, name: str, entry: object) -> Entry:
        def check(field: str, value: object) -> Any:
            return checked_name(field, value, ENGINE_NAME) if field == "engine" else catalog.checked_field(field, value)

        key = f"models.{name}"
        self._check(key, lambda: checked_name("name", name, MODEL_NAME))
        read = self._fields(key, entry, MODEL_KEYS, check)
        for needed in ("engine", "context_tokens", *([] if "parameters" in read else ["memory_bytes"])):
            self._need(key, read, needed)
        blank = {"memory_bytes": 0, "slots": 1, "options": {}, "enabled": True}
        return blank | read | catalog.weighed(blank | read)

    def override(self, key: str, entry: Mapping[str, Any]) -> Entry:
        def check(field: str, value: object) -> Any:
            if field in ABOUT:
                return _checked_about(field, value)
            return tenant_fields.checked({field: value}, tenant_fields.OVERRIDABLE)[field]

        read = self._fields(key, entry, OVERRIDE_KEYS, check)
        if not {"model", "task_type"} & entry.keys():
            self.refuse(
                key, "a model, a task_type or both (what holds for a tenant as a whole stands at the tenant)", None
            )
        if not entry.keys() - set(ABOUT):
            self.refuse(key, f"at least {one_of(tenant_fields.OVERRIDABLE)}", None)
        return read

    def scenario(self, key: str, entry: Mapping[str, Any]) -> Entry:
        def check(field: str, value: object) -> Any:
            return _checked_about(field, value) if field in ABOUT else checked_whole(field, value, 1, MAX_BUDGET_MS)

        read = self._fields(key, entry, (*ABOUT, *BOUNDS), check)
        for needed in ABOUT:
            self._need(key, read, needed)
        if not entry.keys() & set(BOUNDS):
            self.refuse(key, f"at least {one_of(BOUNDS)}", None)
        lower, upper = (read.get(bound) for bound in BOUNDS)
        if lower is not None and upper is not None and lower > upper:
            self.refuse(f"{key}.lower_ms", f"at most the upper bound, {upper}", lower)
        return read

    def _fields(
        self, key: str, entry: object, allowed: tuple[str, ...], check: Callable[[str, object], Any]
    ) -> dict[str, Any]:
        if not isinstance(entry, dict):
            self.refuse(key, f"a table with {one_of(allowed)}", entry)
            return {}
        read = {}
        for field, value in entry.items():
            if field not in allowed:
                self.refuse(f"{key}.{field}", one_of(allowed), field)
            elif (found := self._check(key, partial(check, field, value))) is not None:
                read[field] = found
        return read

    def _check(self, key: str, check: Callable[[], Any]) -> Any:
        try:
            return check()
        except InvalidField as error:
            self.refuse(f"{key}.{error.field}", error.expected, error.got)
            return None

    def _need(self, key: str, read: Mapping[str, Any], field: str) -> None:
        told = any(fault.field in (key, f"{key}.{field}") for fault in self.faults)
        if field not in read and not told:
            self.refuse(f"{key}.{field}", "a value", None)


def _checked_about(field: str, value: object) -> str:
    if field == "task_type":
        return checked_choice(field, value, TaskType).value
    return checked_name(field, value, TENANT_NAME if field == "tenant" else MODEL_NAME)


def _about(entry: Entry) -> dict[str, Any]:
    return {name: entry[name] for name in ABOUT if name in entry}
