"""How does a test run a whole `qosqueue up`, and see what it leaves behind?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qosqueue.service.catalog import Catalog
from qosqueue.settings import PREFIX, Settings
from qosqueue.store.schema import upgrade
from qosqueue.store.session import open_store
from tests.support.eventually import eventually
from tests.support.tiny_gguf import write_tiny_gguf

READY_WITHIN_S = 60.0
END_WITHIN_S = 60.0


class Instance:
    """One `qosqueue up` in a home of its own. `url` is set once it is ready."""

    def __init__(self, home: Path, *arguments: str, **settings: str) -> None:
        self.home = home
        self.environment = environment(home, **settings)
        self._folder = tempfile.TemporaryDirectory(prefix="qq-up-")
        self.stdout, self.stderr = (Path(self._folder.name) / name for name in ("stdout", "stderr"))
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "qosqueue.cli", "up", *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,
            )

    @property
    def url(self) -> str:
        """The URL of its `ready` line, once that is there."""

        def ready() -> str:
            assert self.process.poll() is None, self.stderr.read_text()
            return self.stdout.read_text()

        line = eventually(ready, READY_WITHIN_S)
        word, _, url = line.strip().partition(" ")
        assert word == "ready", line
        return url

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(END_WITHIN_S)

    def processes(self) -> dict[int, str]:
        """Every process of this home, by its environment, with its command line; without the `up` itself."""
        return {pid: line for pid, line in home_processes(self.home).items() if pid != self.process.pid}

    def pid_of(self, words: str) -> int:
        """The process whose command line ends with these words."""
        (found,) = [pid for pid, line in self.processes().items() if line.endswith(words)]
        return found

    def close(self) -> None:
        """End it, by force if need be, and all that it left."""
        if self.process.poll() is None:
            self.stop()
        for pid in home_processes(self.home):
            os.kill(pid, signal.SIGKILL)
        self._folder.cleanup()


@contextmanager
def running(home: Path, *arguments: str, **settings: str) -> Iterator[Instance]:
    """`qosqueue up` on a free port, ended with the block."""
    instance = Instance(home, "--port", "0", *arguments, **settings)
    try:
        yield instance
    finally:
        instance.close()


def environment(home: Path, **settings: str) -> dict[str, str]:
    """This process's environment, with no setting of its own but those that are given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return clean | {f"{PREFIX}HOME": str(home)} | {f"{PREFIX}{name.upper()}": value for name, value in settings.items()}


def command(home: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run one `qosqueue` command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "qosqueue.cli", *words],
        env=environment(home, **settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=END_WITHIN_S,
        check=False,
    )


def add_tiny_model(home: Path, name: str = "smollm2", **options: Any) -> None:
    """Put a model of half a million random parameters into the home's catalog: it loads in a moment."""
    home.mkdir(parents=True, exist_ok=True)
    url = Settings(home=home, database_url=None).sql_url()
    upgrade(url)
    store = open_store(url)
    try:
        given = {"path": str(write_tiny_gguf(home / f"{name}.gguf"))} | options
        Catalog(store).add_model(
            name, "llama.cpp", actor="test", memory_bytes=2_200_000, context_tokens=1024, slots=2, options=given
        )
    finally:
        store.close()


def home_processes(home: Path) -> dict[int, str]:
    """Process id and command line of all that run with this home in their environment."""
    mark = f"{PREFIX}HOME={home}".encode()
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = _command_line(folder)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has ended meanwhile, or is somebody else's
    return {pid: line for pid, line in found.items() if line}


def _command_line(folder: Path) -> str:
    words: Sequence[bytes] = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    return b" ".join(words).decode(errors="replace")
