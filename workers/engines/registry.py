"""Which engine runs a model? The one place that knows the engines by name."""

from __future__ import annotations

from collections.abc import Callable

from qosqueue.errors import EngineError
from qosqueue.store.records import Model
from qosqueue_workers.engines.base import Engine
from qosqueue_workers.engines.llama_cpp import LlamaCppEngine
from qosqueue_workers.engines.sentence_bert import SentenceBertEngine
from qosqueue_workers.engines.simulated import SimulatedEngine

ENGINES: dict[str, Callable[[Model], Engine]] = {
    "llama.cpp": LlamaCppEngine,
    "sentence-bert": SentenceBertEngine,
    "simulated": SimulatedEngine,
}


def make_engine(model: Model) -> Engine:
    """An engine for the model, not loaded yet; raises EngineError for an unknown engine or unsound options."""
    make = ENGINES.get(model.engine)
    if make is None:
        raise EngineError(f"model {model.name}: unknown engine {model.engine!r}, expected one of {', '.join(ENGINES)}")
    return make(model)
