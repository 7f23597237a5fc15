"""What may a client send to /v1/responses?"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from qosqueue.service.answers import RESPONSES
from qosqueue.service.bodies import (
    DEFAULT_MAX_TOKENS,
    MAX_MESSAGES,
    MESSAGE_OVERHEAD_TOKENS,
    Message,
    Sampled,
    Strict,
    TextFormat,
    TokenLimit,
    as_text_or_list,
)


class InputText(Strict):
    """A piece of an input message; what a model has said before comes back as `output_text`."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class InputMessage(Strict):
    """One turn of a conversation, as a client writes it or as it found it in a response's output."""

    type: Literal["message"] | None = None
    id: str | None = None
    status: str | None = None
    phase: str | None = None
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[str, Tag("as text")] | Annotated[list[InputText], Field(min_length=1), Tag("as list")],
        Discriminator(as_text_or_list),
    ]

    def as_message(self) -> Message:
        """The same turn of a chat."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message(role=self.role, content=text)


class TextConfig(Strict):
    """How the answer is to look."""

    format: TextFormat | None = None


class ResponseBody(Sampled):
    """Body of `POST /v1/responses`: text or messages in, text out; nothing of an earlier response is remembered."""

    model_config = ConfigDict(
        json_schema_extra={
            "not": {
                "properties": {"background": {"const": True}, "stream": {"const": True}},
                "required": ["background", "stream"],
            }
        }
    )

    endpoint: ClassVar[str] = RESPONSES
    prompt_field: ClassVar[str] = "input"
    is_kept: ClassVar[bool] = True

    input: Annotated[
        Annotated[str, Field(min_length=1), Tag("as text")]
        | Annotated[list[InputMessage], Field(min_length=1, max_length=MAX_MESSAGES), Tag("as list")],
        Discriminator(as_text_or_list),
    ]
    instructions: str | None = None
    max_output_tokens: TokenLimit | None = None
    background: bool | None = None
    store: Literal[True] | None = Field(default=None, description="every response is kept")
    text: TextConfig | None = None

    def output_tokens(self) -> int:
        """The limit, else 256."""
        return DEFAULT_MAX_TOKENS if self.max_output_tokens is None else self.max_output_tokens

    def messages(self) -> list[Message]:
        """The chat that this is: the instructions come first."""
        first = [] if self.instructions is None else [Message(role="system", content=self.instructions)]
        if isinstance(self.input, str):
            return [*first, Message(role="user", content=self.input)]
        return [*first, *(message.as_message() for message in self.input)]

    def prompt_texts(self) -> list[str]:
        return [message.text() for message in self.messages()]

    def prompt_tokens(self) -> int:
        return super().prompt_tokens() + MESSAGE_OVERHEAD_TOKENS * len(self.messages())

    def asked(self) -> dict[str, Any]:
        """What of the body is told in every view of the response."""
        return {
            "instructions": self.instructions,
            "metadata": self.metadata or {},
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_output_tokens": self.max_output_tokens,
            "background": bool(self.background),
        }

    def engine_body(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [message.for_engine() for message in self.messages()],
            "max_tokens": self.output_tokens(),
            **self.sampling(),
            "asked": self.asked(),
        }
