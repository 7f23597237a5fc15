"""How does the stream of a chat or a completion look to its client? Its chunks, its end, and a late failure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic_core import to_json

from qosqueue.policy.refusal import Refusal
from qosqueue.service.answers import usage_of
from qosqueue.service.online import Chunk, Done
from qosqueue_web.api.errors import encode, error_body

Choices = list[dict[str, Any]]


def _encode(value: Any) -> str:
    """A chunk's part as JSON, in less time than json takes; what it holds is text that can be encoded.

    As ASCII: some clients take U+2028 or U+0085 for the end of a line.
    """
    return to_json(value, ensure_ascii=True).decode()


def data_line(value: Any) -> str:
    """A JSON value as an event."""
    return f"data: {encode(value)}\n\n"


class Frame(ABC):
    """What turns the events of one call into lines; one for each stream."""

    id: str
    # Whether the whole answer was told.
    is_complete: bool = False

    def begin(self) -> str:
        """What stands before everything else."""
        return ""

    @abstractmethod
    def detoured(self, model: str) -> None:
        """Another model is to answer."""

    @abstractmethod
    def chunk(self, event: Chunk) -> str:
        """Part of the answer."""

    @abstractmethod
    def end(self, done: Done) -> str:
        """The end of the answer, which has come whole."""

    @abstractmethod
    def failure(self, refusal: Refusal) -> str:
        """Why the answer ends here."""


@dataclass
class ChunkFrame(Frame):
    """What all chunks of one answer share; `created` in seconds since the epoch."""

    kind: ClassVar[str]

    id: str
    model: str
    created: int
    service_tier: str
    include_usage: bool
    _finish_told: bool = field(default=False, init=False)
    # What every chunk begins with: encoded once, not for each token.
    _head: str = field(default="", init=False)

    @abstractmethod
    def choices(self, choices: Choices) -> Choices:
        """The engine's choices (those of a chat's chunk) as this endpoint tells them."""

    def detoured(self, model: str) -> None:
        self.model = model
        self._head = ""

    def chunk(self, event: Chunk) -> str:
        self._finish_told = self._finish_told or any(choice.get("finish_reason") for choice in event.choices)
        return self._line(self.choices(event.choices))

    def end(self, done: Done) -> str:
        self.is_complete = True
        return "".join(self._ending(done))

    def failure(self, refusal: Refusal) -> str:
        return data_line(error_body(refusal))

    def _ending(self, done: Done) -> Iterator[str]:
        if not self._finish_told:
            yield self._line(self.choices([{"index": 0, "delta": {}, "finish_reason": done.finish_reason}]))
        if self.include_usage:
            yield self._line([], usage_of(done.prompt_tokens, done.completion_tokens))
        yield "data: [DONE]\n\n"

    def _line(self, choices: Choices, usage: dict[str, int] | None = None) -> str:
        """One chunk as an event. With `include_usage` every chunk carries the key, as OpenAI's do."""
        told = f',"usage":{_encode(usage)}' if self.include_usage else ""
        self._head = self._head or self._make_head()
        return f'{self._head},"choices":{_encode(choices)}{told}}}\n\n'

    def _make_head(self) -> str:
        chunk = {
            "id": self.id,
            "object": self.kind,
            "created": self.created,
            "model": self.model,
            "service_tier": self.service_tier,
        }
        return f"data: {_encode(chunk)[:-1]}"


@dataclass
class ChatFrame(ChunkFrame):
    """Chunks of a chat; the first names the role."""

    kind: ClassVar[str] = "chat.completion.chunk"
    _role_told: bool = field(default=False, init=False)

    def choices(self, choices: Choices) -> Choices:
        if not self._role_told:
            self._role_told = True
            return [{**choice, "delta": {"role": "assistant", **choice.get("delta", {})}} for choice in choices]
        return choices


@dataclass
class CompletionFrame(ChunkFrame):
    """Chunks of a completion: text instead of a delta."""

    kind: ClassVar[str] = "text_completion"

    def choices(self, choices: Choices) -> Choices:
        return [
            {
                "index": choice["index"],
                "text": choice.get("delta", {}).get("content") or "",
                "logprobs": None,
                "finish_reason": choice.get("finish_reason"),
            }
            for choice in choices
        ]
