"""What is the least that a queue between a web process and a worker can cost, and what does stock Celery cost there?

Two routes of one bare Flask app: `/floor` pushes to a list and waits for the answer of a process that echoes;
`/stock` calls a Celery task and waits for it at the Redis result backend. `python -m scripts.bench.floor echo` and
`… worker` are the processes behind them.
"""

from __future__ import annotations

import json
import secrets
import sys
from typing import Any

from celery import Celery
from celery.apps.worker import Worker
from flask import Flask, Response, abort, jsonify, request

from qosqueue.broker.address import connect, kombu_url
from qosqueue.broker.celery_app import FIFO_QUEUE, make_celery
from qosqueue.settings import Settings, load_settings

CONCURRENCY = 8
CALLS = "bench:floor:calls"
ANSWER = "bench:floor:answer:{id}"
ANSWER_WITHIN_S = 20


def create_app() -> Flask:
    """The bare web process."""
    settings = load_settings()
    client = connect(settings, socket_timeout_s=None)
    echo = celery_app(settings).tasks["bench.echo"]
    app = Flask("floor")

    @app.post("/floor")
    def floor() -> Response:
        call = secrets.token_hex(12)
        client.rpush(CALLS, json.dumps({"id": call, "body": request.get_json()}))
        answer: Any = client.blpop([ANSWER.format(id=call)], ANSWER_WITHIN_S)
        if answer is None:
            abort(504)
        return jsonify(json.loads(answer[1]))

    @app.post("/stock")
    def stock() -> Response:
        return jsonify(echo.apply_async(args=[request.get_json()], queue=FIFO_QUEUE).get(timeout=ANSWER_WITHIN_S))

    return app


def celery_app(settings: Settings) -> Celery:
    """Stock Celery with the Redis result backend."""
    fifo = Settings(**(settings.model_dump() | {"order": "fifo"}))
    app = make_celery(fifo, result_backend=kombu_url(settings), task_ignore_result=False, result_expires=60)

    app.task(name="bench.echo")(_echo)
    return app


def _echo(body: dict[str, Any]) -> dict[str, Any]:
    return body


def serve_echo(settings: Settings) -> None:
    """Answer what comes over the list, until the process is ended."""
    client = connect(settings, socket_timeout_s=None)
    while True:
        pushed: Any = client.blpop([CALLS])
        call = json.loads(pushed[1])
        client.rpush(ANSWER.format(id=call["id"]), json.dumps(call["body"]))


def serve_tasks(settings: Settings) -> None:
    """Run the Celery worker, until SIGTERM."""
    Worker(
        app=celery_app(settings),
        hostname="bench-floor@localhost",
        pool="threads",
        concurrency=CONCURRENCY,
        queues=[FIFO_QUEUE],
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    ).start()


if __name__ == "__main__":
    {"echo": serve_echo, "worker": serve_tasks}[sys.argv[1]](load_settings())
