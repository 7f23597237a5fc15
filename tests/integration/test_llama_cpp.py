"""Does the llama.cpp engine keep to itself, give up prompts early, and answer sensibly with a real model?"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from threading import Event

import pytest

from qosqueue.errors import EngineError
from qosqueue.policy.terms import WeightClass
from qosqueue.store.records import Model
from qosqueue_workers.engines.base import Choices, EngineRequest
from qosqueue_workers.engines.llama_cpp import LlamaCppEngine
from qosqueue_workers.engines.model_files import INSTALL, find_model, memory_bytes
from tests.support.tiny_gguf import write_tiny_gguf


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")


def engine_for(context_tokens: int, **options: object) -> LlamaCppEngine:
    return LlamaCppEngine(Model("m", "llama.cpp", WeightClass.LIGHT, 1, context_tokens, 2, options, True, 0))


def ask(content: str, max_tokens: int) -> EngineRequest:
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": max_tokens, "temperature": 0}
    return EngineRequest("r1", "/v1/chat/completions", body)


def ignore(_choices: Choices) -> None:
    """Takes chunks of which nothing is asked."""


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's list of sockets")
def test_nothing_can_connect_to_the_librarys_http_server(tiny: Path) -> None:
    before = _listening_tcp()
    engine = engine_for(512, path=str(tiny))
    engine.load()
    assert _listening_tcp() == before
    address = engine._server.listening_address
    assert address.startswith("unix://")
    assert not Path(address.removeprefix("unix://")).parent.exists()
    assert engine.stream(ask("Hello", 3), ignore).completion_tokens == 3
    engine.close()


def _listening_tcp() -> set[str]:
    """Inodes of the TCP sockets on which this process listens."""
    own = {os.readlink(fd) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()}
    rows = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[9] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own}


def test_the_worker_log_stays_clean_and_the_process_ends_well(tiny: Path) -> None:
    lines = [
        "import sys",
        "from qosqueue.policy.terms import WeightClass",
        "from qosqueue.store.records import Model",
        "from qosqueue_workers.engines.base import EngineRequest",
        "from qosqueue_workers.engines.llama_cpp import LlamaCppEngine",
        "m = Model('m', 'llama.cpp', WeightClass.LIGHT, 1, 512, 2, {'path': sys.argv[1]}, True, 0)",
        "engine = LlamaCppEngine(m)",
        "engine.load()",
        "body = {'messages': [{'role': 'user', 'content': 'Hi'}], 'max_tokens': 4}",
        "engine.stream(EngineRequest('r', '/v1/chat/completions', body), lambda choices: None)",
        "engine.close()",
    ]
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), str(tiny)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


class SetAfter(Event):
    """A stop request that comes with the `asked`-th look at it."""

    def __init__(self, asked: int) -> None:
        super().__init__()
        self.left = asked

    def is_set(self) -> bool:
        self.left -= 1
        return self.left <= 0


def test_a_prompt_is_given_up_between_two_batches(tiny: Path) -> None:
    engine = engine_for(4096, path=str(tiny), batch_tokens=32)
    engine.load()
    whole = engine.stream(ask("a" * 1000, 1), ignore)
    chunks: list[Choices] = []
    completion = engine._generate(ask("b" * 1000, 1), chunks.append, SetAfter(4))
    assert whole.prompt_tokens > 1000
    assert 0 < completion.prompt_tokens < 500
    assert (completion.text, completion.finish_reason, chunks) == ("", "cancelled", [])
    engine.close()


def test_fields_of_the_native_server_do_not_pass(tiny: Path) -> None:
    engine = engine_for(512, path=str(tiny))
    engine.load()
    request = ask("Hello", 5)
    request.body.update({"n_predict": 100, "grammar": 'root ::= "zzz"', "id_slot": 7, "stream": False})
    assert engine.stream(request, ignore) == engine.stream(ask("Hello", 5), ignore)
    engine.close()


def test_memory_is_the_file_and_the_cache_of_every_slot(tiny: Path) -> None:
    layers, heads, head_length, bytes_per_number = 2, 4, 32, 2
    token = 2 * layers * heads * head_length * bytes_per_number
    assert memory_bytes(tiny, 512, 3) == tiny.stat().st_size + token * 512 * 3
    assert engine_for(512, path=str(tiny)).capacity().memory_bytes == memory_bytes(tiny, 512, 2)


def test_a_missing_model_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for(512, path=str(tmp_path / "none.gguf"))
    for look in (engine.check, engine.load):
        with pytest.raises(
            EngineError, match=r"^model \S+: no model file at \S+none\.gguf; fix: correct the option `path`$"
        ):
            look()
    assert not engine.health().ok

    def gone(_name: str) -> None:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "files", gone)
    with pytest.raises(EngineError) as error:
        find_model(None)
    assert INSTALL in str(error.value)


@pytest.mark.parametrize("content", [b"", b"MZ not a model", b"GGUF\x03\x00\x00\x00"])
def test_a_damaged_model_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    engine = engine_for(512, path=str(path))
    for look in (engine.check, engine.load):
        with pytest.raises(EngineError, match=r"^model \S+: \S+bad\.gguf is"):
            look()


def test_a_real_model_knows_the_capital_of_france() -> None:
    try:
        find_model(None)
    except EngineError as error:
        pytest.skip(str(error))
    engine = engine_for(2048)
    engine.load()
    completion = engine.stream(ask("What is the capital of France?", 32), ignore)
    assert "Paris" in completion.text
    assert completion.finish_reason == "stop"
    engine.close()
