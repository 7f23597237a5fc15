"""How much memory does a batch of 50,000 lines take, where? Runs one through real processes and prints their peaks.

Web server, worker, watchdog and the process that feeds batches are those of `qosqueue up`; the model is the declared
simulated engine with steps of 0 ms. Every 50th line is wrong. The peak is the kernel's own (VmHWM), before and after.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from qosqueue.errors import QosqueueError
from qosqueue.ops.parts import WORKER_CLASS
from qosqueue.policy.terms import Tier
from qosqueue.store.schema import upgrade
from qosqueue.wiring import build
from scripts.bench.servers import gunicorn, home_with_broker, log_of, process, until

MODEL, SLOTS = "simulated", 8
CHAT = "/v1/chat/completions"
WRONG_EVERY = 50
BOUNDARY = "batch-memory"
START_WITHIN_S = 60.0
END_WITHIN_S = 3_600.0
LOOK_EVERY_S = 0.5
PIECE_BYTES = 65_536
ENDED = ("completed", "failed", "expired", "cancelled")
PROCESSES = ("web", "worker", "bulk", "beat")


def main() -> int:
    """Exit code 0 if every line came back."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lines", type=int, default=50_000, help="lines of the batch (default: 50000)")
    lines = parser.parse_args().lines
    try:
        told = measure(lines)
    except QosqueueError as error:
        print(f"batch-memory: {error}", file=sys.stderr)
        return 1
    print(json.dumps(told, indent=1))
    good = lines - lines // WRONG_EVERY
    return 0 if told["output_lines"] == good and told["error_lines"] == lines - good else 1


def measure(lines: int) -> dict[str, Any]:
    """Run one batch; what came back, how long it took, and peaks in MiB of each process before and after."""
    with ExitStack() as stack:
        settings = stack.enter_context(home_with_broker(default_model=MODEL, sweep_ms=200))
        upgrade(settings.sql_url())
        services = build(settings)
        stack.callback(services.close)
        options = {"step_ms": 0, "step_ms_per_sequence": 0, "prefill_ms_per_token": 0, "output_tokens": 4}
        services.catalog.add_model(
            MODEL, "simulated", actor="bench", memory_bytes=1, context_tokens=4096, slots=SLOTS, options=options
        )
        services.accounts.create_tenant("bench", Tier.STANDARD, actor="bench")
        key = services.accounts.create_key("bench", actor="bench").key
        extra = {"QOSQUEUE_SWEEP_MS": "200"}
        python = [sys.executable, "-m"]
        for name, module in (("worker", ""), ("beat", ".beat"), ("bulk", ".bulk")):
            stack.enter_context(process(name, [*python, f"qosqueue_workers{module}"], settings, extra=extra))
        port = stack.enter_context(gunicorn("web", "qosqueue_web.app:create_app()", settings, WORKER_CLASS))
        until(
            lambda: bool(services.queues.replicas()),
            START_WITHIN_S,
            "the start of a worker",
            log_of(settings, "worker"),
        )
        source = settings.home / "requests.jsonl"
        with source.open("w") as file:
            file.writelines(_lines(lines))
        call = _Caller(port, key)
        call.get("/v1/models")
        before = _peaks(settings.home)
        began_s = time.monotonic()
        file_id = call.upload(source)["id"]
        uploaded_s = time.monotonic() - began_s
        batch = call.post("/v1/batches", {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"})
        end_s = time.monotonic() + END_WITHIN_S
        while batch["status"] not in ENDED:
            if time.monotonic() > end_s:
                raise QosqueueError(f"the batch did not end within {END_WITHIN_S:g} s: {batch['request_counts']}")
            time.sleep(LOOK_EVERY_S)
            batch = call.get(f"/v1/batches/{batch['id']}")
        took_s = time.monotonic() - began_s
        output = sum(1 for _ in call.lines(batch["output_file_id"]))
        errors = Counter(_error_code(line) for line in call.lines(batch["error_file_id"]))
        after = _peaks(settings.home)
        return {
            "lines": lines,
            "status": batch["status"],
            "output_lines": output,
            "error_lines": errors.total(),
            "errors": dict(errors),
            "file_mib": round(source.stat().st_size / 2**20, 1),
            "upload_s": round(uploaded_s, 1),
            "took_s": round(took_s, 1),
            "peak_mib": {name: {"before": before[name], "after": after[name]} for name in PROCESSES},
        }


def _lines(count: int) -> Iterator[str]:
    for number in range(1, count + 1):
        if number % WRONG_EVERY == 0:
            yield '{"custom_id": "wrong", \n'
            continue
        messages = [{"role": "user", "content": f"What is the capital of country {number}? " + "Think. " * 30}]
        body = {"model": MODEL, "max_tokens": 4, "messages": messages}
        yield json.dumps({"custom_id": f"line-{number}", "method": "POST", "url": CHAT, "body": body}) + "\n"


def _error_code(line: bytes) -> str:
    """Why a line has no answer: its own error's code, or that of what it was answered with."""
    told = json.loads(line)
    return str((told["error"] or told["response"]["body"]["error"])["code"])


class _Caller:
    """Calls the API as one tenant."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._headers = {"Authorization": f"Bearer {key}"}

    def get(self, path: str) -> Any:
        return json.loads(self._send("GET", path, None, {}).read())

    def post(self, path: str, body: Any) -> Any:
        told = json.dumps(body).encode()
        return json.loads(self._send("POST", path, [told], _length(len(told), "application/json")).read())

    def upload(self, source: Path) -> Any:
        field = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="'
        head = f'{field}purpose"\r\n\r\nbatch\r\n{field}file"; filename="requests.jsonl"\r\n\r\n'.encode()
        tail = f"\r\n--{BOUNDARY}--\r\n".encode()
        size = len(head) + source.stat().st_size + len(tail)
        with source.open("rb") as file:
            body = itertools.chain([head], iter(lambda: file.read(PIECE_BYTES), b""), [tail])
            headers = _length(size, f"multipart/form-data; boundary={BOUNDARY}")
            return json.loads(self._send("POST", "/v1/files", body, headers).read())

    def lines(self, file_id: str | None) -> Iterator[bytes]:
        if file_id is not None:
            yield from self._send("GET", f"/v1/files/{file_id}/content", None, {})

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        connection.request(method, path, body, self._headers | headers)
        answer = connection.getresponse()
        if answer.status >= 400:
            raise QosqueueError(f"{method} {path} answered {answer.status}: {answer.read(500).decode()}")
        return answer


def _length(size: int, kind: str) -> dict[str, str]:
    return {"Content-Length": str(size), "Content-Type": kind}


def _peaks(home: Path) -> dict[str, float]:
    """The largest peak (MiB) of each kind of process of that home."""
    marks = {
        "web": b"gunicorn",
        "worker": b"qosqueue_workers\0",
        "bulk": b"qosqueue_workers.bulk",
        "beat": b"workers.beat",
    }
    mark = f"QOSQUEUE_HOME={home}".encode()
    found = dict.fromkeys(PROCESSES, 0.0)
    for folder in Path("/proc").iterdir():
        try:
            if not folder.name.isdigit() or mark not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            command, status = (folder / "cmdline").read_bytes(), (folder / "status").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has ended meanwhile, or is somebody else's
        peak_kib = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
        for name, words in marks.items():
            if words in command:
                found[name] = max(found[name], round(peak_kib / 1024, 1))
    return found


if __name__ == "__main__":
    sys.exit(main())
