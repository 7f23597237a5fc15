"""Can a tenant upload, list, read and delete files, and does nothing hold the whole of one in memory?"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from flask.testing import FlaskClient

from qosqueue.service.files import ORPHAN_AFTER_S
from qosqueue.store.clock import now_ms
from tests.support.bulk import create_batch, jsonl, line, upload
from tests.support.memory_services import MemoryServices, key_for, memory_services
from tests.support.openai_error import error_of

CONTENT = jsonl([line("one"), line("two", text="é\u0000")])
BOUNDARY = "edge"
HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="f.jsonl"\r\n\r\n'
).encode()


def form(**fields: Any) -> dict[str, Any]:
    return {"purpose": "batch", "file": (io.BytesIO(CONTENT), "in.jsonl"), **fields}


def kept(services: MemoryServices) -> list[str]:
    folder = services.settings.files_folder()
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_file_from_upload_to_its_end(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    answer = client.post("/v1/files", data=form(), headers=auth)
    assert answer.status_code == 200, answer.text
    file = answer.get_json()
    assert (file["object"], file["bytes"], file["filename"], file["purpose"]) == (
        "file",
        len(CONTENT),
        "in.jsonl",
        "batch",
    )
    assert file["expires_at"] - file["created_at"] == 30 * 86_400
    assert client.get(f"/v1/files/{file['id']}", headers=auth).get_json() == file
    content = client.get(f"/v1/files/{file['id']}/content", headers=auth)
    assert (content.data, content.content_length) == (CONTENT, len(CONTENT))
    assert kept(services) == [file["id"]]
    assert (services.settings.files_folder() / file["id"]).read_bytes() == CONTENT
    assert services.settings.files_folder().stat().st_mode & 0o077 == 0
    gone = client.delete(f"/v1/files/{file['id']}", headers=auth)
    assert gone.get_json() == {"id": file["id"], "object": "file", "deleted": True}
    assert kept(services) == []
    for path in ("", "/content"):
        assert error_of(client.get(f"/v1/files/{file['id']}{path}", headers=auth), 404)["code"] == "file_not_found"


def test_the_time_to_live_is_the_tenants(client: FlaskClient, auth: dict[str, str]) -> None:
    asked = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = client.post("/v1/files", data=form(**asked), headers=auth).get_json()
    assert file["expires_at"] - file["created_at"] == 3600


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({"purpose": ""}, "purpose"),
        ({"file": "text"}, "file"),
        ({"other": "x"}, "other"),
        ({"file": [(io.BytesIO(b"a"), "a"), (io.BytesIO(b"b"), "b")]}, "file"),
        ({"expires_after[seconds]": "4000"}, "expires_after[anchor]"),
        ({"expires_after[anchor]": "created_at"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "9" * 30}, "expires_after[seconds]"),
    ],
)
def test_a_wrong_field_is_named_and_leaves_nothing(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], fields: dict[str, Any], param: str
) -> None:
    answer = client.post("/v1/files", data=form(**fields), content_type="multipart/form-data", headers=auth)
    assert error_of(answer, 400)["param"] == param
    assert kept(services) == []


def test_what_is_no_form_is_told(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    for kind in ("application/json", "multipart/form-data", "multipart/form-data; boundary=é"):
        error_of(client.post("/v1/files", data=b"{}", content_type=kind, headers=auth), 415)
    cut = client.post("/v1/files", data=HEAD, content_type=f"multipart/form-data; boundary={BOUNDARY}", headers=auth)
    assert error_of(cut, 400)["param"] == "file"
    assert kept(services) == []


class Endless:
    """A form whose file has no end; counts what was taken of it."""

    def __init__(self) -> None:
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "somebody wants the whole of an endless body"
        sent = HEAD[self.taken : self.taken + size] if self.taken < len(HEAD) else b" " * size
        self.taken += len(sent)
        return sent

    readline = read


@pytest.fixture
def small(tmp_path: Path) -> Iterator[MemoryServices]:
    """Files of at most 100,000 bytes, 150,000 for all of a tenant."""
    made = memory_services(tmp_path, max_file_bytes=100_000, max_tenant_file_bytes=150_000)
    yield made
    made.store.close()


@pytest.mark.parametrize("told", [True, False], ids=["content-length", "chunked"])
def test_a_large_file_is_not_taken(small: MemoryServices, told: bool) -> None:
    from qosqueue_web.app import create_app

    body = Endless()
    environ: dict[str, Any] = {
        "wsgi.input": body,
        "wsgi.input_terminated": not told,
        "CONTENT_TYPE": f"multipart/form-data; boundary={BOUNDARY}",
    }
    if told:
        environ["CONTENT_LENGTH"] = str(10**9)
    headers = {"Authorization": f"Bearer {key_for(small, 'a')}"}
    client = create_app(cast(Any, small)).test_client()
    error = error_of(client.post("/v1/files", headers=headers, environ_overrides=environ), 413)
    assert error["code"] == "body_too_large"
    assert body.taken <= (0 if told else 400_000)
    assert kept(small) == []


def test_a_tenants_files_have_a_limit_together(small: MemoryServices) -> None:
    from qosqueue_web.app import create_app

    client = create_app(cast(Any, small)).test_client()
    headers = {"Authorization": f"Bearer {key_for(small, 'a')}"}
    first = upload(client, headers, b"x" * 100_000)
    over = {"purpose": "batch", "file": (io.BytesIO(b"x" * 60_000), "in.jsonl")}
    assert error_of(client.post("/v1/files", data=over, headers=headers), 429)["code"] == "insufficient_quota"
    assert kept(small) == [first]
    assert client.delete(f"/v1/files/{first}", headers=headers).status_code == 200
    assert upload(client, headers, b"x" * 60_000)


def test_uploads_at_once_share_the_room_of_their_tenant(small: MemoryServices, monkeypatch: pytest.MonkeyPatch) -> None:
    from qosqueue_web.api import files
    from qosqueue_web.app import create_app

    made, headers = create_app(cast(Any, small)), {"Authorization": f"Bearer {key_for(small, 'a')}"}
    arrived, take = threading.Barrier(4), files.receive

    def receive(*given: Any) -> Any:
        form = take(*given)
        arrived.wait(10)  # all have come before the first is kept
        return form

    def send(_: int) -> int:
        sent = {"purpose": "batch", "file": (io.BytesIO(b"x" * 60_000), "in.jsonl")}
        return made.test_client().post("/v1/files", data=sent, headers=headers).status_code

    monkeypatch.setattr(files, "receive", receive)
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(send, range(4))) == [200, 200, 429, 429]
    assert len(kept(small)) == 2


def test_pages_meet_without_overlap(client: FlaskClient, auth: dict[str, str], other_auth: dict[str, str]) -> None:
    made = [upload(client, auth) for _ in range(5)]
    upload(client, other_auth)
    for order, wanted in (("desc", made[::-1]), ("asc", made)):
        seen: list[str] = []
        query = f"?limit=2&order={order}"
        while True:
            page = client.get(f"/v1/files{query}", headers=auth).get_json()
            seen += [file["id"] for file in page["data"]]
            if not page["has_more"]:
                break
            query = f"?limit=2&order={order}&after={page['last_id']}"
        assert sorted(seen) == sorted(wanted)
        assert len(seen) == 5
    assert client.get("/v1/files?purpose=batch_output", headers=auth).get_json()["data"] == []
    foreign = client.get(f"/v1/files?after={made[0]}", headers=other_auth)
    assert error_of(foreign, 404)["param"] == "after"


def test_a_file_that_a_batch_reads_stays(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    file_id = upload(client, auth)
    create_batch(client, auth, file_id)
    assert error_of(client.delete(f"/v1/files/{file_id}", headers=auth), 400)["code"] == "file_in_use"
    assert kept(services) == [file_id]


def test_a_sweep_removes_what_expired_and_what_the_killed_left(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    young, old, read = (upload(client, auth) for _ in range(3))
    create_batch(client, auth, read)
    folder = services.settings.files_folder()
    orphans = [f"file_{'1' * 24}", f"file_{'2' * 24}.part"]
    for name in (*orphans, f"file_{'3' * 24}.part", "not-ours"):
        (folder / name).write_bytes(b"x")
    long_ago = now_ms() / 1000 - ORPHAN_AFTER_S - 60
    for name in (*orphans, "not-ours", young):
        os.utime(folder / name, (long_ago, long_ago))
    monkeypatch.setattr("qosqueue.service.files.now_ms", lambda: now_ms() + 29 * 86_400_000)
    assert services.files.sweep() == 2
    assert kept(services) == sorted([young, old, read, f"file_{'3' * 24}.part", "not-ours"])
    monkeypatch.setattr("qosqueue.service.files.now_ms", lambda: now_ms() + 31 * 86_400_000)
    assert services.files.sweep() == 2
    assert kept(services) == sorted([read, f"file_{'3' * 24}.part", "not-ours"])


def test_a_disk_that_takes_nothing_is_told(client: FlaskClient, services: MemoryServices, auth: dict[str, str]) -> None:
    services.settings.files_folder().write_text("no folder")
    answer = client.post("/v1/files", data=form(), headers=auth)
    assert error_of(answer, 503)["code"] == "store_unavailable"
    assert str(services.settings.home) not in answer.text
