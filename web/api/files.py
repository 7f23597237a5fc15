"""How are files uploaded, listed, read and deleted?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flask import Response, abort, jsonify, request
from flask_openapi.blueprint import APIBlueprint

from qosqueue.errors import Conflict, NotFound
from qosqueue.policy.refusal import Refusal
from qosqueue.service.body_faults import invalid_value
from qosqueue.service.files import pieces
from qosqueue.store.file_record import StoredFile
from qosqueue_web.api.auth import current_tenant
from qosqueue_web.api.bulk_answers import DeletedFile, FileAnswer, FileList, file_answer
from qosqueue_web.api.errors import error_response
from qosqueue_web.api.idempotent import keep_content
from qosqueue_web.api.queries import FilePath, FilesQuery
from qosqueue_web.api.upload import MULTIPART, Form, receive

if TYPE_CHECKING:
    from qosqueue.wiring import Services

PURPOSES = ("batch",)
LONGEST_NAME = 255
SHORTEST_TTL_S, LONGEST_TTL_S = 3_600, 2_592_000
_UNKNOWN = Refusal(404, "file_not_found", "there is no such file", "file_id")
_EXPIRES = ("expires_after[anchor]", "expires_after[seconds]")
FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file", "purpose"],
    "additionalProperties": False,
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(PURPOSES)},
        _EXPIRES[0]: {"type": "string", "enum": ["created_at"]},
        _EXPIRES[1]: {"type": "integer", "minimum": SHORTEST_TTL_S, "maximum": LONGEST_TTL_S},
    },
    "dependentRequired": dict(zip(_EXPIRES, [[_EXPIRES[1]], [_EXPIRES[0]]], strict=True)),
}
_BYTES: dict[str, Any] = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


def add_files(api: APIBlueprint, services: Services) -> None:
    """Add the routes under /v1/files."""
    settings = services.settings

    @api.post(
        "/v1/files",
        operation_id="createFile",
        request_body={"required": True, "content": {MULTIPART: {"schema": {}}}},
        responses={200: FileAnswer},
    )
    def create_file() -> Response:
        """Upload a file of requests for a batch."""
        tenant = current_tenant()
        with services.files.new() as file:
            form = receive(request, file, settings.max_file_bytes)
            if isinstance(form, Refusal):
                return error_response(form)
            ttl_ms = _checked(form)
            if isinstance(ttl_ms, Refusal):
                return error_response(ttl_ms)
            most_bytes = settings.max_tenant_file_bytes
            name = "".join(char for char in form.filename if char.isprintable())[:LONGEST_NAME] or "file"
            # Counted with the row: several uploads may come at once, each into room that all of them see.
            kept = file.keep_within(most_bytes, tenant.id, form.fields["purpose"], name, ttl_ms)
            if kept is None:
                told = f"all files of tenant {tenant.name!r} may come to {most_bytes} bytes"
                return error_response(Refusal(429, "insufficient_quota", f"{told}: delete some first"))
        keep_content(form.digest)
        return jsonify(file_answer(kept).model_dump())

    @api.get("/v1/files", operation_id="listFiles", responses={200: FileList})
    def list_files(query: FilesQuery) -> Response:
        """List the tenant's files."""
        try:
            # One more than asked for tells whether there is a next page.
            found = services.files.list(
                current_tenant().id,
                query.limit + 1,
                after=query.after,
                purpose=query.purpose,
                newest_first=query.order == "desc",
            )
        except NotFound:
            return error_response(replace(_UNKNOWN, param="after"))
        page = [file_answer(file) for file in found[: query.limit]]
        return jsonify(FileList.of(page, has_more=len(found) > query.limit).model_dump())

    @api.get("/v1/files/<file_id>", operation_id="retrieveFile", responses={200: FileAnswer})
    def retrieve_file(path: FilePath) -> Response:
        """One file."""
        return jsonify(file_answer(_known(services, path.file_id)).model_dump())

    @api.get("/v1/files/<file_id>/content", operation_id="downloadFile", responses={200: _BYTES})
    def download_file(path: FilePath) -> Response:
        """The bytes of a file."""
        file = _known(services, path.file_id)
        try:
            source = services.files.open(file)
        except NotFound:
            return error_response(_UNKNOWN)
        answer = Response(pieces(source), mimetype="application/octet-stream")
        answer.content_length = file.bytes
        answer.call_on_close(source.close)
        return answer

    @api.delete("/v1/files/<file_id>", operation_id="deleteFile", responses={200: DeletedFile})
    def delete_file(path: FilePath) -> Response:
        """Delete a file; not while a batch reads it."""
        try:
            gone = services.files.delete(current_tenant().id, path.file_id)
        except NotFound:
            return error_response(_UNKNOWN)
        except Conflict as why:
            return error_response(Refusal(400, "file_in_use", str(why), "file_id"))
        return jsonify(DeletedFile(id=gone.id).model_dump())


def _known(services: Services, file_id: str) -> StoredFile:
    try:
        return services.files.get(current_tenant().id, file_id)
    except NotFound:
        abort(error_response(_UNKNOWN))


def _checked(form: Form) -> int | Refusal | None:
    """The file's time to live in ms that its form asks for, None if it asks for none."""
    unknown = sorted(set(form.fields) - {"purpose", *_EXPIRES})
    if unknown:
        shown = unknown[0][:128]
        return Refusal(400, "unknown_field", f"unknown field: {shown}", shown)
    if form.fields.get("purpose") not in PURPOSES:
        return invalid_value("purpose", f"expected one of {', '.join(PURPOSES)}")
    anchor, seconds = map(form.fields.get, _EXPIRES)
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        return invalid_value("expires_after[anchor]", "expected created_at")
    if seconds is None or not (seconds.isdecimal() and seconds.isascii() and len(seconds) <= 9):
        return invalid_value("expires_after[seconds]", "expected a whole number of seconds")
    if not SHORTEST_TTL_S <= int(seconds) <= LONGEST_TTL_S:
        return invalid_value("expires_after[seconds]", f"expected {SHORTEST_TTL_S} to {LONGEST_TTL_S} seconds")
    return int(seconds) * 1000
