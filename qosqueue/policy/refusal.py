"""How is a request refused? As a value with its reason, never as an exception."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """Why a request was not admitted.

    `status` is the HTTP status, `code` the machine-readable reason (docs/design/api.md), `param` the field at
    fault if there is one, `retry_after_s` the seconds after which the same request may be admitted.
    """

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after_s: int | None = None
