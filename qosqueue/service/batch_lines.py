"""What does each line of a batch's input ask for, and what is wrong with those that ask for nothing sound?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO, Literal

from pydantic import Field, ValidationError
from pydantic_core import from_json

from qosqueue.policy.refusal import Refusal
from qosqueue.service.bodies import Asked, Strict
from qosqueue.service.body_faults import refusal_of_validation
from qosqueue.service.catalog import Catalog
from qosqueue.service.endpoints import read_body, refused_to_wait

BOM = b"\xef\xbb\xbf"
PLACE_IN_TEXT = re.compile(r" at line \d+ column \d+$")
CustomId = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]


@dataclass(frozen=True)
class RawLine:
    """A line of a file: its number from 1, where it is (bytes), and its text; None: longer than a line may be."""

    number: int
    offset: int
    length: int
    text: bytes | None


@dataclass(frozen=True)
class CheckedLine:
    """A line that may become a job, or the refusal of one that may not."""

    custom_id: str | None
    body: Asked | Refusal


class BatchLine(Strict):
    """A line of a batch's input."""

    custom_id: CustomId
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


class _Named(Strict):
    custom_id: CustomId


def read_lines(source: BinaryIO, offset: int, number: int, most_bytes: int) -> Iterator[RawLine]:
    """The lines of a file from `offset` on, the first with this number; lines without anything are passed over.

    Never holds more than `most_bytes` of a line.
    """
    source.seek(offset)
    while head := source.readline(most_bytes + 1):
        length, whole = len(head), head.endswith(b"\n")
        fits = whole or length <= most_bytes
        while not whole and (more := source.readline(most_bytes)):
            length, whole, fits = length + len(more), more.endswith(b"\n"), False
        if head.strip() or not fits:
            yield RawLine(number, offset, length, head if fits else None)
        offset, number = offset + length, number + 1


def check_line(line: RawLine, endpoint: str, catalog: Catalog, most_bytes: int) -> CheckedLine:
    """What a line asks for. Raises StoreUnavailable."""
    if line.text is None:
        return _refused("line_too_long", f"the line is longer than {most_bytes} bytes")
    if line.text.startswith(BOM):
        return _refused("invalid_json", "the line begins with a byte-order mark: write the file without one")
    try:
        value = from_json(line.text, allow_inf_nan=False)
    except ValueError as fault:
        # Where in the text would be told as "line 1" or even "line 2", and this is another line of the file.
        why = PLACE_IN_TEXT.sub("", str(fault))
        return _refused("invalid_json", f"the line is not valid JSON: {why}")
    if not isinstance(value, dict):
        return _refused("invalid_json", "the line must be a JSON object")
    try:
        asked = BatchLine.model_validate(value)
    except ValidationError as fault:
        return CheckedLine(_custom_id(value), refusal_of_validation(fault))
    if asked.url != endpoint:
        refusal = Refusal(400, "invalid_value", f"url: expected {endpoint}, the endpoint of the batch", "url")
        return CheckedLine(asked.custom_id, refusal)
    body = read_body(endpoint, asked.body)
    if isinstance(body, Refusal):
        return CheckedLine(asked.custom_id, body)
    return CheckedLine(asked.custom_id, refused_to_wait(catalog, body) or body)


def line_error(refusal: Refusal, number: int) -> dict[str, Any]:
    """A refusal as the error file tells it."""
    return {"code": refusal.code, "message": refusal.message, "param": refusal.param, "line": number}


def _refused(code: str, message: str) -> CheckedLine:
    return CheckedLine(None, Refusal(400, code, message))


def _custom_id(value: dict[str, Any]) -> str | None:
    """The name of a line that is wrong otherwise."""
    try:
        return _Named.model_validate({"custom_id": value.get("custom_id")}).custom_id
    except ValidationError:
        return None
