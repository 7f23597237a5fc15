"""How does a test upload a file, hand in a batch, and add a webhook endpoint over HTTP?"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

from flask.testing import FlaskClient

from tests.support.memory_services import MODEL

CHAT_URL = "/v1/chat/completions"
HOOK_URL = "https://hooks.example.com/events"


def line(custom_id: str, *, model: str = MODEL, url: str = CHAT_URL, text: str = "Hi", **body: Any) -> dict[str, Any]:
    """One request of a batch."""
    chat = {"model": model, "messages": [{"role": "user", "content": text}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": chat}


def jsonl(lines: Iterable[dict[str, Any] | bytes]) -> bytes:
    """A file of these lines; what is bytes is written as it is."""
    return b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in lines)


def upload(client: FlaskClient, auth: dict[str, str], content: bytes = b"", name: str = "in.jsonl") -> str:
    """The id of an uploaded file."""
    form = {"purpose": "batch", "file": (io.BytesIO(content or jsonl([line("one")])), name)}
    answer = client.post("/v1/files", data=form, headers=auth)
    assert answer.status_code == 200, answer.text
    return str(answer.get_json()["id"])


def create_batch(client: FlaskClient, auth: dict[str, str], file_id: str, **fields: Any) -> str:
    """The id of a batch of that file."""
    sent = {"input_file_id": file_id, "endpoint": CHAT_URL, "completion_window": "24h", **fields}
    answer = client.post("/v1/batches", json=sent, headers=auth)
    assert answer.status_code == 200, answer.text
    return str(answer.get_json()["id"])


def add_webhook(client: FlaskClient, auth: dict[str, str], **fields: Any) -> str:
    """The id of a webhook endpoint."""
    sent = {"name": "mine", "url": HOOK_URL, "event_types": ["batch.completed"], **fields}
    answer = client.post("/v1/webhook_endpoints", json=sent, headers=auth)
    assert answer.status_code == 200, answer.text
    return str(answer.get_json()["id"])
