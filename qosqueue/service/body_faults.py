"""How is a body refused that its schema does not take? With the first field at fault, and never with its value."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Any

from pydantic import ValidationError

from qosqueue.policy.refusal import Refusal

SHOWN_PARAM_CHARS = 128

# What was expected, by the validator's name of the fault; the figures are its own.
_EXPECTED = {
    "missing": "a value",
    "none_required": "null",
    "string_type": "a text",
    "string_unicode": "a text",
    "string_too_short": "a length of at least {min_length}",
    "string_too_long": "a length of at most {max_length}",
    "string_pattern_mismatch": "a text that matches {pattern}",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "literal_error": "{expected}",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "too_short": "a length of at least {min_length}",
    "too_long": "a length of at most {max_length}",
}
# What a value is in JSON. A bool is an int in Python, so it stands first.
_KINDS = (
    (bool, "a boolean"),
    (int | float, "a number"),
    (str, "a text"),
    (list, "a list"),
    (dict, "an object"),
)


def invalid_value(param: str, message: str) -> Refusal:
    """400 for one field."""
    return Refusal(400, "invalid_value", f"{param}: {message}"[:1024], param[:SHOWN_PARAM_CHARS])


def refusal_of_validation(error: ValidationError) -> Refusal:
    """400 that names the first field at fault, as `messages[0].content`, and what was expected of it.

    The value itself is never repeated: what was got is told by its kind or size.
    """
    fault = error.errors(include_url=False)[0]
    param = _path(fault["loc"])
    if fault["type"] == "extra_forbidden":
        shown = param[:SHOWN_PARAM_CHARS]
        return Refusal(400, "unknown_field", f"unknown field: {shown}", shown)
    return invalid_value(param, _told(fault["type"], fault.get("ctx", {}), fault["input"], fault["msg"]))


def _told(kind: str, figures: Mapping[str, Any], value: object, message: str) -> str:
    if kind not in _EXPECTED:
        return message  # a fault of this project's own, which is in these words already
    expected = _EXPECTED[kind].format_map(figures)
    if kind == "literal_error":
        # Python's words for JSON's.
        expected = expected.replace("True", "true").replace("False", "false").replace("None", "null")
    got = _got(kind, value)
    return f"expected {expected}, got {got}" if got else f"expected {expected}"


def _got(kind: str, value: object) -> str | None:
    """What may be told of a value: how long it is where that is wrong, else its kind where that is."""
    if kind == "missing":
        return "nothing"
    if kind.endswith(("too_short", "too_long")) and isinstance(value, Sized):
        return str(len(value))
    if kind.endswith(("_type", "_parsing")):
        return next((name for types, name in _KINDS if isinstance(value, types)), "null")
    return None


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for step in loc:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith("as "):  # the label of a union's branch (bodies.py), which no client sent
            path += f".{step}" if path else step
    return path or "body"
