"""How does a file come in? Its bytes go from the socket to disk, a piece at a time; nothing holds the whole of it.

What was sent is known by its digest then, so that the same upload under the same Idempotency-Key can be told from
another: it is read again, but nothing of it is written.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import MultiPartParser
from werkzeug.http import parse_options_header

from qosqueue.policy.refusal import Refusal
from qosqueue.service.body_faults import invalid_value

# What a form may say besides the file.
MOST_FIELDS = 16
# Werkzeug counts its own buffer of 64 KiB here, too.
FIELD_BYTES = 262_144
# Boundaries and headers of a form's parts.
FORM_BYTES = 65_536
MULTIPART = "multipart/form-data"


@dataclass(frozen=True)
class Form:
    """What a form said: the file's own name, its other fields, and a digest of all that it holds."""

    filename: str
    fields: dict[str, str]
    digest: str


class Taker(Protocol):
    """Takes the bytes of a file."""

    size: int

    def write(self, data: bytes) -> int: ...


class Nowhere:
    """Takes the bytes of a file that is here already."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        return len(data)


class _Sink:
    """Stands for the form's file: werkzeug writes the bytes to it, and rewinds it when they have all come."""

    def __init__(self, file: Taker, most_bytes: int) -> None:
        self._file = file
        self._most_bytes = most_bytes
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        if self._file.size + len(data) > self._most_bytes:
            raise RequestEntityTooLarge
        self.digest.update(data)
        return self._file.write(data)

    def seek(self, _offset: int, _whence: int = 0) -> int:
        return 0


def receive(request: Request, file: Taker, most_bytes: int) -> Form | Refusal:
    """Write the field `file` of a form to `file`. Raises RequestEntityTooLarge as soon as it is known to be too big."""
    kind, options = parse_options_header(request.content_type)
    boundary = options.get("boundary", "")
    if kind != MULTIPART or not boundary or not boundary.isascii():
        return Refusal(415, "unsupported_media_type", f"the file must be sent as Content-Type: {MULTIPART}")
    request.max_content_length = most_bytes + FORM_BYTES
    sinks: list[_Sink] = []

    def one_sink(*_: Any, **__: Any) -> IO[bytes]:
        if sinks:
            raise ValueError("more than one file")
        sinks.append(_Sink(file, most_bytes))
        return cast(IO[bytes], sinks[0])

    parser = MultiPartParser(stream_factory=one_sink, max_form_memory_size=FIELD_BYTES, max_form_parts=MOST_FIELDS)
    try:
        form, files = parser.parse(request.stream, boundary.encode(), request.content_length)
    except ValueError as fault:
        return invalid_value("file", f"the form cannot be read: {fault}")
    if "file" not in files:
        return invalid_value("file", "expected a file")
    if None in form:
        return invalid_value("file", "the form cannot be read: a part of it has no name")
    filename = files["file"].filename or "file"
    told = json.dumps([filename, sorted(form.items(multi=True)), sinks[0].digest.hexdigest()])
    return Form(filename, form.to_dict(), hashlib.sha256(told.encode()).hexdigest())
