"""Does Kombu still have every private name that the transport overrides or calls, with the arguments it expects?

Private names change with each minor version: this test says which one did, before a worker finds out.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import kombu
import pytest
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as stock
from redis.connection import Connection

from qosqueue.broker import acknowledgement, transport

# Owner, name, its parameters: what an override is called with, or what we call it with.
NAMES: list[tuple[Any, str, list[str]]] = [
    (stock.QoS, "can_consume", []),
    (stock.QoS, "append", ["message", "delivery_tag"]),
    (stock.QoS, "ack", ["delivery_tag"]),
    (stock.QoS, "reject", ["delivery_tag", "requeue"]),
    (stock.QoS, "restore_by_tag", ["tag", "client", "leftmost"]),
    (stock.QoS, "restore_unacked", ["client"]),
    (stock.QoS, "restore_unacked_once", ["stderr"]),
    (stock.QoS, "restore_visible", ["start", "num", "interval"]),
    (virtual.QoS, "append", ["message", "delivery_tag"]),
    (virtual.QoS, "ack", ["delivery_tag"]),
    (virtual.QoS, "_flush", []),
    (stock.Channel, "_connparams", ["asynchronous"]),
    (stock.Channel, "_create_client", ["asynchronous"]),
    (stock.Channel, "_lookup", ["exchange", "routing_key", "default"]),
    (stock.Channel, "_put", ["queue", "message", "kwargs"]),
    (stock.Channel, "_put_fanout", ["exchange", "message", "routing_key", "kwargs"]),
    (stock.Channel, "decode_body", ["body", "encoding"]),
    (stock.Channel, "_get", ["queue"]),
    (stock.Channel, "_brpop_start", ["timeout"]),
    (stock.Channel, "_brpop_read", ["options"]),
    (stock.Channel, "_flush_brpop_reauth", []),
    (stock.Channel, "_q_for_pri", ["queue", "pri"]),
    (stock.Channel, "_size", ["queue"]),
    (stock.Channel, "_purge", ["queue"]),
    (stock.Channel, "_delete", ["queue", "exchange", "routing_key", "pattern", "args", "kwargs"]),
    (stock.Channel, "_has_queue", ["queue", "kwargs"]),
    (stock.Channel, "_restore", ["message", "leftmost"]),
    (stock.Channel, "basic_consume", ["queue", "args", "kwargs"]),
    (stock.Channel, "basic_get", ["queue", "no_ack", "kwargs"]),
    (stock.Channel, "close", []),
    (stock.Transport, "_deliver", ["message", "queue"]),
    (stock.MultiChannelPoller, "on_poll_start", []),
    (Connection, "send_packed_command", ["command", "check_health"]),
    (Connection, "check_health", []),
]
ATTRIBUTES = [
    (stock.Channel, "active_queues"),
    (stock.Channel, "priority_steps"),
    (stock.Channel, "sep"),
    (stock.Channel, "global_keyprefix"),
    (stock.Channel, "from_transport_options"),
    (stock.Channel, "_in_poll"),
    (stock.Channel, "_brpop_sent_at"),
    (stock.Transport, "brpop_timeout"),
    (stock.Transport, "channels"),
    (stock.Transport, "supports_batch_publish"),
]
QOS_ATTRIBUTES = {"_delivered", "_quick_ack", "_on_collect"}


@pytest.mark.parametrize(("owner", "name", "parameters"), NAMES, ids=lambda value: getattr(value, "__name__", ""))
def test_name_takes_what_we_think_it_takes(owner: Any, name: str, parameters: list[str]) -> None:
    found = list(inspect.signature(getattr(owner, name)).parameters)
    assert found[0] == "self"
    assert found[1:] == parameters


@pytest.mark.parametrize(("owner", "name"), ATTRIBUTES)
def test_attribute_is_there(owner: Any, name: str) -> None:
    # Set in __init__ or by a cached property of an instance: the source of the classes must name it.
    sources = "".join(inspect.getsource(each) for each in inspect.getmro(owner)[:-1])
    assert name in sources


def test_every_override_of_ours_is_in_the_list_and_is_one() -> None:
    listed = {(owner, name) for owner, name, _ in NAMES}
    for ours, theirs in ((transport.QoS, stock.QoS), (transport.Channel, stock.Channel)):
        for name, value in vars(ours).items():
            if inspect.isfunction(value) and hasattr(theirs, name) and not name.startswith("__"):
                assert (theirs, name) in listed, f"{ours.__name__}.{name} overrides Kombu's: add it to NAMES"


def test_no_private_name_is_called_that_is_not_listed() -> None:
    trees = [ast.parse(Path(module.__file__).read_text("utf-8")) for module in (acknowledgement, transport)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute) and node.attr.startswith("_")}
    own = {name for each in (transport.QoS, transport.Channel) for name in vars(each)}
    known = {name for _, name, _ in NAMES} | {name for _, name in ATTRIBUTES} | QOS_ATTRIBUTES
    assert {name for name in used if not name.startswith("__")} <= known | own


@pytest.mark.parametrize("name", sorted(QOS_ATTRIBUTES))
def test_the_attributes_of_a_live_qos_are_there(name: str) -> None:
    assert name in inspect.getsource(virtual.QoS.__init__)


def test_versions_and_kind() -> None:
    assert kombu.__version__.startswith("5.7.")
    # Celery asks for it before it lets a worker go without prefetching.
    assert transport.Transport.driver_type == "redis"
    assert "qosqueue" not in TRANSPORT_ALIASES or TRANSPORT_ALIASES["qosqueue"].endswith("transport:Transport")
