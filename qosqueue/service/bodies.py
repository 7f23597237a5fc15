"""What may a client send? The bodies of the API, strict: an unknown field or a wrong type is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from qosqueue.policy.terms import MAX_BUDGET_MS, SERVICE_TIERS, ServiceTier
from qosqueue.service.answers import CHAT
from qosqueue.service.whole import WHOLE, as_whole

DEFAULT_MAX_TOKENS = 256
MAX_TOKENS = 1_000_000
MAX_MESSAGES = 4096
MAX_TTL_MS = 7 * 86_400_000
MESSAGE_OVERHEAD_TOKENS = 4
BYTES_PER_TOKEN = 4
# No tokenizer in use packs more than this many bytes of ordinary text in a token on average.
MOST_BYTES_PER_TOKEN = 16


def _whole_ms(most: int) -> WrapValidator:
    """Whatever is no whole number of ms from 1 to `most` is told all of that at once."""

    def check(value: Any, handler: Callable[[Any], int]) -> int:
        try:
            return handler(as_whole(value))
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
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1), WHOLE]
TokenLimit = Annotated[int, Field(ge=1, le=MAX_TOKENS), WHOLE]
OneAnswer = Annotated[int, Field(ge=1, le=1, description="only one answer is made"), WHOLE]
AskedTier = Literal["auto", "default", "priority", "flex", "scale", "fast"]
No = Annotated[Literal[False], Field(description="only what changes nothing")]
NoBias = Annotated[dict[str, Any], Field(max_length=0, description="only what changes nothing")]
StopText = Annotated[str, Field(min_length=1, max_length=256)]


class Strict(BaseModel):
    """Base of the bodies: no coercion, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid")


class TextPart(Strict):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str


def as_text_or_list(value: Any) -> str:
    """Which branch of `text or list` a value is meant to be, so that its error is told of that branch alone."""
    return "as list" if isinstance(value, list) else "as text"


Content = Annotated[
    Annotated[str, Tag("as text")] | Annotated[list[TextPart], Field(min_length=1), Tag("as list")],
    Discriminator(as_text_or_list),
]
Stop = Annotated[
    Annotated[StopText, Tag("as text")] | Annotated[list[StopText], Field(max_length=4), Tag("as list")],
    Discriminator(as_text_or_list),
]


class TextFormat(Strict):
    """The only format of an answer."""

    type: Literal["text"] = "text"


class Message(Strict):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: str | None = Field(default=None, max_length=64)

    def text(self) -> str:
        """The content as one string."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)

    def for_engine(self) -> dict[str, str]:
        """The message as engines know it: plain text, and a developer is the system."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.text()}


class StreamOptions(Strict):
    """What a stream carries besides tokens."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Asked(Strict):
    """What the bodies of all endpoints have in common, and what is asked of each before it may run."""

    endpoint: ClassVar[str]
    prompt_field: ClassVar[str]
    # Whether a synchronous answer can be asked for again by its id.
    is_kept: ClassVar[bool] = False

    model: ModelName
    user: str | None = Field(default=None, max_length=256)
    metadata: Metadata | None = None
    service_tier: AskedTier | None = None
    latency_budget_ms: BudgetMs | None = None

    def tier(self) -> ServiceTier:
        """The service tier that OpenAI's word for it means."""
        return SERVICE_TIERS[self.service_tier or "auto"]

    def streams(self) -> bool:
        """Whether the answer is wanted token by token."""
        return False

    def output_tokens(self) -> int:
        """The most tokens that the answer may have."""
        raise NotImplementedError

    def prompt_texts(self) -> list[str]:
        """All the text in the prompt."""
        raise NotImplementedError

    def prompt_tokens(self) -> int:
        """An estimate of the prompt's tokens: one for every 4 bytes of a text, rounded up.

        It serves admission and the estimate of the cost; the engine's own count replaces it at settle.
        """
        return sum(-(-len(text.encode()) // BYTES_PER_TOKEN) for text in self.prompt_texts()) or 1

    def cannot_fit(self, context_tokens: int) -> bool:
        """Whether the prompt is too long for `context_tokens` however it is tokenized. The engine judges the rest."""
        return sum(len(text.encode()) for text in self.prompt_texts()) > MOST_BYTES_PER_TOKEN * context_tokens

    def engine_body(self) -> dict[str, Any]:
        """What the engine needs to know, and nothing else of what the client sent."""
        raise NotImplementedError


class Sampled(Asked):
    """What the bodies share whose answer a model writes."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    stream: bool | None = None

    def streams(self) -> bool:
        return bool(self.stream)

    def sampling(self) -> dict[str, Any]:
        """What of the body decides how the next token is chosen."""
        return self.model_dump(include=_SAMPLING, exclude_none=True)


_SAMPLING = {"temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty"}


class ChatBody(Sampled):
    """Body of `POST /v1/chat/completions`: OpenAI's fields that are served, and `latency_budget_ms`."""

    endpoint: ClassVar[str] = CHAT
    prompt_field: ClassVar[str] = "messages"

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    n: OneAnswer | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    # What some clients write out although it is what happens anyway.
    response_format: TextFormat | None = None
    logprobs: No | None = None
    logit_bias: NoBias | None = None
    store: No | None = None
    tools: None = None
    tool_choice: None = None
    parallel_tool_calls: bool | None = None

    def output_tokens(self) -> int:
        """The smaller of the two limits, else 256."""
        given = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        return min(given, default=DEFAULT_MAX_TOKENS)

    def prompt_texts(self) -> list[str]:
        return [message.text() for message in self.messages]

    def prompt_tokens(self) -> int:
        """The texts' bytes together, and 4 tokens for each message."""
        size = sum(len(text.encode()) for text in self.prompt_texts())
        return -(-size // BYTES_PER_TOKEN) + MESSAGE_OVERHEAD_TOKENS * len(self.messages)

    def engine_body(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [message.for_engine() for message in self.messages],
            "max_tokens": self.output_tokens(),
            **self.sampling(),
        }
