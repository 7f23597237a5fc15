"""What must an engine do? The interface that every way of running a model fulfils."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Choices = list[dict[str, Any]]
Emit = Callable[[Choices], None]

CANCELLED = "cancelled"


@dataclass(frozen=True)
class EngineRequest:
    """One inference call: `id` is unique among the requests now in the engine, `body` is the OpenAI request body."""

    id: str
    endpoint: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Completion:
    """The whole answer. `finish_reason` is OpenAI's (`stop`, `length`, …) or `cancelled`; counts are tokens.

    Of a cancelled request, `text` and the counts hold what was read and written until then. An embedding has no text:
    `vectors` are its inputs' in their order, each as little-endian float32.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    vectors: tuple[bytes, ...] = ()


NOTHING_DONE = Completion("", CANCELLED, 0, 0)

Done = Callable[[Completion | BaseException], None]


@dataclass(frozen=True)
class Capacity:
    """What one replica holds: requests at once, tokens of each (prompt and answer), bytes when loaded.

    `memory_bytes` is None where it cannot be told before the model is loaded.
    """

    slots: int
    context_tokens: int
    memory_bytes: int | None


@dataclass(frozen=True)
class Health:
    """Can the engine serve now? `detail` is one line for a person."""

    ok: bool
    detail: str


class EngineRefused(Exception):
    """The request itself is at fault; trying again elsewhere would end the same. `status` is the HTTP status."""

    def __init__(self, code: str, message: str, param: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.status = status


class Engine(ABC):
    """One replica: a model with `slots` places. All methods may be called from any thread.

    Faults of the engine raise `qosqueue.errors.EngineError`, faults of the request `EngineRefused`.
    """

    def check(self) -> None:  # noqa: B027 (an engine that reads nothing has nothing to check)
        """Is what `load` would read there? Loads nothing; raises EngineError with `; fix: ` and what to do."""

    @abstractmethod
    def load(self) -> None:
        """Make the model ready; returns when it can serve. Loading a loaded engine does nothing."""

    @abstractmethod
    def stream(self, request: EngineRequest, emit: Emit) -> Completion:
        """Serve the request in the caller's thread, waiting for a slot first.

        `emit` gets the `choices` of each OpenAI chunk, in order. What it raises stops the request, frees the slot
        and reaches the caller.
        """

    @abstractmethod
    def submit(self, request: EngineRequest, emit: Emit, done: Done) -> None:
        """Serve the request on a thread of the engine and return at once.

        `done` is called exactly once, after the slot is free again, with the completion or with what `stream`
        would have raised; in the thread of `cancel` or `close` if the request was still waiting for a slot.
        """

    @abstractmethod
    def cancel(self, request_id: str) -> bool:
        """End a waiting request at once, a running one within one step; False if the engine does not have it."""

    @abstractmethod
    def capacity(self) -> Capacity:
        """What the replica holds; may be asked before `load`."""

    @abstractmethod
    def busy(self) -> int:
        """How many slots are taken now."""

    @abstractmethod
    def health(self) -> Health:
        """Can the engine serve now? Never raises."""

    @abstractmethod
    def close(self) -> None:
        """Refuse new work, stop what runs (those requests end with EngineError) and free the model's memory."""
