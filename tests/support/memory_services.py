"""What do the HTTP routes talk to when no broker and no worker is there?

Accounts, catalog, files, batches and webhooks are the real ones over SQLite; jobs, online calls and replicas are kept
in memory, so that a test can say exactly what happens to a request, and when.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import redis

from qosqueue.broker.replicas import LiveReplica, Replica, ReplicaState
from qosqueue.errors import NotFound
from qosqueue.policy.lifecycle import TERMINAL, JobStatus
from qosqueue.policy.profile import Facts, Profile, make_profile
from qosqueue.policy.refusal import NO_RATES, Rates, Refusal
from qosqueue.policy.terms import Tier, WeightClass
from qosqueue.service.accounts import Accounts
from qosqueue.service.batches import Batches
from qosqueue.service.catalog import Catalog
from qosqueue.service.explain import Explanations
from qosqueue.service.files import Files
from qosqueue.service.home_keys import webhook_key
from qosqueue.service.idempotency import Idempotency
from qosqueue.service.jobs import Accepted
from qosqueue.service.online import Chunk, Done, Event, Queued, Started
from qosqueue.service.requests import JobRequest
from qosqueue.service.user_tokens import UserTokens
from qosqueue.service.users import Users
from qosqueue.service.webhooks import Webhooks
from qosqueue.settings import Settings
from qosqueue.store.batch_record import BatchRecord
from qosqueue.store.clock import now_ms
from qosqueue.store.decisions import Decisions
from qosqueue.store.file_record import FileRecord
from qosqueue.store.idempotency_record import IdempotencyRecord
from qosqueue.store.records import Job, Tenant
from qosqueue.store.session import open_store
from tests.support.jobs import a_job
from tests.support.tables import make_tables

MODEL = "tiny"
CONTEXT_TOKENS = 512


def profile_of(tenant: Tenant, request: JobRequest) -> Profile:
    """The profile that policy gives the request."""
    return make_profile(
        Facts(
            tier=tenant.tier,
            weight_class=WeightClass.LIGHT,
            task_type=request.task_type,
            prompt_tokens=request.prompt_tokens,
            max_output_tokens=request.max_output_tokens,
            latency_budget_ms=request.latency_budget_ms,
            ttl_ms=request.ttl_ms,
            service_tier=request.service_tier,
        )
    )


class MemoryJobs:
    """The jobs' port in memory. `refuse_with` or `raise_this` decide what becomes of the next submit."""

    def __init__(self) -> None:
        self.rows: dict[str, Job] = {}
        self.requests: list[JobRequest] = []
        self.refuse_with: Refusal | None = None
        self.raise_this: Exception | None = None
        self.rates = NO_RATES
        self._changed = threading.Condition()

    def submit(self, tenant: Tenant, request: JobRequest) -> Accepted | Refusal:
        if self.raise_this is not None:
            raise self.raise_this
        if self.refuse_with is not None:
            return self.refuse_with
        self.requests.append(request)
        profile = profile_of(tenant, request)
        at_ms = now_ms()
        job = a_job(
            tenant.id,
            id=request.id,
            model=request.model,
            endpoint=request.endpoint,
            task_type=request.task_type,
            priority=profile.priority,
            routing_key=profile.routing_key,
            latency_class=profile.latency_class,
            latency_budget_ms=profile.latency_budget_ms,
            cost_tokens=profile.cost_tokens,
            body=request.body,
            details=request.details | {"service_tier": profile.service_tier.value, "detours": list(request.detours)},
            created_ms=at_ms,
            expires_ms=at_ms + profile.ttl_ms,
            queued_ms=at_ms,
        )
        self.rows[job.id] = job
        return Accepted(**vars(job), rates=self.rates)

    def change(self, job_id: str, **values: Any) -> None:
        """What a worker would do to the row."""
        with self._changed:
            self.rows[job_id] = replace(self.rows[job_id], **values)
            self._changed.notify_all()

    def get(self, tenant_id: str, job_id: str) -> Job:
        job = self.rows.get(job_id)
        if job is None or job.tenant_id != tenant_id:
            raise NotFound(f"no job {job_id}")
        return job

    def wait(self, tenant_id: str, job_id: str, timeout_s: float) -> Job:
        with self._changed:
            self._changed.wait_for(lambda: self.get(tenant_id, job_id).status in TERMINAL, timeout_s)
            return self.get(tenant_id, job_id)

    def cancel(self, tenant_id: str, job_id: str) -> Job:
        if self.get(tenant_id, job_id).status not in TERMINAL:
            self.change(job_id, status=JobStatus.CANCELLED, finished_ms=now_ms())
        return self.get(tenant_id, job_id)

    def list(self, tenant_id: str, limit: int, before: str | None = None) -> list[Job]:
        own = [job for job in reversed(self.rows.values()) if job.tenant_id == tenant_id]
        if before is not None:
            self.get(tenant_id, before)
            own = own[[job.id for job in own].index(before) + 1 :]
        return own[:limit]


class MemoryRecord:
    """What explanations ask of the record, of the jobs in memory."""

    def __init__(self, jobs: MemoryJobs) -> None:
        self._jobs = jobs

    def find(self, job_id: str, tenant_id: str) -> Job | None:
        job = self._jobs.rows.get(job_id)
        return job if job is not None and job.tenant_id == tenant_id else None


