"""Who sends the requests at their instants? `python -m scripts.bench.real.producer WAY REQUESTS FOLDER`.

REQUESTS is a file with one JSON object a line: the milliseconds after the start at which to send it (`at_ms`) and the
arguments of `send_task` (`message`). The start comes over the broker, as an instant of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from qosqueue.broker.address import connect
from qosqueue.errors import QosqueueError
from qosqueue.settings import load_settings
from scripts.bench.real.journal import Journal
from scripts.bench.real.ways import TASK, make_app
from scripts.bench.real.worker import READY

BEGIN = "bench:begin"
BEGIN_WITHIN_S = 120


def main(way: str, path: Path, folder: Path) -> int:
    """Send all of the file; the exit code."""
    settings, journal = load_settings(), Journal(folder)
    app = make_app(way, settings)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    with app.producer_pool.acquire(block=True) as producer, connect(settings, socket_timeout_s=None) as client:
        producer.connection.ensure_connection(max_retries=1)
        client.sadd(READY, path.name)
        answer: Any = client.blpop([BEGIN], BEGIN_WITHIN_S)
        if answer is None:
            raise QosqueueError(f"nothing came on {BEGIN} within {BEGIN_WITHIN_S} s")
        begin_s = int(answer[1]) / 1e9
        for line in lines:
            time.sleep(max(0.0, begin_s + line["at_ms"] / 1000 - time.monotonic()))
            journal.note("published", line["message"]["args"][0])
            app.send_task(TASK, producer=producer, **line["message"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
