"""How does a file come in? Its bytes go from the socket to disk, a piece at a time; nothing holds the whole of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import MultiPartParser
from werkzeug.http import parse_options_header

from qosqueue.policy.refusal import Refusal
from qosqueue.service.body_faults import invalid_value

if TYPE_CHECKING:
    from qosqueue.service.files import NewFile

# What a form may say besides the file.
MOST_FIELDS = 16
# Werkzeug counts its own buffer of 64 KiB here, too.
FIELD_BYTES = 262_144
# Boundaries and headers of a form's parts.
FORM_BYTES = 65_536
MULTIPART = "multipart/form-data"


@dataclass(frozen=True)
class Form:
    """What a form said: the file's own name, and its other fields."""

    filename: str
    fields: dict[str, str]


class _Sink:
    """Stands for the form's file: werkzeug writes the bytes to it, and rewinds it when they have all come."""

    def __init__(self, file: NewFile, most_bytes: int) -> None:
        self._file = file
        self._most_bytes = most_bytes

    def write(self, data: bytes) -> int:
        if self._file.size + len(data) > self._most_bytes:
            raise RequestEntityTooLarge
        return self._file.write(data)

    def seek(self, _offset: int, _whence: int = 0) -> int:
        return 0


def receive(request: Request, file: NewFile, most_bytes: int) -> Form | Refusal:
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
    return Form(files["file"].filename or "file", form.to_dict())