class NoQueue:
    """A queue that knows nothing of any request."""

    def of(self, task: str) -> None:
        return None


Step = Event | threading.Event | Exception


@dataclass
class ScriptedCall:
    """An online call that goes by a script: events happen, threading.Events are waited for, exceptions are raised."""

    id: str
    profile: Profile
    script: list[Step]
    closed: threading.Event = field(default_factory=threading.Event)
    rates: Rates = NO_RATES
    model: str = MODEL
    detours: tuple[str, ...] = ()

    def events(self, idle_s: float = 0.05) -> Iterator[Event]:
        while self.script:
            step = self.script[0]
            if isinstance(step, threading.Event):
                while not step.wait(idle_s):
                    yield Queued(None)
            self.script.pop(0)
            if isinstance(step, Exception):
                raise step
            if not isinstance(step, threading.Event):
                yield step

    def stays_a_stream(self) -> None:
        """Its script says what comes."""

    def batches(self, idle_s: float = 0.05) -> Iterator[list[Event]]:
        for event in self.events(idle_s):
            yield [event]

    def close(self) -> None:
        self.closed.set()


class ScriptedOnline:
    """The online port: each start takes `script` (a function of the request), or is refused with `refuse_with`."""

    def __init__(self) -> None:
        self.script: Callable[[JobRequest], list[Step]] = lambda request: answer_of("Hello", " there")
        self.refuse_with: Refusal | None = None
        self.raise_this: Exception | None = None
        self.requests: list[JobRequest] = []
        self.calls: list[ScriptedCall] = []
        self.began = threading.Event()

    def start(self, tenant: Tenant, request: JobRequest) -> ScriptedCall | Refusal:
        if self.raise_this is not None:
            raise self.raise_this
        if self.refuse_with is not None:
            return self.refuse_with
        self.requests.append(request)
        call = ScriptedCall(request.id, profile_of(tenant, request), self.script(request))
        self.calls.append(call)
        self.began.set()
        return call


def delta(text: str) -> Chunk:
    """A chunk that adds `text`."""
    return Chunk([{"index": 0, "delta": {"content": text}, "finish_reason": None}])


def done(text: str) -> Done:
    """The end of an answer that was `text`: 7 prompt tokens, 2 completion tokens."""
    result = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    }
    return Done(
        finish_reason="stop", prompt_tokens=7, completion_tokens=2, result=result, queued_ms=12, first_token_ms=13
    )


def answer_of(*texts: str) -> list[Step]:
    """The script of an answer that starts after 12 ms in the queue and comes in these pieces."""
    return [Started(worker="w1", queued_ms=12), *[delta(text) for text in texts], done("".join(texts))]


@dataclass
class MemoryServices:
    """The attributes of `qosqueue.wiring.Services` that web uses."""

    settings: Settings
    store: Any
    redis: Any
    accounts: Accounts
    users: Users
    user_tokens: UserTokens
    catalog: Catalog
    idempotency: Idempotency
    jobs: MemoryJobs
    online: ScriptedOnline
    queues: Any
    explanations: Explanations
    files: Files
    batches: Batches
    webhooks: Webhooks
    # What only operators' pages use: they are mounted, and tried with the real ones.
    purges: Any = None
    breakers: Any = None
    limits: Any = None
    policies: Any = None
    agreements: Any = None


def memory_services(home: Path, **settings: Any) -> MemoryServices:
    """Services with the model `tiny` (512 tokens of context), one replica of it, and no tenant yet."""
    store_url = f"sqlite:///{home / 'qosqueue.db'}"
    make_tables(store_url)
    store = open_store(store_url)
    catalog = Catalog(store)
    jobs = MemoryJobs()
    catalog.add_model(MODEL, "simulated", actor="test", memory_bytes=1000, context_tokens=CONTEXT_TOKENS, slots=4)
    made = Settings(home=home, default_model=MODEL, **settings)
    return MemoryServices(
        settings=made,
        store=store,
        redis=SimpleNamespace(ping=lambda: True, connection_pool=redis.ConnectionPool()),
        accounts=Accounts(store),
        users=Users(store),
        user_tokens=UserTokens(store),
        catalog=catalog,
        idempotency=Idempotency(IdempotencyRecord(store)),
        jobs=jobs,
        online=ScriptedOnline(),
        queues=SimpleNamespace(replicas=lambda: [live_replica(MODEL)], lanes=list),
        explanations=Explanations(MemoryRecord(jobs), Decisions(store), NoQueue()),  # type: ignore[arg-type]
        files=Files(FileRecord(store), made.files_folder(), keep_days=made.file_days),
        batches=Batches(BatchRecord(store)),
        webhooks=Webhooks(store, lambda: webhook_key(home), private_allowed=made.webhook_private_networks),
    )


def live_replica(model: str, state: ReplicaState = ReplicaState.READY) -> LiveReplica:
    """A replica of that model, heard of just now."""
    replica = Replica(worker="w1", model=model, slots=4, busy=0, gpu=None, state=state, pid=1)
    return LiveReplica(replica, started_ms=0, seen_ms=0, seen_ms_ago=0)


def key_for(services: MemoryServices, name: str, tier: str = "standard") -> str:
    """A new tenant's API key."""
    services.accounts.create_tenant(name, Tier(tier), actor="test")
    return services.accounts.create_key(name, actor="test").key
