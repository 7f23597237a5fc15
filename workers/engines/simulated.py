"""What does an engine look like from outside, without a model? SIMULATED: for load tests, never a product engine.

It keeps the time of a batching engine and says words that mean nothing.
"""

from __future__ import annotations

import itertools
import json
import zlib
from threading import Event
from time import monotonic

from qosqueue.errors import EngineError
from qosqueue.store.records import Model
from qosqueue_workers.engines.base import CANCELLED, Capacity, Completion, Emit, EngineRequest
from qosqueue_workers.engines.options import SimulatedOptions, read_options
from qosqueue_workers.engines.slots import SlottedEngine
from qosqueue_workers.engines.text_body import check_text, output_limit, stop_strings, texts, too_long

CHARACTERS_PER_TOKEN = 4
SAID_BEFORE_RESET = 2


class SimulatedEngine(SlottedEngine):
    """A step-time model of an engine, not an engine: no model runs, the text is made up.

    Reading a prompt takes `prefill_ms_per_token` for each token (four characters); then each step gives one token
    and takes `step_ms + step_ms_per_sequence * running`. The same body gives the same text.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model.name, model.slots)
        self._seen = itertools.count(1)
        self._options = read_options(SimulatedOptions, model)
        self._capacity = Capacity(model.slots, model.context_tokens, model.memory_bytes)

    def capacity(self) -> Capacity:
        return self._capacity

    def _describe(self) -> str:
        return "simulated engine (no model runs)"

    def _open(self) -> None:
        """Nothing to load."""

    def _shut(self) -> None:
        """Nothing to free."""

    def _generate(self, request: EngineRequest, emit: Emit, stop: Event) -> Completion:
        check_text(request)
        fault = self._fault_of(next(self._seen))
        if fault == "fails":
            raise EngineError(f"model {self.name}: simulated fault")
        if fault == "hangs":
            stop.wait()
            return Completion("", CANCELLED, 0, 0)
        options, context = self._options, self._capacity.context_tokens
        prompt_tokens = -(-sum(map(len, texts(request))) // CHARACTERS_PER_TOKEN) or 1
        if prompt_tokens >= context:
            raise too_long(request, prompt_tokens, context)
        words, finish_reason = self._answer(request, context - prompt_tokens)
        due = monotonic() + options.prefill_ms_per_token * prompt_tokens / 1000
        said: list[str] = []
        if stop.wait(max(0.0, due - monotonic())):
            return Completion("", CANCELLED, 0, 0)
        emit([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        for word in words:
            due += (options.step_ms + options.step_ms_per_sequence * self.busy()) / 1000
            # Waiting until an instant, not for a while: what `emit` takes does not make the steps longer.
            if stop.wait(max(0.0, due - monotonic())):
                return Completion("".join(said), CANCELLED, prompt_tokens, len(said))
            emit([{"index": 0, "delta": {"content": word}, "finish_reason": None}])
            said.append(word)
            if fault == "resets" and len(said) == SAID_BEFORE_RESET:
                raise EngineError(f"model {self.name}: simulated reset")
        emit([{"index": 0, "delta": {}, "finish_reason": finish_reason}])
        return Completion("".join(said), finish_reason, prompt_tokens, len(said))

    def _fault_of(self, number: int) -> str | None:
        of_these = self._options.faulty_requests
        return self._options.fault if not of_these or number <= of_these else None

    def _answer(self, request: EngineRequest, room: int) -> tuple[list[str], str]:
        """The words (one a token) of the answer, and why it ends; `room` is what is left of the context."""
        wanted = self._options.output_tokens
        asked = output_limit(request.body)
        limit = min(room, wanted if asked is None else asked)
        state = zlib.crc32(json.dumps([request.body.get("seed"), texts(request)]).encode())
        words: list[str] = []
        for _ in range(min(limit, wanted)):
            state = zlib.crc32(state.to_bytes(4, "big"))
            words.append(f"{state:08x} ")
        text = "".join(words)
        stops = [place for stop in stop_strings(request.body) if stop and (place := text.find(stop)) >= 0]
        if stops:
            text = text[: min(stops)]
            width = len(words[0])
            return [text[start : start + width] for start in range(0, len(text), width)], "stop"
        return words, "length" if limit < wanted else "stop"
