"""Which tests of others are run, and of which version?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    """Tests inside a project's source distribution.

    `modules` are glob patterns of the files to run, each in a pytest process of its own as the project's own checks
    do: several tests look at state that is global to a process or a server. `left_out` cannot run on Redis at all.
    """

    name: str
    project: str
    version: str
    modules: tuple[str, ...]
    left_out: tuple[str, ...] = ()


SUITES = (
    Suite(
        "celery",
        "celery",
        "5.7.0",
        modules=("t/integration/test_*.py",),
        # It needs an account of a cloud's object store.
        left_out=("t/integration/test_backend.py",),
    ),
    Suite("kombu", "kombu", "5.7.0", modules=("t/integration/test_redis.py", "t/integration/test_redis_brpop_qos.py")),
)
"""The versions are those that constraints.txt pins: the transport uses private names of theirs."""
