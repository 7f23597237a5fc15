"""Does the log keep prompts to itself, also when something breaks?"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from qosqueue.telemetry.logs import log_to_stderr

CANARY = "the-prompt-of-somebody"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    chatty = logging.getLogger("celery.worker.consumer.consumer")
    chatty.filters.clear()


def test_a_traceback_shows_no_local_variables(capfd: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("WARNING")

    def attempt(request: dict[str, str]) -> None:
        raise ValueError(f"{len(request)} fields")

    try:
        attempt({"prompt": CANARY})
    except ValueError:
        logging.getLogger("celery.worker.request").warning("reject requeue=True", exc_info=True)
    told = capfd.readouterr().err
    assert "ValueError: 1 fields" in told
    assert CANARY not in told


def test_a_message_that_celery_cannot_run_is_told_without_its_body(capfd: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("INFO")
    logging.getLogger("celery.worker.consumer.consumer").error(
        "Received unregistered task of type %s.\nThe message has been ignored.\nThe full contents of the message body "
        "was:\n%s",
        "'qosqueue.infer_v2'",
        CANARY,
    )
    told = capfd.readouterr().err
    assert "qosqueue.infer_v2" in told
    assert CANARY not in told
