"""How does any Celery project put its tasks into the order? With `configure(app)`, and a header where a task is sent.

docs/howto/adopt-in-a-celery-project.md shows a whole project. Nothing else of qosqueue is needed: no watchdog, no SQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery

from qosqueue.broker.celery_app import SOCKET_SCHEMES, TRANSPORT, register_transport
from qosqueue.broker.celery_side import CelerySide
from qosqueue.broker.envelope import BATCH_WINDOW_MS
from qosqueue.broker.host_pool import Promises, check_models
from qosqueue.broker.inheritance import inherit_headers

REAPS_PER_LEASE = 3


def configure(
    app: Celery,
    *,
    group: str = "qosqueue",
    lease_ms: int = 15_000,
    default_tenant: str = "",
    batch_window_ms: int = BATCH_WINDOW_MS,
    shares: Mapping[str, int] | None = None,
    weights: Mapping[str, int] | None = None,
    caps: Mapping[str, int] | None = None,
    models: Mapping[str, int] | None = None,
    **options: Any,
) -> Celery:
    """Put all queues of `app` into the order of `group`; returns the app.

    Call it after the app's own configuration was given, in every process: those that send and those that work. The
    broker URL stays an ordinary `redis://`, `rediss://` or `redis+socket://` one. `group` is the hash tag of all keys:
    projects with different groups share a server without meeting. A worker that dies keeps its tasks for at most
    `lease_ms`. `options` are further transport options, e.g. `max_attempts=5`.

    `default_tenant` is the tenant of all that names none; without it such a task waits its turn by priority and age,
    and no number of them costs a place. `batch_window_ms` is the start budget of batch work that names none: for half
    of it only idle slots run it.

    What tenants were promised, told by the workers: `shares` are percent of the pool that an organisation (a tenant, if
    it names none) may claim without losing place, `weights` are 100 for who loses place as usual and 200 for who loses
    half of it, `caps` the most tasks of a tenant that run at once. One that is given is all there is of its kind.

    `models` are the models that the workers of this app serve, each worker so many tasks of each at once; a task whose
    header names another one waits for a worker that serves it. That needs `task_acks_late`. Raises ValueError, naming
    the argument, for what cannot be kept.

    What a task sends, also as Celery's next step of a chain or chord, belongs to its tenant unless a header says whose
    it is.

    The worker fetches a task only when a process or thread of its pool is free for it. `task_acks_late` stays as the
    project has it: with it a killed worker's tasks run again; without it they are lost, as everywhere in Celery.
    """
    promises = Promises(shares, weights, caps)
    check_models(models or {}, acks_late=app.conf.task_acks_late)
    register_transport()
    inherit_headers()
    url = app.conf.broker_url
    app.conf.update(
        broker_url=url.replace(*SOCKET_SCHEMES, 1) if isinstance(url, str) else url,
        broker_transport=TRANSPORT,
        broker_transport_options={
            "unacked_restore_interval": lease_ms / 1000 / REAPS_PER_LEASE,
            **app.conf.broker_transport_options,
            "group": group,
            "lease_ms": lease_ms,
            "celery": CelerySide(app),
            "default_tenant": default_tenant,
            "batch_window_ms": batch_window_ms,
            "models": dict(models or {}),
            **{name: dict(told) for name, told in vars(promises).items() if told is not None},
            **options,
        },
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
    )
    return app
