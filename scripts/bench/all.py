"""What does every benchmark say now? `make bench-all`: runs them and keeps what they say.

Those in simulated time run side by side, one for each core; before them, one after the other, those that measure time.

The rows of docs/results.md come from docs/results.json, in which each benchmark's last run replaces the one before;
pictures are kept in docs/pictures. A benchmark that fails keeps its old rows and stops no other; the exit code is 1.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime
from pathlib import Path
from typing import Any

from qosqueue.errors import QosqueueError
from scripts import results_table
from scripts.bench.catalog import CATALOG, QUICK, Bench
from scripts.bench.machine import REPOSITORY, commit
from scripts.bench.report import OUT, progress
from scripts.generated_block import with_block

PICTURES = REPOSITORY / "docs" / "pictures"
LARGEST_PICTURE_BYTES = 200_000


def main(given: Sequence[str] | None = None) -> int:
    """Run and keep; the exit code: 0 when all ran, whatever their figures are."""
    options = _options(given)
    more = [QUICK] if options.quick else []
    began, at_commit = datetime.now().astimezone(), commit()
    into = OUT / f"{began:%Y%m%d-%H%M%S}-all"
    new: list[dict[str, Any]] = []
    failed: list[str] = []
    for bench, record in _ran(options.benches, options.jobs, more, into):
        if record is None:
            failed.append(bench.name)
            continue
        new.append(record | {"bench": bench.name, "commit": at_commit, "command": bench.command(*more)})
        keep(new)
    print(results_table.text(results_table.merged([], new, [bench.name for bench in CATALOG])), file=sys.stderr)
    if failed:
        progress(f"failed: {', '.join(failed)}")
    if options.json:
        print(json.dumps({"records": new, "failed": failed}))
    return int(bool(failed))


def _ran(
    benches: Sequence[Bench], jobs: int, more: Sequence[str], into: Path
) -> Iterator[tuple[Bench, dict[str, Any] | None]]:
    """Each benchmark with its record, None if it failed, as they end."""

    def one(bench: Bench) -> tuple[Bench, dict[str, Any] | None]:
        progress(f"== {bench.command(*more)}")
        began_s = time.monotonic()
        try:
            record = run(bench, more, into / bench.name)
        except QosqueueError as error:
            progress(f"== {bench.name} failed: {error}")
            return bench, None
        progress(f"== {bench.name}: {time.monotonic() - began_s:.0f} s")
        return bench, record

    yield from map(one, (bench for bench in benches if bench.timed))
    with ThreadPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(one, bench) for bench in benches if not bench.timed]):
            yield done.result()


def run(bench: Bench, more: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run one in a process of its own; its record. Raises QosqueueError if it fails."""
    command = [sys.executable, "-m", f"scripts.bench.{bench.module}", *bench.given(*more)]
    env = {**os.environ, "BENCH_OUT": str(folder)}
    code = subprocess.run(command, cwd=REPOSITORY, env=env, stdout=subprocess.DEVNULL, check=False).returncode
    left = sorted(folder.glob("*.json"))
    if code or not left:
        raise QosqueueError(f"exit code {code}" if code else "it left no record")
    record: dict[str, Any] = json.loads(left[-1].read_text("utf-8"))
    if bench.elsewhere:
        return record | {"pictures": []}
    for name in record["pictures"]:
        _keep_picture(left[-1].with_name(f"{left[-1].stem}-{name}.svg"), f"{bench.name}-{name}.svg")
    if bench.timed and not record["pictures"]:
        _keep_picture(left[-1].with_suffix(".svg"), f"{bench.name}-bars.svg")
        record["pictures"] = ["bars"]
    return record


def keep(new: Sequence[dict[str, Any]]) -> None:
    """Put the records in place of the benchmarks' old ones, and write the page's table anew."""
    old = {record["bench"]: record for record in results_table.load(results_table.KEPT)}
    for record in new:
        # A quick run may draw less; what a full one drew stays on the page.
        before = old.get(record["bench"], {}).get("pictures", [])
        record["pictures"] = list(dict.fromkeys([*before, *record["pictures"]]))
    records = results_table.merged(list(old.values()), new, [bench.name for bench in CATALOG])
    results_table.KEPT.write_text(f"{json.dumps(records, indent=1)}\n", "utf-8")
    page = results_table.PAGE.read_text("utf-8")
    results_table.PAGE.write_text(with_block(page, results_table.NAME, results_table.markdown(records)), "utf-8")


def _keep_picture(drawn: Path, name: str) -> None:
    if (size := drawn.stat().st_size) > LARGEST_PICTURE_BYTES:
        raise QosqueueError(f"the picture {name} has {size} bytes, at most {LARGEST_PICTURE_BYTES} are kept")
    PICTURES.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(drawn, PICTURES / name)


def _options(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-all", description=__doc__.split("\n")[0])
    known = {bench.name: bench for bench in CATALOG if bench.there}
    parser.add_argument("--quick", action="store_true", help="smaller trials; the rows say so in their command")
    parser.add_argument("--only", help=f"names with commas between, * for any part, of: {', '.join(known)}")
    parser.add_argument("--real", action="store_true", help="also those on real Celery workers")
    cores = os.cpu_count() or 1
    parser.add_argument(
        "--jobs", type=int, default=cores, help=f"simulations side by side (default {cores}: the cores)"
    )
    parser.add_argument("--json", action="store_true", help="print what the runs left as one JSON object")
    options = parser.parse_args(given)
    if options.jobs < 1:
        parser.error(f"argument --jobs: expected a number above 0, got {options.jobs}")
    wanted = [name.strip() for name in options.only.split(",")] if options.only else ["*"]
    if unknown := [name for name in wanted if not fnmatch.filter(known, name)]:
        parser.error(f"argument --only: expected some of {', '.join(known)}, got {', '.join(unknown)}")
    missing = [bench.name for bench in CATALOG if bench.trace and not bench.there]
    if missing and not options.only:
        progress(f"no traces here (TRACES=folder), left out: {', '.join(missing)}")
    found = [name for pattern in wanted for name in fnmatch.filter(known, pattern)]
    options.benches = [
        known[name] for name in dict.fromkeys(found) if options.only or options.real or not name.endswith("-real")
    ]
    return options


if __name__ == "__main__":
    sys.exit(main())
