"""What does a process consist of? Everything is built here, once, from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import redis

from qosqueue.broker.address import connect
from qosqueue.broker.celery_app import make_celery
from qosqueue.broker.publish import Publisher
from qosqueue.broker.replicas import Replicas
from qosqueue.broker.replies import ReplyReader
from qosqueue.broker.scripts import Scripts
from qosqueue.service.accounts import Accounts
from qosqueue.service.admission import Admission
from qosqueue.service.agreements import Agreements
from qosqueue.service.attempts import Attempts
from qosqueue.service.audit import Audit
from qosqueue.service.batch_feed import BatchFeed
from qosqueue.service.batches import Batches
from qosqueue.service.breakers import Breakers
from qosqueue.service.catalog import Catalog
from qosqueue.service.dead_letters import DeadLetters
from qosqueue.service.explain import Explanations
from qosqueue.service.files import Files
from qosqueue.service.finished import FinishedRequests
from qosqueue.service.home_keys import webhook_key
from qosqueue.service.idempotency import Idempotency
from qosqueue.service.job_detours import JobDetours
from qosqueue.service.jobs import Jobs
from qosqueue.service.learning import Learning
from qosqueue.service.limits import Limits
from qosqueue.service.line_jobs import LineJobs
from qosqueue.service.online import Online
from qosqueue.service.policies import Policies
from qosqueue.service.pools import Pools
from qosqueue.service.purges import Purges
from qosqueue.service.queues import Queues
from qosqueue.service.reconciler import Reconciler
from qosqueue.service.reranks import Reranks
from qosqueue.service.shares import Shares
from qosqueue.service.spent_today import SpentToday
from qosqueue.service.unrecorded import Unrecorded
from qosqueue.service.user_tokens import UserTokens
from qosqueue.service.users import Users
from qosqueue.service.waiting import WaitingView
from qosqueue.service.watchdog import Watchdog
from qosqueue.service.webhook_events import WebhookEvents
from qosqueue.service.webhook_sending import WebhookSending
from qosqueue.service.webhooks import Webhooks
from qosqueue.service.withdrawals import Withdrawals
from qosqueue.settings import Settings
from qosqueue.store.batch_record import BatchRecord
from qosqueue.store.decisions import Decisions
from qosqueue.store.file_record import FileRecord
from qosqueue.store.idempotency_record import IdempotencyRecord
from qosqueue.store.job_record import JobRecord
from qosqueue.store.line_record import LineRecord
from qosqueue.store.session import Store, open_store
from qosqueue.store.usage import UsageRecord


@dataclass(frozen=True)
class Services:
    """The use cases of one process, on one store and one broker."""

    settings: Settings
    store: Store
    redis: redis.Redis
    scripts: Scripts
    accounts: Accounts
    users: Users
    user_tokens: UserTokens
    audit: Audit
    catalog: Catalog
    agreements: Agreements
    policies: Policies
    admission: Admission
    idempotency: Idempotency
    jobs: Jobs
    online: Online
    queues: Queues
    replicas: Replicas
    attempts: Attempts
    job_detours: JobDetours
    limits: Limits
    breakers: Breakers
    dead_letters: DeadLetters
    purges: Purges
    reranks: Reranks
    watchdog: Watchdog
    explanations: Explanations
    usage: UsageRecord
    files: Files
    batches: Batches
    batch_feed: BatchFeed
    webhooks: Webhooks
    webhook_events: WebhookEvents
    webhook_sending: WebhookSending

    def close(self) -> None:
        """Stop the process's threads, after what they still have to write, and close its connections."""
        self.online.close()
        self.redis.close()
        self.store.close()


def build(settings: Settings) -> Services:
    """Wire a process. Connects to nothing and starts nothing: the first use does."""
    store = open_store(settings.sql_url())
    client = connect(settings)
    scripts = Scripts(client, settings.group)
    replicas = Replicas(client, settings.group)
    record = JobRecord(store)
    catalog = Catalog(store)
    agreements = Agreements(store)
    admission = Admission(catalog, agreements, scripts, settings.most_queued)
    publisher = Publisher(make_celery(settings), settings, scripts)
    queues = Queues(scripts, replicas, stock_order=settings.order == "fifo")
    attempts = Attempts(record)
    shares = Shares(scripts, store)
    accounts = Accounts(store, tell=shares.tell)

    def tell() -> None:
        for kept in (accounts, catalog, agreements):
            kept.forget()
        shares.tell()

    unrecorded = Unrecorded(scripts, record)
    finished = FinishedRequests(record, unrecorded.keep)
    usage = UsageRecord(store)
    reconciler = Reconciler(
        scripts, record, publisher, admission, SpentToday(scripts, usage), lease_ms=settings.lease_ms
    )
    pools = Pools(scripts, replicas)
    webhooks = Webhooks(store, partial(webhook_key, settings.home), private_allowed=settings.webhook_private_networks)
    jobs = Jobs(admission, record, publisher, scripts, store, webhooks.hears_of_jobs)
    file_record, batch_record, line_record = FileRecord(store), BatchRecord(store), LineRecord(store)
    files, events = Files(file_record, settings.files_folder(), keep_days=settings.file_days), WebhookEvents(store)
    line_jobs = LineJobs(
        files=files,
        record=batch_record,
        lines=line_record,
        jobs=record,
        accounts=accounts,
        admission=admission,
        publisher=publisher,
        window=settings.batch_window,
    )
    reader = ReplyReader(lambda: connect(settings), settings.group)
    return Services(
        settings=settings,
        store=store,
        redis=client,
        scripts=scripts,
        accounts=accounts,
        users=Users(store),
        user_tokens=UserTokens(store),
        audit=Audit(store),
        catalog=catalog,
        agreements=agreements,
        policies=Policies(store, tell=tell),
        admission=admission,
        idempotency=Idempotency(IdempotencyRecord(store)),
        jobs=jobs,
        online=Online(admission, publisher, reader, queues, scripts, finished, Withdrawals(scripts)),
        queues=queues,
        replicas=replicas,
        attempts=attempts,
        job_detours=JobDetours(admission, accounts, record, publisher),
        limits=Limits(scripts, store, shares),
        breakers=Breakers(scripts, store, catalog, replicas),
        dead_letters=DeadLetters(scripts, record, store, admission),
        purges=Purges(scripts, record, store),
        reranks=Reranks(scripts, record, store),
        watchdog=Watchdog(
            scripts, store, record, attempts, queues, pools, shares, Learning(store), reconciler, unrecorded
        ),
        explanations=Explanations(record, Decisions(store), WaitingView(scripts, replicas)),
        usage=usage,
        files=files,
        batches=Batches(batch_record),
        batch_feed=BatchFeed(
            files=files,
            file_record=file_record,
            record=batch_record,
            lines=line_record,
            line_jobs=line_jobs,
            jobs=jobs,
            catalog=catalog,
            events=events,
            most_line_bytes=settings.max_body_bytes,
        ),
        webhooks=webhooks,
        webhook_events=events,
        webhook_sending=WebhookSending(store, webhooks, private_allowed=settings.webhook_private_networks),
    )
