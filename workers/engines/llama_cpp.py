"""How does a GGUF model run in this process? llama.cpp's own batching server, through the library xllamacpp."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Any

from qosqueue.errors import EngineError
from qosqueue.service.answers import COMPLETIONS
from qosqueue.store.records import Model
from qosqueue_workers.engines import model_files
from qosqueue_workers.engines.base import CANCELLED, Capacity, Completion, Emit, EngineRefused, EngineRequest
from qosqueue_workers.engines.options import LlamaCppOptions, read_options
from qosqueue_workers.engines.slots import SlottedEngine
from qosqueue_workers.engines.text_body import check_text, output_limit, too_long

# What of a tenant's body reaches llama.cpp. Its server knows many more fields (slots, caches, adapters) that belong
# to whoever runs it, so nothing passes that is not named here.
PASSED = (
    "messages",
    "prompt",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "response_format",
    "tools",
    "tool_choice",
)

LISTENS_WITHIN_S = 10.0


class LlamaCppEngine(SlottedEngine):
    """A GGUF model in this process, `slots` sequences batched together, each with `context_tokens` of its own."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.name, model.slots)
        self._options = read_options(LlamaCppOptions, model)
        self._context_tokens = model.context_tokens
        self._server: Any = None

    def capacity(self) -> Capacity:
        """As the interface says; raises EngineError if the model file is missing or damaged."""
        path = model_files.find_model(self._options.path)
        memory = model_files.memory_bytes(path, self._context_tokens, self._slots)
        return Capacity(self._slots, self._context_tokens, memory)

    def check(self) -> None:
        """As the interface says: the library is installed, and the model file is there and a GGUF."""
        self._find()

    def _describe(self) -> str:
        return "llama.cpp"

    def _find(self) -> Path:
        """The model file, after a look at it; the errors name the model."""
        if find_spec("xllamacpp") is None:
            raise EngineError(
                f"model {self.name}: engine llama.cpp needs xllamacpp; fix: pip install 'qosqueue[llama]'"
            )
        try:
            path = model_files.find_model(self._options.path)
            model_files.read_header(path)
        except (EngineError, OSError, RuntimeError) as error:
            raise EngineError(f"model {self.name}: {error}") from error
        return path

    def _open(self) -> None:
        path = self._find()
        try:
            import xllamacpp
        except ImportError as error:
            raise EngineError(f"model {self.name}: xllamacpp cannot be loaded: {error}") from error
        # xllamacpp always opens an HTTP listener, on a TCP port if it is let. Here it gets a socket file in a
        # private folder and a key that nobody keeps; the folder goes once it listens, so nobody can ever connect.
        hidden = Path(tempfile.mkdtemp(prefix="qq-"))
        try:
            server = xllamacpp.Server(self._parameters(xllamacpp, path, hidden / "llama.sock"))
            _await_listener(hidden / "llama.sock")
            _await_loop(server)
            self._server = server
        except (RuntimeError, OSError) as error:
            raise EngineError(f"model {self.name}: llama.cpp cannot load {path}: {error}") from error
        finally:
            shutil.rmtree(hidden)

    def _parameters(self, xllamacpp: Any, path: Path, socket_path: Path) -> Any:
        options = self._options
        given = xllamacpp.CommonParams()
        given.model.path = str(path)
        given.n_ctx = self._context_tokens * self._slots
        given.n_parallel = self._slots
        given.n_batch = options.batch_tokens
        given.n_ubatch = min(options.batch_tokens, given.n_ubatch)
        given.cpuparams.n_threads = given.cpuparams_batch.n_threads = options.threads or spare_cores()
        given.use_jinja = options.use_jinja
        given.chat_template = options.chat_template or ""
        # Memory as `capacity` tells it: no cache of old prompts in host memory, no context made smaller to fit.
        given.cache_ram_mib = 0
        given.fit_params = False
        given.verbosity = 0
        given.hostnames = [str(socket_path)]
        given.api_keys = [secrets.token_urlsafe(32)]
        given.endpoint_slots = given.ui = False
        return given

    def _shut(self) -> None:
        self._server = None

    def _generate(self, request: EngineRequest, emit: Emit, stop: Event) -> Completion:
        check_text(request)
        reply = _Reply(request, emit, stop, self._context_tokens)
        server = self._server
        run = server.handle_completions if request.endpoint == COMPLETIONS else server.handle_chat_completions
        try:
            run(self._body(request), reply)
        except ValueError as error:
            raise EngineRefused("invalid_value", str(error)) from error
        except RuntimeError as error:
            raise EngineError(f"model {self.name}: llama.cpp failed: {error}") from error
        return reply.completion(self.name)

    def _body(self, request: EngineRequest) -> dict[str, Any]:
        body = {name: request.body[name] for name in PASSED if request.body.get(name) is not None}
        if body.get("tools") and not self._options.use_jinja:
            raise EngineRefused("invalid_value", f"tools: model {self.name} does not take tools", "tools")
        limit = output_limit(request.body)
        if limit is not None:
            body["max_tokens"] = limit
        # Progress and timings: the first make llama.cpp call back after each batch of the prompt, so that it can be
        # given up there; the second count the tokens of an answer that is cut short.
        return body | {
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,
            "timings_per_token": True,
            "cache_prompt": self._options.reuse_prompts,
        }


