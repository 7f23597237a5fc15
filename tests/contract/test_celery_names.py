"""Does Celery still have what the fast lane's step uses of its worker, with the meaning that we give it?"""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any, cast

import celery
from celery.worker import components, control, loops, state
from celery.worker.request import Request
from celery.worker.worker import WorkController
from kombu.asynchronous.hub import Hub

from qosqueue.policy.reference.message import Delivery
from qosqueue_workers.celery_step import FastLaneStep, LaneRequest

DELIVERY = Delivery("tag", 1, "vip.light", "m", "job_1", 0, 0, "")


def seen() -> LaneRequest:
    return LaneRequest(SimpleNamespace(), DELIVERY, {"prompt": "secret"}, cast(Any, None), "worker@host")


def test_version() -> None:
    assert celery.__version__.startswith("5.7.")


def test_the_steps_that_ours_needs_and_what_they_leave_on_the_worker() -> None:
    assert FastLaneStep.requires == (
        "celery.worker.components:Hub",
        "celery.worker.components:Pool",
    )
    assert "w.hub = " in inspect.getsource(components.Hub.create)
    assert "w.consumer = " in inspect.getsource(components.Consumer.create)
    assert "self.use_eventloop = " in inspect.getsource(WorkController.setup_instance)
    assert components.Consumer.last, "it is started after ours, and stopped before"


def test_another_thread_may_call_into_the_event_loop() -> None:
    source = inspect.getsource(Hub.call_soon)
    assert "_ready_lock" in source
    assert "waker" in source
    assert "hub" in inspect.signature(loops.asynloop).parameters


def test_an_attempt_is_counted_and_forgotten() -> None:
    attempt = seen()
    before = state.total_count[attempt.name]
    state.task_accepted(attempt)
    assert attempt in state.active_requests
    assert state.requests[attempt.id] is attempt
    assert state.total_count[attempt.name] == before + 1
    state.task_ready(attempt, successful=True)
    assert attempt not in state.active_requests
    assert attempt.id not in state.requests


def test_inspect_shows_what_it_shows_of_any_other_request_but_never_the_prompt() -> None:
    told = seen().info()
    assert set(told) == _keys_of_info()
    assert "secret" not in str(told)


def test_revoke_with_terminate_calls_what_we_have() -> None:
    assert "request.terminate(state.consumer.pool, signal=" in inspect.getsource(control)
    assert list(inspect.signature(LaneRequest.terminate).parameters) == ["self", "pool", "signal"]


def _keys_of_info() -> set[str]:
    bare = SimpleNamespace(
        id=0,
        name=0,
        _args=0,
        _argsrepr=0,
        _kwargs=0,
        _kwargsrepr=0,
        _type=0,
        _hostname=0,
        time_start=0,
        acknowledged=0,
        delivery_info=0,
        worker_pid=0,
    )
    return set(Request.info(cast(Any, bare)))
