"""How does a process log? One line an event on stderr, with its time and fields, never a key or a prompt."""

from __future__ import annotations

import logging
import sys

import structlog


def log_to_stderr(level: str) -> None:
    """Send structlog and the standard library's loggers to stderr in one format."""
    numeric = logging.getLevelName(level)
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            # Plain: the default prints local variables, and prompts are among them.
            processor=structlog.dev.ConsoleRenderer(
                colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
            ),
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(numeric)
    # Celery tells of every task twice; what happened to a request is in the record.
    for chatty in ("celery.worker.strategy", "celery.app.trace", "celery.pool", "celery.beat"):
        logging.getLogger(chatty).setLevel(max(numeric, logging.WARNING))
    logging.getLogger("celery.worker.consumer.consumer").addFilter(without_bodies)


def without_bodies(record: logging.LogRecord) -> bool:
    """Shorten what Celery says of a message that it cannot run: its text quotes the whole body, prompts included."""
    text = record.getMessage()
    if "message body" in text:
        record.msg, record.args = f"{text.strip().splitlines()[0]} (its body is not logged)", None
        record.exc_info = None
    return True
