"""Does no form that nobody thought of make an upload fail, or leave bytes on disk? And is the same one the same?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.support.memory_services import MemoryServices, key_for, memory_services
from tests.support.openai_error import error_of

BOUNDARY = b"edge"
NAMES = st.sampled_from(
    [b"file", b"purpose", b"expires_after[anchor]", b"expires_after[seconds]", b"", b"\xff", b"a\x00b", b"other"]
)
VALUES = st.sampled_from([b"batch", b"created_at", b"3600", b"-1", b"1e9", "é".encode()]) | st.binary(max_size=40)
# Headers of a part as clients write them, and nearly so.
HEADS = st.sampled_from(
    [
        b'Content-Disposition: form-data; name="%s"',
        b'Content-Disposition: form-data; name="%s"; filename="a.jsonl"',
        b"Content-Disposition: form-data; name=%s; filename*=UTF-8''%%e2%%82%%ac",
        b'Content-Disposition: form-data; name="%s"; filename="a\x00b"',
        b"Content-Disposition: attachment; name=%s",
        b'Content-Disposition: form-data; name="%s"\r\nContent-Transfer-Encoding: base64',
        b'Content-Disposition: form-data; name="%s"\r\nContent-Type: text/plain; charset=no-such',
        b"X-Nothing: %s",
    ]
)
PARTS = st.tuples(HEADS, NAMES, VALUES).map(lambda part: part[0] % part[1] + b"\r\n\r\n" + part[2])
SOUND = [
    b'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch',
    b'Content-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}',
]


def form(parts: list[bytes]) -> bytes:
    return b"".join(b"--" + BOUNDARY + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + BOUNDARY + b"--\r\n"


# Near misses: a sound form with parts around it and a piece cut out of it reaches deeper than arbitrary bytes.
WHOLE = st.tuples(st.lists(PARTS, max_size=3), st.booleans()).map(lambda made: form(SOUND * made[1] + made[0]))
CUT = st.tuples(WHOLE, st.integers(0, 200), st.integers(1, 30)).map(
    lambda cut: cut[0][: cut[1]] + cut[0][cut[1] + cut[2] :]
)
KINDS = st.sampled_from(
    [
        *[b"multipart/form-data; boundary=edge"] * 6,
        *(b"multipart/form-data", b"multipart/form-data; boundary=", b'multipart/form-data; boundary="edge\xff"'),
        *(b"multipart/mixed; boundary=edge", b"application/json", b"\xff"),
    ]
).map(lambda raw: raw.decode("latin-1"))


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[tuple[FlaskClient, dict[str, str], MemoryServices]]:
    from qosqueue_web.app import create_app

    with TemporaryDirectory() as home:
        services = memory_services(Path(home), max_file_bytes=10_000)
        headers = {"Authorization": f"Bearer {key_for(services, 'a')}"}
        yield create_app(cast(Any, services)).test_client(), headers, services
        services.store.close()


def sent(fuzzed: Any, body: bytes, kind: str, **more: str) -> TestResponse:
    client, headers, _ = fuzzed
    answer: TestResponse = client.post("/v1/files", data=body, content_type=kind, headers=headers | more)
    return answer


FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(body=WHOLE | CUT | st.binary(max_size=200), kind=KINDS)
def test_no_form_makes_the_server_fail_or_leaves_bytes(fuzzed: Any, body: bytes, kind: str) -> None:
    client, headers, services = fuzzed
    answer = sent(fuzzed, body, kind)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        error_of(answer)
    else:
        file = answer.get_json()
        content = client.get(f"/v1/files/{file['id']}/content", headers=headers)
        assert (len(content.data), content.data in body) == (file["bytes"], True)
        assert client.delete(f"/v1/files/{file['id']}", headers=headers).status_code == 200
    folder = services.settings.files_folder()
    assert not folder.exists() or not list(folder.iterdir())


@FUZZ
@given(body=WHOLE, other=WHOLE | CUT, key=st.uuids())
def test_under_one_key_a_form_is_itself_and_no_other(fuzzed: Any, body: bytes, other: bytes, key: Any) -> None:
    kind, keyed = "multipart/form-data; boundary=edge", {"Idempotency-Key": str(key)}
    first = sent(fuzzed, body, kind, **keyed)
    again = sent(fuzzed, body, kind, **keyed)
    if first.status_code == 200:
        assert (again.data, again.headers["Idempotent-Replayed"]) == (first.data, "true")
        third = sent(fuzzed, other, kind, **keyed)
        # The same content may stand between other parts' blanks; nothing else is told again.
        assert third.status_code in ((200,) if third.data == first.data else (400, 422)), third.text
    else:
        assert error_of(again)["code"] == error_of(first)["code"]
        assert "Idempotent-Replayed" not in again.headers


def test_the_sound_form_is_taken(fuzzed: Any) -> None:
    answer = sent(fuzzed, form(SOUND), "multipart/form-data; boundary=edge")
    assert answer.status_code == 200, answer.text
