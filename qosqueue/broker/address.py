"""Where is the broker, in the words of redis-py and in those of Kombu?

Both URLs come from one place, so that every process of a home finds the same server.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from qosqueue.errors import SettingsError
from qosqueue.settings import Settings

# sockaddr_un holds 108 bytes on Linux and 104 on macOS, with the closing zero.
MAX_SOCKET_PATH_BYTES = 100
MAX_CONNECTIONS = 10_000


def socket_path(settings: Settings) -> Path:
    """Unix socket of the embedded broker: in the home, or for a deep home under the temporary folder."""
    home = settings.home.resolve()
    path = home / "broker" / "broker.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"qosqueue-{os.geteuid()}-{digest}" / "broker.sock"


def client_url(settings: Settings) -> str:
    """URL for redis-py: `unix:///absolute/socket`, `redis://…` or `rediss://…`; raises SettingsError for any other."""
    url = settings.redis_url
    if url is None:
        return f"unix://{quote(str(socket_path(settings)))}"
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise SettingsError(
            f"QOSQUEUE_REDIS_URL: expected redis://…, rediss://… or unix:///path, got scheme {parts.scheme!r}"
        )
    if parts.scheme == "unix" and (parts.hostname or not parts.path.startswith("/")):
        raise SettingsError("QOSQUEUE_REDIS_URL: expected three slashes and an absolute path after unix:")
    return url


def kombu_url(settings: Settings) -> str:
    """URL for Kombu: `redis+socket:///absolute/socket`, `redis://…` or `rediss://…`."""
    url = client_url(settings)
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    if parts.scheme == "unix":
        database = f"?virtual_host={query['db'][0]}" if "db" in query else ""
        # Kombu takes the path as it stands after one round of unquoting, like redis-py.
        return f"redis+socket://{quote(unquote(parts.path))}{database}"
    if parts.scheme == "rediss" and "ssl_cert_reqs" not in query:
        # redis-py checks certificates unless it is told not to; Kombu has to be told to.
        return f"{url}{'&' if parts.query else '?'}ssl_cert_reqs=required"
    return url


def connect(settings: Settings, *, socket_timeout_s: float | None = 2.0) -> redis.Redis:
    """Client that answers in bytes and never tries again by itself: an error comes at once, as redis.RedisError.

    `socket_timeout_s` bounds every read; a caller that blocks longer in one command gives more, or None for no
    bound. Nothing is connected before the first command.
    """
    return redis.Redis.from_url(
        client_url(settings),
        decode_responses=False,
        socket_timeout=socket_timeout_s,
        socket_connect_timeout=2.0,
        retry=Retry(NoBackoff(), 0),
        # No more than one for each thread is ever in use; redis-py's own limit of 100 would fail the 101st.
        max_connections=MAX_CONNECTIONS,
    )
