"""Does usage add up to the results, whatever course requests take?"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from qosqueue.policy.lifecycle import JobEvent, JobStatus
from qosqueue.policy.terms import Tier
from qosqueue.service.accounts import Accounts
from qosqueue.service.attempts import Attempts
from qosqueue.store.decisions import MOST, Decisions
from qosqueue.store.job_record import JobRecord
from qosqueue.store.session import open_store
from qosqueue.store.tables import JobRow
from qosqueue.store.usage import FIGURES, UsageRecord, day_of
from tests.support.jobs import WAITING
from tests.support.tables import make_tables

JOBS = [f"job_{number:024x}" for number in range(4)]
FENCES = st.integers(1, 4)
TOKENS = st.integers(0, 1_000)
EVENTS = st.one_of(
    st.tuples(st.just("begin"), st.sampled_from(JOBS), FENCES),
    st.tuples(st.just("finish"), st.sampled_from(JOBS), FENCES, TOKENS, TOKENS),
    st.tuples(st.just("cancelled"), st.sampled_from(JOBS), FENCES, TOKENS, TOKENS),
    st.tuples(st.just("fail"), st.sampled_from(JOBS), FENCES),
    st.tuples(st.just("lose"), st.sampled_from(JOBS), FENCES),
    st.tuples(st.just("replay"), st.sampled_from(JOBS), FENCES),
    st.tuples(st.just("expire"), st.sampled_from(JOBS)),
    st.tuples(st.just("withdraw"), st.sampled_from(JOBS)),
    st.tuples(st.just("online"), st.integers(0, 3), st.one_of(st.none(), TOKENS), TOKENS),
)


@settings(max_examples=40)
@given(st.lists(EVENTS, max_size=50))
def test_usage_is_the_sum_of_the_results(events: list[tuple[Any, ...]]) -> None:
    """Retries, late words of lost attempts, cancellations, replays, rows that are written twice."""
    with tempfile.TemporaryDirectory(prefix="qq-") as folder:
        url = f"sqlite:///{Path(folder) / 'q.db'}"
        make_tables(url)
        store = open_store(url)
        try:
            tenants = [Accounts(store).create_tenant(name, Tier.VIP, actor="test").id for name in "ab"]
            record = JobRecord(store)
            attempts = Attempts(record)
            record.insert([WAITING | {"id": job, "tenant_id": tenants[number % 2]} for number, job in enumerate(JOBS)])
            does = _doers(record, attempts, tenants)
            for what, *how in events:
                does[what](*how)
            with store.session() as session:
                rows = list(session.scalars(select(JobRow).where(JobRow.gpu_ms.is_not(None))))
            results: dict[tuple[str, str, str], Counter[str]] = {}
            for row in rows:
                key = day_of(row.finished_ms or 0), row.tenant_id, row.model
                used = [1, row.prompt_tokens or 0, row.completion_tokens or 0, row.gpu_ms or 0]
                results.setdefault(key, Counter()).update(dict(zip(FIGURES, used, strict=True)))
            usage = {
                (used.day, used.tenant_id, used.model): {name: getattr(used, name) for name in FIGURES}
                for used in UsageRecord(store).list()
            }
            assert usage == {key: dict(figures) for key, figures in results.items()}
            assert all(row.status in (JobStatus.SUCCEEDED, JobStatus.CANCELLED) for row in rows)
            assert all(len(Decisions(store).of(job)) <= MOST for job in JOBS)
        finally:
            store.close()


def _doers(record: JobRecord, attempts: Attempts, tenants: list[str]) -> dict[str, Callable[..., object]]:
    def used(prompt: int, completion: int) -> dict[str, int]:
        return {"prompt_tokens": prompt, "completion_tokens": completion, "gpu_ms": prompt + 1}

    def online(number: int, gpu_ms: int | None, tokens: int) -> None:
        row = WAITING | {"id": f"job_online{number}", "tenant_id": tenants[number % 2], "status": JobStatus.SUCCEEDED}
        row |= {"gpu_ms": gpu_ms, "prompt_tokens": tokens, "finished_ms": 1_700_000_000_000 + 80_000_000 * number}
        try:
            record.insert([row])
        except IntegrityError:
            return  # it is on record: the whole transaction did nothing

    return {
        "begin": lambda job, fence: attempts.begin(job, fence, "w"),
        "finish": lambda job, fence, *tokens: attempts.finish(job, fence, {}, first_token_ms=1, **used(*tokens)),
        "cancelled": lambda job, fence, *tokens: attempts.cancelled(job, fence, **used(*tokens)),
        "fail": lambda job, fence: attempts.fail(job, fence, {"code": "engine_failed"}),
        "lose": lambda job, fence: record.move(job, JobEvent.LEASE_LOST, fence=fence),
        "replay": lambda job, fence: record.move(job, JobEvent.REPLAYED, fence=fence, error=None, finished_ms=None),
        "expire": attempts.expire,
        "withdraw": lambda job: record.move(job, JobEvent.CANCEL, finished_ms=1_700_000_000_000),
        "online": online,
    }
