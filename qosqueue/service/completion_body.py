"""What may a client send to /v1/completions?"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, Tag

from qosqueue.service.answers import COMPLETIONS
from qosqueue.service.bodies import (
    No,
    NoBias,
    OneAnswer,
    Penalty,
    Sampled,
    Seed,
    Stop,
    StreamOptions,
    TokenLimit,
    as_text_or_list,
)

# OpenAI's own default for this endpoint.
DEFAULT_COMPLETION_TOKENS = 16

Prompt = Annotated[
    Annotated[str, Field(min_length=1), Tag("as text")]
    | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=1), Tag("as list")],
    Discriminator(as_text_or_list),
]


class CompletionBody(Sampled):
    """Body of `POST /v1/completions`: one prompt, as text or a list of one text."""

    endpoint: ClassVar[str] = COMPLETIONS
    prompt_field: ClassVar[str] = "prompt"

    prompt: Prompt
    max_tokens: TokenLimit | None = None
    n: OneAnswer | None = None
    best_of: OneAnswer | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    # What some clients write out although it is what happens anyway.
    echo: No | None = None
    logprobs: None = None
    suffix: None = None
    logit_bias: NoBias | None = None

    def output_tokens(self) -> int:
        """The limit, else 16."""
        return DEFAULT_COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens

    def prompt_texts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    def engine_body(self) -> dict[str, Any]:
        (prompt,) = self.prompt_texts()
        return {"model": self.model, "prompt": prompt, "max_tokens": self.output_tokens(), **self.sampling()}
