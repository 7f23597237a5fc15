"""Do sixteen web processes that hammer one tenant's quota admit exactly rate · time + burst?"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import redis

from qosqueue.broker.scripts import Scripts
from qosqueue.policy.quota import MINUTE_MS, Kind, Quota
from tests.support.eventually import eventually
from tests.support.hammer import GO, READY

PROCESSES, CALLS = 16, 400
# A burst of 1,000 units, and 16.7 a second: much less than is asked for.
MOST, AMOUNT = 1_000, 3


@pytest.mark.timeout(180)
def test_sixteen_processes_admit_exactly_rate_times_time_plus_burst(redis_client: redis.Redis, valkey_url: str) -> None:
    group = "hammered"
    figures = [str(each) for each in (MOST, AMOUNT, CALLS)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.hammer", valkey_url, group, f"p{number}", *figures],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )
        for number in range(PROCESSES)
    ]
    try:
        eventually(lambda: int(redis_client.get(READY) or 0) == PROCESSES, within_s=60)  # type: ignore[arg-type]
        redis_client.rpush(GO, *range(PROCESSES))
        told = [json.loads(process.communicate(timeout=100)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [len(each) for each in told] == [CALLS] * PROCESSES
    assert all(any(admitted for _, admitted in each) for each in told), "each process was let in at times"
    admitted_ms = sorted(now for each in told for now, admitted in each if admitted)
    last_refused_ms = max(now for each in told for now, admitted in each if not admitted)
    began_ms, taken = admitted_ms[0], len(admitted_ms) * AMOUNT

    # Exactly: once it is full, what was admitted is what was there, and what has been drained since, and no unit less.
    end_ms = max(last_refused_ms, admitted_ms[-1])
    room = (MOST - taken) * MINUTE_MS + MOST * (end_ms - began_ms)
    assert 0 <= room < AMOUNT * MINUTE_MS, "there was room for one more, or one was let in too many"
    # Over any span: no more than its rate times its length, and the burst.
    least = 0
    for number, now in enumerate(admitted_ms):
        least = min(least, AMOUNT * MINUTE_MS * number - MOST * (now - began_ms))
        assert AMOUNT * MINUTE_MS * (number + 1) - MOST * (now - began_ms) - least <= MOST * MINUTE_MS

    # What the server has kept says the same, to the last part of a unit.
    (used,) = Scripts(redis_client, group).admit(request="look", quotas=[Quota("t:one", Kind.TOKENS, MOST, 0)]).used
    assert 0 < used <= taken * MINUTE_MS - MOST * (end_ms - began_ms)
