"""What is in the whole policy, what differs between two, and what does a file or an old version make of one?

A document is plain JSON: `tenants` and `models` by name, and the lists `overrides` and `scenarios`, whose entries name
a tenant, a model and a task type where they are about one. What an entry leaves out is not set. Each has a `source`:
page, command or file, wherever its last change came from.

What a file does not name stays as it is, unless it came from a file: then the file has let it go. Nothing is deleted
that keys, jobs or results may belong to: such tenants and models are disabled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
Entry = Mapping[str, Any]

NAMED = ("tenants", "models")
LISTED = ("overrides", "scenarios")
ABOUT = ("tenant", "model", "task_type")
FROM_FILE = "file"
# Known by what it is, not by what it was called when a version was made.
IDENTITY = ("id", "source")
ALL_PERCENT = 100


@dataclass(frozen=True)
class Fault:
    """What is wrong with a policy: at which key, what was expected there, and what came."""

    key: str
    expected: str
    got: object


@dataclass(frozen=True)
class Difference:
    """One value that differs; None: it is not set."""

    key: str
    before: Any
    after: Any


def entry_key(kind: str, entry: Entry) -> str:
    """How an entry of a list is called: `overrides[tenant=acme model=m]`."""
    return f"{kind}[{' '.join(f'{name}={entry[name]}' for name in ABOUT if entry.get(name) is not None)}]"


def entries(document: Entry) -> dict[str, Entry]:
    """Every entry by its key."""
    found = {f"{kind}.{name}": entry for kind in NAMED for name, entry in document.get(kind, {}).items()}
    return found | {entry_key(kind, entry): entry for kind in LISTED for entry in document.get(kind, [])}


def difference(before: Entry, after: Entry) -> list[Difference]:
    """What differs between two documents, by key; where an entry came from is no difference."""
    flat_before, flat_after = _flat(before), _flat(after)
    return [
        Difference(key, flat_before.get(key), flat_after.get(key))
        for key in sorted(flat_before.keys() | flat_after.keys())
        if flat_before.get(key) != flat_after.get(key)
    ]


def with_file(record: Document, file: Document) -> Document:
    """The policy of the record after a file was applied to it."""
    after: Document = {}
    for kind in NAMED:
        kept = {name: _let_go(entry) for name, entry in record[kind].items() if name not in file[kind]}
        told = {
            name: _known(record[kind].get(name)) | dict(entry) | {"source": FROM_FILE}
            for name, entry in file[kind].items()
        }
        after[kind] = kept | told
    for kind in LISTED:
        told_keys = {entry_key(kind, entry) for entry in file[kind]}
        left = [
            entry for entry in record[kind] if entry["source"] != FROM_FILE and entry_key(kind, entry) not in told_keys
        ]
        after[kind] = [*left, *({**entry, "source": FROM_FILE} for entry in file[kind])]
    return after


def rolled_back(record: Document, version: Document) -> Document:
    """The policy of an old version again; what was made since is disabled or taken away."""
    back: Document = {kind: list(version[kind]) for kind in LISTED}
    ids = {entry["id"] for entry in version["tenants"].values()}
    made_since = {name: entry for name, entry in record["tenants"].items() if entry["id"] not in ids}
    back["tenants"] = _disabled(made_since) | version["tenants"]
    back["models"] = _disabled(record["models"]) | version["models"]
    return back


def faults(document: Document, checked_last: Iterable[str] = ()) -> list[Fault]:
    """Why a policy cannot hold: names that are not there, and contracts beyond a whole pool.

    The tenants of `checked_last` are those at which too large a sum is told: the others were there before.
    """
    names = {"tenant": document["tenants"], "model": document["models"]}
    found = [
        Fault(f"{entry_key(kind, entry)}.{what}", f"a {what} of the policy", entry[what])
        for kind in LISTED
        for entry in document[kind]
        for what, known in names.items()
        if entry.get(what) is not None and entry[what] not in known
    ]
    for name, model in document["models"].items():
        fallback = model.get("fallback_model")
        if fallback is not None and (fallback == name or fallback not in document["models"]):
            found.append(Fault(f"models.{name}.fallback_model", "another model of the policy", fallback))
    return found + _beyond_the_pool(document["tenants"], set(checked_last))


def _beyond_the_pool(tenants: Mapping[str, Entry], checked_last: set[str]) -> list[Fault]:
    taken = 0
    for name in sorted(tenants, key=lambda name: name in checked_last):
        percent = tenants[name].get("contracted_percent") or 0
        if taken + percent > ALL_PERCENT:
            expected = f"at most {ALL_PERCENT - taken} (the contracts before it come to {taken} % of a pool)"
            return [Fault(f"tenants.{name}.contracted_percent", expected, percent)]
        taken += percent
    return []


def _flat(document: Entry) -> dict[str, Any]:
    return {
        f"{key}.{field}": value
        for key, entry in entries(document).items()
        for field, value in entry.items()
        if field not in IDENTITY and field not in ABOUT
    }


def _let_go(entry: Entry) -> dict[str, Any]:
    return dict(entry) | ({"enabled": False} if entry["source"] == FROM_FILE else {})


def _disabled(named: Mapping[str, Entry]) -> dict[str, Any]:
    return {name: dict(entry) | {"enabled": False} for name, entry in named.items()}


def _known(entry: Entry | None) -> dict[str, Any]:
    return {} if entry is None or "id" not in entry else {"id": entry["id"]}
