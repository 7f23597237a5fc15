"""Is a value that a person gave one that the record may hold? Else InvalidField, with field, expected and got."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from qosqueue.errors import InvalidField

E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True)
class Naming:
    """Which names are allowed: what a whole name must match, and the same in words."""

    pattern: re.Pattern[str]
    expected: str


# A name never looks like an id, so that one argument can take either.
TENANT_NAME = Naming(
    re.compile(r"(?!ten_[0-9a-f]{24}$)[A-Za-z0-9._-]([A-Za-z0-9._ -]{0,62}[A-Za-z0-9._-])?"),
    "1 to 64 letters (a-z), digits, '.', '_', '-' or spaces inside",
)
# Nor does an organisation's: a tenant without one counts as its own id.
ORGANISATION_NAME = TENANT_NAME
USER_NAME = Naming(
    re.compile(r"(?!usr_[0-9a-f]{24}$)[A-Za-z0-9._@-]{1,64}"), "1 to 64 letters (a-z), digits, '.', '_', '-', '@'"
)
MODEL_NAME = Naming(re.compile(r"[A-Za-z0-9._:/-]{1,64}"), "1 to 64 letters (a-z), digits, '.', '_', '-', ':', '/'")
CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]"
PREWARM_RULE = Naming(
    re.compile(f"never|always|queued:[1-9][0-9]{{0,5}}|daily:{CLOCK}-{CLOCK}"),
    "never, always, queued:N (N requests wait) or daily:HH:MM-HH:MM (UTC)",
)
ENGINE_NAME = Naming(re.compile(r"[a-z0-9._-]{1,32}"), "1 to 32 small letters, digits, '.', '_', '-'")


def checked_name(field: str, value: object, naming: Naming) -> str:
    """The name itself if it is allowed."""
    if not isinstance(value, str) or naming.pattern.fullmatch(value) is None:
        raise InvalidField(field, naming.expected, value)
    return value


def checked_whole(field: str, value: object, first: int, last: int) -> int:
    """The value if it is a whole number from `first` to `last`, both included."""
    if isinstance(value, bool) or not isinstance(value, int) or not first <= value <= last:
        raise InvalidField(field, f"a whole number from {first} to {last}", value)
    return value


def checked_choice(field: str, value: object, choices: type[E]) -> E:
    """The member of an enumeration that a value names."""
    if not isinstance(value, str) or value not in set(choices):
        raise InvalidField(field, one_of(choices), value)
    return choices(value)


def checked_flag(field: str, value: object) -> bool:
    """The value if it is true or false."""
    if not isinstance(value, bool):
        raise InvalidField(field, "true or false", value)
    return value


def may_be_recorded(text: str) -> bool:
    """Whether the record can hold a name or id like this: databases refuse NUL and half characters."""
    return text.isprintable()


def one_of(names: Iterable[str]) -> str:
    """A list of names, in words."""
    return f"one of {', '.join(names)}"
