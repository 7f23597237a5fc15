"""Are the options of a model sound? What each engine takes from `Model.options`; anything else is an error."""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qosqueue.errors import EngineError
from qosqueue.store.records import Model


class LlamaCppOptions(BaseModel):
    """Options of "llama.cpp". `path` None: the SmolLM2 wheel; `threads` None: one for each core but one.

    `chat_template` names a template of llama.cpp, None takes the model file's own. With `use_jinja` templates are
    full Jinja and tools work, but a template may then add a system prompt of its own (SmolLM2 answers worse with it).
    `batch_tokens` is how much of a prompt is read in one step: a cancelled prompt is given up after that many tokens.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    path: str | None = None
    threads: int | None = Field(default=None, ge=1, le=1024)
    chat_template: str | None = "chatml"
    use_jinja: bool = False
    batch_tokens: int = Field(default=128, ge=32, le=65_536)
    reuse_prompts: bool = Field(default=True, description="keep the KV of a slot's last prompt for a common prefix")


class SentenceBertOptions(BaseModel):
    """Options of "sentence-bert". `path` None: the folder in the wheel of all-MiniLM-L6-v2.

    A batch has at most so many texts and tokens; its first text waits up to `wait_ms` for others, unless every slot
    has a request in it.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    path: str | None = None
    threads: int = Field(default=1, ge=1, le=1024)
    batch_texts: int = Field(default=32, ge=1, le=4096)
    batch_tokens: int = Field(default=4096, ge=1, le=1_000_000)
    wait_ms: float = Field(default=2, ge=0, le=1000)


class SimulatedOptions(BaseModel):
    """Options of "simulated": times in ms; a step takes `step_ms` plus `step_ms_per_sequence` for each running one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefill_ms_per_token: float = Field(default=0.1, ge=0)
    step_ms: float = Field(default=5.0, ge=0)
    step_ms_per_sequence: float = Field(default=0.5, ge=0)
    fault: Literal["fails", "hangs", "resets"] | None = Field(
        default=None, description="fails before its first word, hangs before it, or resets after its second"
    )
    faulty_requests: int = Field(default=0, ge=0, description="only so many of the first have the fault; 0: all")
    output_tokens: int = Field(default=64, ge=1, description="length of the answer if the request sets no limit below")


Options = TypeVar("Options", bound=BaseModel)


def read_options(kind: type[Options], model: Model) -> Options:
    """The model's options as `kind`; raises EngineError naming every option at fault."""
    try:
        return kind.model_validate(model.options)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}, got {fault['input']!r}" for fault in error.errors()
        ]
        raise EngineError(
            f"model {model.name}: bad options for engine {model.engine}: {'; '.join(faults)} "
            f"(known: {', '.join(kind.model_fields)})"
        ) from error
