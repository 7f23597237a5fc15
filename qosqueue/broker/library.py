"""What must Redis know before it can run the queue's commands? One library of functions, put together from lua/.

A library is compiled once and shared by all its functions, is replicated, and survives a restart of a server that keeps
its data (docs/adr/0010). Its name holds a hash of its text: two versions of qosqueue can use one server at once.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources
from typing import Any, Final

import redis

from qosqueue.broker.wire import Command
from qosqueue.policy import breaker, order, quota
from qosqueue.policy.terms import PRIORITY_RANGES, TIERS

NAMES: Final = (
    *("submit", "dispatch", "renew", "settle", "withdraw", "rerank"),
    *("replay", "discard", "reap", "age", "purge", "limit", "reply"),
    *("admit", "release", "lapse", "observe", "probe", "trip", "offer"),
)
PARTS: Final = ("_keys", "_holds", "_rows", "_claims", "_held", "_standing", "_passage", "_breakers")
NOT_AT_MAXMEMORY: Final = frozenset({"submit", "replay", "admit", "offer"})
"""The others free memory, or end what runs: Redis carries them out at `maxmemory` too."""


@cache
def library() -> str:
    """The library's text as FUNCTION LOAD takes it."""
    return f"#!lua name={_name()}\n{_body()}\n{''.join(map(_registered, NAMES))}"


@cache
def function(name: str) -> str:
    """What FCALL calls a script by."""
    return f"{_name()}_{name}"


def load() -> Command:
    """The command that loads the library. Its answer is an error if it is there already."""
    return ("FUNCTION", "LOAD", library())


def is_missing(answer: object) -> bool:
    """Whether Redis answered that it does not know a function: nothing was done."""
    return isinstance(answer, redis.ResponseError) and str(answer).startswith("Function not found")


def is_there(answer: object) -> bool:
    """Whether an answer to `load` means that the library can be called."""
    return not isinstance(answer, redis.ResponseError) or str(answer).endswith("already exists")


@cache
def _name() -> str:
    return f"qosqueue_{hashlib.sha256(_body().encode()).hexdigest()[:12]}"


@cache
def _body() -> str:
    """The shared parts, then each script as a function, with the constants of the policy put in."""
    scripts = (f"local function {name}()\n{_file(name)}end\n" for name in NAMES)
    return re.sub(r"\bC\.([A-Z][A-Z0-9_]*)", _constant, "\n".join([*map(_file, PARTS), *scripts]))


def _file(name: str) -> str:
    return resources.files("qosqueue.broker").joinpath("lua", f"{name}.lua").read_text("utf-8")


def _registered(name: str) -> str:
    flags = "" if name in NOT_AT_MAXMEMORY else "flags = {'allow-oom'}, "
    call = f"function(keys, arguments) begin(keys, arguments) return {name}() end"
    return f"redis.register_function{{function_name = '{function(name)}', {flags}callback = {call}}}\n"


def _constant(found: re.Match[str]) -> str:
    """The policy's constant of that name, as Lua writes it: they stand in Python alone."""
    match found[1]:
        case "ALLOWANCE_Q10":
            value: Any = [order.ALLOWANCE_Q10[tier] for tier in TIERS]
        case "TIER_LAST":
            value = [PRIORITY_RANGES[tier].last for tier in TIERS]
        case name:
            (value,) = {getattr(module, name) for module in (order, quota, breaker) if hasattr(module, name)}
    return str(value) if isinstance(value, int) else f"({{{', '.join(map(str, value))}}})"
