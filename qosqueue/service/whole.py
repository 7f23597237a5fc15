"""Which numbers are whole? 5 and 5.0 alike, as JSON Schema has it: some languages write every number with a point."""

from __future__ import annotations

from typing import Any

from pydantic import BeforeValidator


def as_whole(value: Any) -> Any:
    """A number without a fraction as an int; everything else as it is."""
    return int(value) if type(value) is float and value.is_integer() else value


def as_wholes(value: Any) -> Any:
    """A list of numbers, each read so."""
    if isinstance(value, list) and float in set(map(type, value)):
        return [as_whole(each) for each in value]
    return value


# Behind the bounds of a number's annotation, or the document does not tell them.
WHOLE = BeforeValidator(as_whole)
