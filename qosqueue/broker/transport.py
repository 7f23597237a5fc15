"""How does a stock Celery worker take its next message from the QoS order?

A subclass of Kombu's Redis transport (docs/adr/0002). Publishing runs the submit script; consuming sends, in one
write, a blocking read of the lanes' bells and the dispatch script: the server holds the second until the first
returns, so a message is picked and leased the moment it may run, and one answer brings it. Queues of Celery's own
plumbing (remote control, events, replies) stay with the stock transport.

Private names of Kombu 5.7 are used; tests/contract/test_kombu_names.py notices when they change.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from queue import Empty
from time import monotonic
from typing import Any, cast

import redis
import structlog
from kombu.transport import redis as stock
from kombu.utils.json import dumps, loads
from redis.backoff import NoBackoff
from redis.retry import Retry

from qosqueue.broker import scheduled
from qosqueue.broker.acknowledgement import QoS
from qosqueue.broker.celery_side import CelerySide
from qosqueue.broker.envelope import BATCH_WINDOW_MS, HEADER, instant_of
from qosqueue.broker.host_pool import HostPool, Promises
from qosqueue.broker.leases import LeaseTable, receipt_of, table_of_process
from qosqueue.broker.picks import Picks, Rung
from qosqueue.broker.revocation import Revocation, revoked_by
from qosqueue.broker.scripts import Scripts
from qosqueue.broker.submission import submit_message
from qosqueue.broker.sweep import sweep
from qosqueue.broker.wire import packed_commands
from qosqueue.errors import BrokerUnavailable
from qosqueue.policy.reference.message import Delivery, Nothing, Place
from qosqueue.policy.terms import BULK_LANE, LANES, SYSTEM_LANE

PURGE_AT_ONCE = 1000
GONE = 1
REPLIES = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
OUR_LANES = frozenset((*LANES, SYSTEM_LANE, BULK_LANE))

log = structlog.get_logger(__name__)


class Channel(stock.Channel):
    """A channel whose queues are lanes of the QoS order."""

    QoS = QoS

    group = "qosqueue"
    lease_ms = 15_000
    # What holds for a message that does not say it.
    max_attempts = 3
    batch_window_ms = BATCH_WINDOW_MS
    default_tenant = ""
    lease_table: LeaseTable | None = None
    # What this process serves if it has no table of its own: so many of each model at once.
    models: Mapping[str, int] | None = None
    # Knows which tasks run on after their channel was closed; the lease table settles those. Without it the rule is
    # Kombu's: whatever was delivered is given back.
    celery: CelerySide | None = None
    # Whether the consumers do a watchdog's work: queue again what dead ones held, and tell the order of their pool and
    # of what tenants were promised (Promises). qosqueue's own workers leave that to the watchdog.
    reaps = True
    shares: Mapping[str, int] | None = None
    weights: Mapping[str, int] | None = None
    caps: Mapping[str, int] | None = None
    from_transport_options: tuple[str, ...] = (  # type: ignore[assignment]
        *stock.Channel.from_transport_options,
        "group",
        "lease_ms",
        "max_attempts",
        "batch_window_ms",
        "default_tenant",
        "lease_table",
        "models",
        "celery",
        "reaps",
        "shares",
        "weights",
        "caps",
    )

    _armed: tuple[Place, ...] = ()
    _retry_after_ms: int | None = None
    _reaped_at = _told_at = float("-inf")
    _in_poll: Any
    _brpop_sent_at: Any

    @cached_property
    def scripts(self) -> Scripts:
        """The queue's commands, on this channel's pool of connections."""
        return Scripts(self._connect(), self.group, self.global_keyprefix)

    def _connect(self) -> redis.Redis:
        # Kombu's own client puts its prefix before the keys of some commands only.
        return redis.Redis(connection_pool=self._create_client().connection_pool)

    @cached_property
    def leases(self) -> LeaseTable:
        """What this process holds."""
        if self.lease_table is not None:
            return self.lease_table
        url = self.connection.client.as_uri(include_password=True)
        return table_of_process(url, self.group, self._connect, self.lease_ms, self.global_keyprefix, self.models)

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        # Without redis-py's own second tries: whoever publishes hears at once that the broker is away.
        return {**super()._connparams(asynchronous), "retry": Retry(NoBackoff(), 0)}

    # -- publishing

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> list[str]:
        """A routing key that names a lane leads there, also when Redis lost its bindings (celery #10566)."""
        return super()._lookup(exchange, routing_key, default) or [routing_key for _ in OUR_LANES & {routing_key}]

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        if not is_lane(queue):
            super()._put(queue, message, **kwargs)
            return
        submit_message(
            self.scripts,
            queue,
            message,
            dump=dumps,
            max_attempts=self.max_attempts,
            batch_window_ms=self.batch_window_ms,
            tenant=self.default_tenant,
        )

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **kwargs: Any) -> None:
        super()._put_fanout(exchange, message, routing_key, **kwargs)
        # After the broadcast: what a worker takes in between, it refuses.
        for task in revoked_by(exchange, message, self.decode_body):
            self._withdraw(task)

    def _withdraw(self, task: str) -> None:
        """Take a revoked task out of the queue at once, whether a worker listens or not."""
        payload = self._payload_of(task) if self.celery else None
        if self.scripts.withdraw(task=task) == GONE and self.celery and payload:
            self.celery.mark_revoked(Revocation.of(task, loads(payload), self.decode_body))

    def _payload_of(self, task: str) -> bytes | None:
        client: Any = self.scripts.client
        tag = client.hget(f"{self.scripts.key}:tasks", task)
        return client.get(f"{self.scripts.key}:body:{tag.decode()}") if tag else None

    # -- consuming

    def basic_consume(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        """Kombu's; the first consumer of a channel tells of its pool at once, not with its first sweep."""
        # Here, and not when the module is imported: only who consumes can be a worker that is asked.
        scheduled.register()
        tag = super().basic_consume(queue, *args, **kwargs)
        if self.reaps and self._told_at < 0:
            self._tell_of_pool()
        return tag

    def places(self) -> tuple[Place, ...]:
        """(lane, model) of everything this channel consumes and has a free slot for."""
        return self._places_of(self.active_queues)

    def _places_of(self, queues: Iterable[str]) -> tuple[Place, ...]:
        models = [model for model in self.leases.open_models() if self.leases.has_slot(model, self._holder)]
        return tuple((lane, model) for lane in queues if is_lane(lane) for model in models)

    def _listen(self) -> tuple[Place, ...]:
        """The places of now, whose slots are kept for this channel until its pending read is over."""
        models = self.leases.listen(self._holder, self.leases.open_models())
        return tuple((lane, model) for lane in self.active_queues if is_lane(lane) for model in sorted(models))

    def wants_more(self) -> bool:
        """Whether something this channel consumes has a free slot."""
        return not any(is_lane(queue) for queue in self.active_queues) or bool(self.places())

    def slot_freed(self) -> None:
        """Wake the pending read if it does not listen for what may run now."""
        if not self._in_poll or not set(self.places()) - set(self._armed):
            return
        try:
            self._picks.wake()
        except redis.RedisError as error:
            log.warning("the pending read is not woken: it looks again by itself", error=str(error))

    @cached_property
    def _picks(self) -> Picks:
        return Picks(self.scripts, self._holder, lease_ms=self.lease_ms)

    @cached_property
    def _holder(self) -> str:
        return f"{socket.gethostname()}:{os.getpid()}:{id(self):x}"

    def _brpop_start(self, timeout: float | None = None) -> None:
        connection = self.client.connection
        # In this order: a slot that another thread frees from here on either counts or rings.
        self._in_poll, self._armed = connection, ()
        self._armed = self._listen()
        if not self._armed:
            super()._brpop_start(timeout)
            return
        plumbing = [queue for queue in self.active_queues if not is_lane(queue)]
        stock_lists = [
            f"{self.global_keyprefix}{self._q_for_pri(queue, priority)}"
            for priority in self.priority_steps
            for queue in plumbing
        ]
        self._brpop_sent_at = monotonic()
        block_s = self.brpop_timeout if timeout is None else timeout
        if self._retry_after_ms is not None:
            block_s = min(block_s or self._retry_after_ms / 1000, self._retry_after_ms / 1000)
        commands = self._picks.wait(self._armed, block_s or 0, stock_lists)
        connection.check_health()
        connection.send_packed_command([packed_commands(commands)], check_health=False)

    def _brpop_read(self, **options: Any) -> bool:
        if not self._armed:
            return bool(super()._brpop_read(**options))
        picked: Delivery | Nothing = Nothing(None)
        try:
            rung, picked = self._read_answers(options)
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
            if isinstance(picked, Nothing):
                self.leases.stop_listening(self._holder)
        if rung is not None:
            self._deliver_plumbing(rung)
        if isinstance(picked, Nothing):
            self._retry_after_ms = picked.retry_after_ms
            if rung is None:
                raise Empty
            return True
        self._retry_after_ms = None
        # Before it counts as held: one that cannot be read runs out of leases, and ends as a dead letter.
        message = _payload(picked)
        self.leases.hold(picked, self._holder)
        self._deliver_held(message, picked)
        return True

    def _read_answers(self, options: dict[str, Any]) -> tuple[Rung | None, Delivery | Nothing]:
        """The two answers to what _brpop_start sent: which list woke us, and the message that was leased to us."""
        connection = self.client.connection
        try:
            return self._picks.answer(
                lambda command: self.client.parse_response(connection, command, **options), self.places
            )
        except self.connection_errors:
            connection.disconnect()
            raise

    def _deliver_plumbing(self, rung: Rung) -> None:
        name = rung[0].decode()
        if not name.startswith(f"{{{self.group}}}:bell:"):
            self.connection._deliver(loads(rung[1].decode()), name.rsplit(self.sep, 1)[0])

    def deliver(self, delivery: Delivery) -> None:
        """Hand a message that this process holds, and that another listener was given, to the consumer of its lane."""
        self._deliver_held(_payload(delivery), delivery)

    def _deliver_held(self, message: Any, delivery: Delivery) -> None:
        receipt = receipt_of(delivery)
        try:
            self.connection._deliver(message, delivery.lane)
        finally:
            if self.leases.held(receipt) and receipt not in self.qos._delivered:
                self.leases.settle(receipt, "void")  # the consumer asked for no acknowledgement: nobody knows more

    def close(self) -> None:
        """Kombu's close; the slots that were kept for the pending read are anybody's again."""
        try:
            super().close()
        finally:
            if "leases" in self.__dict__:
                self.leases.stop_listening(self._holder)

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        if not is_lane(queue):
            return super()._get(queue)
        picked = self._picks.now(self._places_of([queue]))
        if isinstance(picked, Nothing):
            raise Empty
        message = _payload(picked)
        self.leases.hold(picked)
        return message

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        message = super().basic_get(queue, no_ack=no_ack, **kwargs)
        if no_ack and message is not None:
            self.leases.settle(message.delivery_tag, "void")
        return message

    @cached_property
    def _host_pool(self) -> HostPool:
        period_ms = self.lease_ms // 3
        return HostPool(self.scripts, self.global_keyprefix, period_ms, Promises(self.shares, self.weights, self.caps))

    def _tell_of_pool(self) -> None:
        # The worker's own limit of what it fetches is what its pool runs at once; 0, no limit, says nothing. Kombu may
        # have any channel of the connection sweep, also one of Celery's remote control.
        consuming = [channel for channel in self.connection.channels if any(map(is_lane, channel.active_queues))]
        at_once = sum(channel.qos.prefetch_count for channel in consuming)
        known = {"": at_once, **self.leases.capacity}
        slots = {model: min(count, at_once or count) for model, count in known.items() if count}
        if not slots:
            return
        self._told_at = monotonic()
        try:
            self._host_pool.tell(slots, measured=self.celery is None or self.celery.acks_late())
        except (redis.RedisError, BrokerUnavailable) as error:
            log.warning("the order is not told of this pool now", error=str(error))

    def reap(self) -> None:
        """Do the watchdog's work, at most three times in a lease's length."""
        now = monotonic()
        if now - self._reaped_at < self.lease_ms / 3000:
            return
        self._reaped_at = now
        self._tell_of_pool()
        sweep(self.scripts, self.celery, self.decode_body)

    # -- the queue as a whole

    def _size(self, queue: str) -> int:
        if not is_lane(queue):
            return cast(int, super()._size(queue))
        return self.scripts.client.zcard(f"{self.scripts.key}:arrivals:{queue}")

    def _purge(self, queue: str) -> int:
        if not is_lane(queue):
            return cast(int, super()._purge(queue))
        total = 0
        while dropped := self.scripts.purge(lane=queue, limit=PURGE_AT_ONCE):
            total += dropped
        return total

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        if is_lane(queue):
            self._purge(queue)
        super()._delete(queue, *args, **kwargs)

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        if not is_lane(queue):
            return bool(super()._has_queue(queue, **kwargs))
        return self._size(queue) > 0

    def _restore(self, message: Any, leftmost: bool = False) -> None:
        self.leases.settle(message.delivery_tag, "requeue")


class Transport(stock.Transport):
    """Kombu transport `qosqueue.broker.transport:Transport`, for an ordinary redis:// or redis+socket:// URL."""

    Channel = Channel
    # A batch of publishes is a pipeline of pushes to lists; lanes are not lists.
    supports_batch_publish = False


def is_lane(queue: str) -> bool:
    """Whether a queue is in the QoS order: all but those of Celery's remote control, events and `rpc://` replies.

    Celery names a client's queue of replies by a UUID, and nobody reads it when the client has gone.
    """
    return not (queue.endswith(".pidbox") or queue.startswith(("celeryev", "amq.")) or REPLIES.fullmatch(queue))


def _payload(delivery: Delivery) -> Any:
    message = loads(delivery.payload)
    if delivery.fence > 1:
        message["headers"]["redelivered"] = True
        message["properties"]["delivery_info"]["redelivered"] = True
    if HEADER in message["headers"]:
        # The attempt knows its fence: what it stores is fenced with the same number as what it settles.
        message["headers"]["qos_fence"] = delivery.fence
        message["headers"]["qos_passage"] = delivery.passage
    message["properties"]["delivery_tag"] = receipt_of(delivery)
    if message["headers"].get("eta"):
        # The server has waited until then: a worker whose clock is behind must not wait once more.
        message["headers"]["eta"] = min(instant_of(message["headers"]["eta"]), datetime.now(UTC)).isoformat()
    return message