class _Reply:
    """Takes llama.cpp's chunks of one answer: passes the choices on and gathers the completion.

    llama.cpp stops when a call returns True. It swallows what a callback raises, so that is kept for later.
    """

    def __init__(self, request: EngineRequest, emit: Emit, stop: Event, context_tokens: int) -> None:
        self._request = request
        self._emit = emit
        self._stop = stop
        self._context_tokens = context_tokens
        self._text: list[str] = []
        self._finish_reason = ""
        self._prompt_tokens = self._completion_tokens = 0
        self._raised: BaseException | None = None
        self._error: dict[str, Any] | None = None

    def __call__(self, chunk: dict[str, Any]) -> bool:
        try:
            return self._take(chunk)
        except BaseException as error:
            self._raised = error
            return True

    def _take(self, chunk: dict[str, Any]) -> bool:
        if "error" in chunk:
            self._error = chunk["error"]
            return True
        if "timings" in chunk:
            timings = chunk["timings"]
            self._prompt_tokens = timings["cache_n"] + timings["prompt_n"]
            self._completion_tokens = timings["predicted_n"]
        if "usage" in chunk:
            self._prompt_tokens = chunk["usage"]["prompt_tokens"]
            self._completion_tokens = chunk["usage"]["completion_tokens"]
        if self._stop.is_set():
            return not self._finish_reason
        if chunk["choices"] and "prompt_progress" not in chunk:
            choices = [_as_in_a_chat(choice) for choice in chunk["choices"]]
            for choice in choices:
                self._text.append(choice["delta"].get("content") or "")
                self._finish_reason = choice["finish_reason"] or self._finish_reason
            self._emit(choices)
        return False

    def completion(self, model: str) -> Completion:
        """The answer, once llama.cpp has returned; raises what `emit` raised, EngineRefused or EngineError."""
        if self._raised is not None:
            raise self._raised
        if self._error is not None:
            if self._error.get("type") == "exceed_context_size_error":
                raise too_long(self._request, self._error["n_prompt_tokens"], self._context_tokens)
            if self._error.get("code") == 400:
                raise EngineRefused("invalid_value", str(self._error.get("message")))
            raise EngineError(f"model {model}: llama.cpp failed: {self._error.get('message')}")
        if not self._finish_reason and not self._stop.is_set():
            raise EngineError(f"model {model}: llama.cpp ended without a finish reason")
        finish_reason = self._finish_reason or CANCELLED
        return Completion("".join(self._text), finish_reason, self._prompt_tokens, self._completion_tokens)


def _as_in_a_chat(choice: dict[str, Any]) -> dict[str, Any]:
    """A choice as `emit` takes it: that of a completion has its text elsewhere."""
    if "delta" in choice:
        return choice
    return {"index": choice["index"], "delta": {"content": choice["text"]}, "finish_reason": choice["finish_reason"]}


def _await_listener(socket_path: Path) -> None:
    """Return once the library's HTTP listener answers; raises OSError if it does not in time.

    A server that is freed before its listener or its loop runs waits for them for ever (xllamacpp 2026.10.11549).
    """
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(LISTENS_WITHIN_S)
        listener.connect(str(socket_path))
        listener.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        if not listener.recv(1):
            raise OSError("its HTTP listener closed the connection")


def _await_loop(server: Any) -> None:
    """Return once the library's loop has made one token: the model works, and the server may be freed safely."""
    faults: list[Any] = []
    body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1, "cache_prompt": False}
    server.handle_chat_completions(body, lambda answer: faults.append(answer["error"]) if "error" in answer else None)
    if faults:
        raise RuntimeError(f"its first token failed: {faults[0]}")


def spare_cores() -> int:
    """All cores that this process may run on but one, which is left to broker, web and clients.

    llama.cpp's threads wait for each other at every step: with as many of them as cores, each moment in which
    something else runs stops them all (measured: from 110 tokens/s to 3 on two busy cores).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)
