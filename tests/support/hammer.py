"""What does one of many web processes do to one tenant's quota? It asks without a pause, and prints what it was told.

`python -m tests.support.hammer URL GROUP NAME MOST AMOUNT CALLS`: waits for a token of the list `go`, then calls.
"""

from __future__ import annotations

import json
import sys

from qosqueue.broker.address import connect
from qosqueue.broker.scripts import Scripts
from qosqueue.policy.quota import Kind, Quota
from qosqueue.settings import Settings

READY, GO = "hammer:ready", "hammer:go"
START_WITHIN_S = 60


def main(url: str, group: str, name: str, most: int, amount: int, calls: int) -> None:
    """Print [[server's ms, 1 admitted or 0], …]."""
    client = connect(Settings(redis_url=url), socket_timeout_s=START_WITHIN_S + 5)
    scripts = Scripts(client, group)
    quota = Quota("t:one", Kind.TOKENS, most, amount)
    client.incr(READY)
    assert client.blpop(GO, timeout=START_WITHIN_S) is not None
    told = []
    for number in range(calls):
        verdict = scripts.admit(request=f"{name}-{number}", quotas=[quota])
        told.append([verdict.now, int(verdict.admitted)])
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    url, group, name, *figures = sys.argv[1:]
    main(url, group, name, *map(int, figures))
