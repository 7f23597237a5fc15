"""What may a client send to /v1/embeddings?"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from qosqueue.service.answers import EMBEDDINGS
from qosqueue.service.bodies import BYTES_PER_TOKEN, Asked
from qosqueue.service.whole import WHOLE, as_wholes

MOST_INPUTS = 2048
MOST_TOKENS = 8192

Text = Annotated[str, Field(min_length=1)]
Tokens = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**31)]],
    Field(min_length=1, max_length=MOST_TOKENS),
    BeforeValidator(as_wholes),
]
Dimensions = Annotated[int, Field(ge=1, le=65_536, description="only the model's own number"), WHOLE]


def _kind(value: Any) -> str:
    """Which branch of `Input` a value is meant to be, so that its error is told of that branch alone."""
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, list):
        return "as token lists"
    if isinstance(first, int | float):
        return "as tokens"
    return "as texts" if isinstance(value, list) else "as text"


Input = Annotated[
    Annotated[Text, Tag("as text")]
    | Annotated[list[Text], Field(min_length=1, max_length=MOST_INPUTS), Tag("as texts")]
    | Annotated[Tokens, Tag("as tokens")]
    | Annotated[list[Tokens], Field(min_length=1, max_length=MOST_INPUTS), Tag("as token lists")],
    Discriminator(_kind),
]


class EmbeddingBody(Asked):
    """Body of `POST /v1/embeddings`. Tokens are those of the model's own vocabulary, without marks of begin and end."""

    endpoint: ClassVar[str] = EMBEDDINGS
    prompt_field: ClassVar[str] = "input"

    input: Input
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Dimensions | None = None

    def output_tokens(self) -> int:
        """None: the answer is no text."""
        return 0

    def prompt_tokens(self) -> int:
        """An estimate: of a text one for every 4 bytes, rounded up."""
        return sum(
            -(-len(each.encode()) // BYTES_PER_TOKEN) if isinstance(each, str) else len(each) for each in self._inputs()
        )

    def cannot_fit(self, context_tokens: int) -> bool:
        """Never sure at the door: each input is read by itself, and its tokens may be words of any length."""
        return False

    def engine_body(self) -> dict[str, Any]:
        wanted = {"encoding_format": self.encoding_format, "dimensions": self.dimensions}
        given = {name: value for name, value in wanted.items() if value is not None}
        return {"model": self.model, "input": self._inputs(), **given}

    def _inputs(self) -> list[Any]:
        """Each input by itself."""
        given: Any = self.input
        return [given] if isinstance(given, str) or isinstance(given[0], int) else given
