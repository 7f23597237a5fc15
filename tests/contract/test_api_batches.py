"""Can a tenant hand in, list and cancel batches over HTTP, and is what is wrong named?"""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from qosqueue.service import batches
from tests.support.bulk import CHAT_URL, create_batch, upload
from tests.support.memory_services import MemoryServices
from tests.support.openai_error import error_of

FIELDS = {
    "id", "object", "endpoint", "errors", "input_file_id", "completion_window", "status", "output_file_id",
    "error_file_id", "created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at",
    "expired_at", "cancelling_at", "cancelled_at", "request_counts", "metadata",
}  # fmt: skip


def test_create_and_retrieve(client: FlaskClient, auth: dict[str, str]) -> None:
    file_id = upload(client, auth)
    sent = {
        "input_file_id": file_id,
        "endpoint": CHAT_URL,
        "completion_window": "1h",
        "metadata": {"k": "v"},
        "output_expires_after": {"anchor": "created_at", "seconds": 3600},
    }
    batch = client.post("/v1/batches", json=sent, headers=auth).get_json()
    assert set(batch) == FIELDS
    assert (batch["object"], batch["status"], batch["input_file_id"]) == ("batch", "validating", file_id)
    assert batch["expires_at"] - batch["created_at"] == 3600
    assert (batch["metadata"], batch["errors"]) == ({"k": "v"}, None)
    assert batch["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert client.get(f"/v1/batches/{batch['id']}", headers=auth).get_json() == batch


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"completion_window": "25h"}, "completion_window"),
        ({"completion_window": "0h"}, "completion_window"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"endpoint": "/v1/nothing"}, "endpoint"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds"),
        ({"tenant_id": "ten_1"}, "tenant_id"),
        ({"status": "completed"}, "status"),
    ],
)
def test_a_wrong_field_is_named(client: FlaskClient, auth: dict[str, str], fields: dict[str, Any], param: str) -> None:
    sent = {"input_file_id": upload(client, auth), "endpoint": CHAT_URL, "completion_window": "24h", **fields}
    assert error_of(client.post("/v1/batches", json=sent, headers=auth), 400)["param"] == param
    assert client.get("/v1/batches", headers=auth).get_json()["data"] == []


def test_the_input_file_is_the_tenants_own(
    client: FlaskClient, auth: dict[str, str], other_auth: dict[str, str]
) -> None:
    for foreign in (upload(client, other_auth), f"file_{'0' * 24}", "\u0000"):
        sent = {"input_file_id": foreign, "endpoint": CHAT_URL, "completion_window": "24h"}
        error = error_of(client.post("/v1/batches", json=sent, headers=auth), 404)
        assert (error["code"], error["param"]) == ("file_not_found", "input_file_id")


def test_cancel(client: FlaskClient, auth: dict[str, str]) -> None:
    batch_id = create_batch(client, auth, upload(client, auth))
    batch = client.post(f"/v1/batches/{batch_id}/cancel", headers=auth).get_json()
    assert batch["status"] == "cancelling"
    assert batch["cancelling_at"] >= batch["created_at"]
    again = client.post(f"/v1/batches/{batch_id}/cancel", headers=auth)
    assert (again.status_code, again.get_json()) == (200, batch)


def test_pages_meet_without_overlap(client: FlaskClient, auth: dict[str, str], other_auth: dict[str, str]) -> None:
    file_id = upload(client, auth)
    made = [create_batch(client, auth, file_id) for _ in range(5)]
    other = create_batch(client, other_auth, upload(client, other_auth))
    seen: list[str] = []
    query = "?limit=2"
    while True:
        page = client.get(f"/v1/batches{query}", headers=auth).get_json()
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        seen += [batch["id"] for batch in page["data"]]
        if not page["has_more"]:
            break
        query = f"?limit=2&after={page['last_id']}"
    assert sorted(seen) == sorted(made)
    assert error_of(client.get(f"/v1/batches?after={other}", headers=auth), 404)["param"] == "after"


def test_open_batches_have_a_limit(
    client: FlaskClient, services: MemoryServices, auth: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MOST_OPEN", 2)
    file_id = upload(client, auth)
    for _ in range(2):
        create_batch(client, auth, file_id)
    sent = {"input_file_id": file_id, "endpoint": CHAT_URL, "completion_window": "24h"}
    answer = client.post("/v1/batches", json=sent, headers=auth)
    assert error_of(answer, 429)["code"] == "rate_limit_exceeded"
    assert answer.headers["Retry-After"] == "60"
