"""How is a failure told that has nothing to do with the request itself? One text each, for web and workers."""

from __future__ import annotations

from typing import Any

Failure = dict[str, Any]

EXPIRED: Failure = {
    "status": 504,
    "code": "deadline_exceeded",
    "message": "The request waited longer than it may.",
    "param": None,
}
WORKER_LOST: Failure = {
    "status": 503,
    "code": "worker_lost",
    "message": "The worker that ran this request was lost. Try again.",
    "param": None,
}
