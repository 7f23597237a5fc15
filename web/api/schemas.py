"""What may a client send? The bodies and queries of the API, strict: an unknown field or a wrong type is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from qosqueue.policy.terms import MAX_BUDGET_MS

CHAT_ENDPOINT: Final = "/v1/chat/completions"
DEFAULT_MAX_TOKENS = 256
MAX_TOKENS = 1_000_000
MAX_MESSAGES = 4096
MAX_TTL_MS = 7 * 86_400_000
MAX_WAIT_S = 60
MAX_PAGE = 100
MESSAGE_OVERHEAD_TOKENS = 4
BYTES_PER_TOKEN = 4
# No tokenizer in use packs more than this many bytes of ordinary text in a token on average.
MOST_BYTES_PER_TOKEN = 16


def _whole_ms(most: int) -> WrapValidator:
    """Whatever is no whole number of ms from 1 to `most` is told all of that at once."""

    def check(value: Any, handler: Callable[[Any], int]) -> int:
        try:
            return handler(value)
        except ValidationError as error:
            told = f"expected a whole number of milliseconds from 1 to {most}"
            raise PydanticCustomError("milliseconds", "{told}", {"told": told}) from error

    return WrapValidator(check)


ModelName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
BudgetMs = Annotated[
    int,
    Field(ge=1, le=MAX_BUDGET_MS, description="the answer should begin within so many milliseconds"),
    _whole_ms(MAX_BUDGET_MS),
]
DeadlineMs = Annotated[
    int,
    Field(ge=1, le=MAX_TTL_MS, description="milliseconds from now after which nobody wants the answer"),
    _whole_ms(MAX_TTL_MS),
]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
Penalty = Annotated[float, Field(ge=-2, le=2)]
StopText = Annotated[str, Field(min_length=1, max_length=256)]


class Strict(BaseModel):
    """Base of the bodies: no coercion, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid")


class TextPart(Strict):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str


def _branch(value: Any) -> str:
    """Which branch of `text or list` a value is meant to be, so that its error is told of that branch alone."""
    return "as list" if isinstance(value, list) else "as text"


Content = Annotated[
    Annotated[str, Tag("as text")] | Annotated[list[TextPart], Field(min_length=1), Tag("as list")],
    Discriminator(_branch),
]
Stop = Annotated[
    Annotated[StopText, Tag("as text")] | Annotated[list[StopText], Field(max_length=4), Tag("as list")],
    Discriminator(_branch),
]


class Message(Strict):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: str | None = Field(default=None, max_length=64)

    def text(self) -> str:
        """The content as one string."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(Strict):
    """What a stream carries besides tokens."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatBody(Strict):
    """Body of `POST /v1/chat/completions`: OpenAI's fields that are served, and `latency_budget_ms`."""

    model: ModelName
    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    n: int | None = Field(default=None, ge=1, le=1, description="only one answer is made")
    stop: Stop | None = None
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    user: str | None = Field(default=None, max_length=256)
    metadata: Metadata | None = None
    service_tier: Literal["auto", "default", "priority", "flex", "scale", "fast"] | None = None
    latency_budget_ms: BudgetMs | None = None

    def output_tokens(self) -> int:
        """The most tokens that the answer may have: the smaller of the two limits, else 256."""
        given = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        return min(given, default=DEFAULT_MAX_TOKENS)

    def prompt_bytes(self) -> int:
        """UTF-8 length of all the text in the prompt."""
        return sum(len(message.text().encode()) for message in self.messages)

    def prompt_tokens(self) -> int:
        """An estimate of the prompt's tokens: one for every 4 bytes (rounded up) and 4 for each message.

        It serves admission and the estimate of the cost; the engine's own count replaces it at settle.
        """
        return -(-self.prompt_bytes() // BYTES_PER_TOKEN) + MESSAGE_OVERHEAD_TOKENS * len(self.messages)

    def cannot_fit(self, context_tokens: int) -> bool:
        """Whether the prompt is too long for `context_tokens` however it is tokenized. The engine judges the rest."""
        return self.prompt_bytes() > MOST_BYTES_PER_TOKEN * context_tokens

    def engine_body(self) -> dict[str, Any]:
        """What the engine needs to know, and nothing else of what the client sent."""
        sampling = self.model_dump(
            include={"temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty"}, exclude_none=True
        )
        messages = [
            {"role": "system" if message.role == "developer" else message.role, "content": message.text()}
            for message in self.messages
        ]
        return {"model": self.model, "messages": messages, "max_tokens": self.output_tokens(), **sampling}


class JobBody(Strict):
    """Body of `POST /v1/jobs`."""

    endpoint: Literal["/v1/chat/completions"] = CHAT_ENDPOINT
    body: ChatBody
    task_type: Literal["async", "batch"] = "async"
    latency_budget_ms: BudgetMs | None = None
    deadline_ms: DeadlineMs | None = None
    metadata: Metadata | None = None


class JobPath(BaseModel):
    """Which job."""

    id: str


class ModelPath(BaseModel):
    """Which model."""

    name: str


class JobQuery(BaseModel):
    """How long to wait for the job's end, in seconds; `Prefer: wait=N` says the same."""

    model_config = ConfigDict(extra="forbid")
    wait: float | None = Field(default=None, ge=0, le=MAX_WAIT_S, allow_inf_nan=False)


class JobsQuery(BaseModel):
    """Which page of the jobs, newest first: those made before the job with the id `before`."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(default=20, ge=1, le=MAX_PAGE)
    before: str | None = Field(default=None, pattern=r"^job_[0-9a-f]{24}$")
