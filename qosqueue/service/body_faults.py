"""How is a body refused that its schema does not take? With the first field at fault, and never with its value."""

from __future__ import annotations

from pydantic import ValidationError

from qosqueue.policy.refusal import Refusal

SHOWN_PARAM_CHARS = 128


def invalid_value(param: str, message: str) -> Refusal:
    """400 for one field."""
    return Refusal(400, "invalid_value", f"{param}: {message}"[:1024], param[:SHOWN_PARAM_CHARS])


def refusal_of_validation(error: ValidationError) -> Refusal:
    """400 that names the first field at fault, as `messages[0].content`. The value itself is never repeated."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = _path(fault["loc"])
    if fault["type"] == "extra_forbidden":
        shown = param[:SHOWN_PARAM_CHARS]
        return Refusal(400, "unknown_field", f"unknown field: {shown}", shown)
    return invalid_value(param, fault["msg"])


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for step in loc:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith("as "):  # the label of a union's branch (bodies.py), which no client sent
            path += f".{step}" if path else step
    return path or "body"
