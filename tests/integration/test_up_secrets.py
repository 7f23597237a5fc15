"""What does a whole qosqueue keep to itself, and does a client that leaves give its slot back?"""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
import redis

from qosqueue.broker.address import connect
from qosqueue.policy.reference.limits import model_limit
from qosqueue.settings import Settings
from tests.support.eventually import eventually
from tests.support.instance import add_tiny_model, command, running

CANARY = "the-prompt-of-somebody"
FREE_WITHIN_S = 2.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    add_tiny_model(home)
    return home


def send(url: str, key: str, path: str, body: dict[str, Any]) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", path, json.dumps(body), headers)
    return connection


def post(url: str, key: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    with closing(send(url, key, path, body)) as connection, connection.getresponse() as answer:
        return answer.status, json.load(answer)


def chat(prompt: str, **more: Any) -> dict[str, Any]:
    return {"model": "smollm2", "messages": [{"role": "user", "content": prompt}], "max_tokens": 4, **more}


def values(client: redis.Redis) -> bytes:
    """Everything in the broker, serialised by itself."""
    return b"".join(client.dump(key) or b"" for key in client.scan_iter())


@pytest.mark.timeout(180)
def test_keys_and_prompts_stay_out_of_logs_and_the_broker(home: Path) -> None:
    with running(home, "--json", log_level="INFO") as instance:
        line = json.loads(eventually(instance.stdout.read_text, 60))
        url, key = line["ready"], line["keys"]["acme-vip"]
        assert post(url, key, "/v1/chat/completions", chat(CANARY))[0] == 200
        assert post(url, key, "/v1/chat/completions", chat(f"{CANARY} " * 2000))[0] == 400
        _, job = post(url, key, "/v1/jobs", {"body": chat(CANARY)})
        assert command(home, "job", "get", job["id"], "--json").returncode == 0
        eventually(
            lambda: json.loads(command(home, "job", "get", job["id"], "--json").stdout)["status"] == "succeeded", 20
        )
        client = connect(Settings(home=home))
        client.config_set("rdbcompression", "no")  # else a dump may hold the canary in another form
        kept = eventually(lambda: (values(client),) if not client.keys("*:msg:*") else (), 5)[0]
        assert CANARY.encode() not in kept
        assert key.encode() not in kept
        assert instance.stop() == 0
        logs = b"".join(path.read_bytes() for path in (home / "logs").iterdir())
        assert CANARY.encode() not in logs + instance.stderr.read_bytes()
        assert key.encode() not in logs
        record = b"".join(path.read_bytes() for path in home.glob("qosqueue.db*"))
        assert key.encode() not in record
        ours = [path for path in home.rglob("*") if path.suffix != ".gguf"]  # the model was there before
        assert not [path for path in ours if path.stat().st_mode & 0o077]


@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_a_client_that_leaves_in_mid_stream_frees_its_slot(home: Path) -> None:
    made = command(
        *(home, "model", "add", "slow", "--engine", "simulated", "--memory-bytes", "1", "--context-tokens", "2000"),
        *("--options", json.dumps({"step_ms": 100, "output_tokens": 1000})),
    )
    assert made.returncode == 0, made.stderr
    with running(home, "--json") as instance:
        line = json.loads(eventually(instance.stdout.read_text, 60))
        body = chat("?", stream=True) | {"model": "slow", "max_tokens": 1000}
        client = connect(Settings(home=home))

        def running_now() -> int:
            """Of this model: the watchdog's tasks hold leases too."""
            return int(cast(Any, client.hget("{qosqueue}:running", model_limit("slow"))) or 0)

        with (
            closing(send(line["ready"], line["keys"]["acme-vip"], "/v1/chat/completions", body)) as connection,
            connection.getresponse() as answer,
        ):
            assert answer.readline().startswith(b"data:")
            assert running_now() == 1
        left_s = time.monotonic()
        eventually(lambda: running_now() == 0, FREE_WITHIN_S)
        print(f"slot free after {time.monotonic() - left_s:.2f} s")
