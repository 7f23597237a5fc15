"""Which answer of the record may still be given? A fresh one, or the last known one while the record is away."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

from qosqueue.errors import StoreUnavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# A change of the policy counts everywhere within a second.
KEEP_MS = 1_000
MAX_ENTRIES = 10_000


class LastKnown(Generic[K, V]):
    """Answers of `look_up`, kept for `keep_ms`, at most `max_entries` of them. Safe to share between threads.

    A None is never kept: what was just made is found at once, and guesses of strangers take no memory.
    """

    def __init__(
        self,
        look_up: Callable[[K], V | None],
        *,
        monotonic_ms: Callable[[], int],
        keep_ms: int = KEEP_MS,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        self._look_up = look_up
        self._monotonic_ms = monotonic_ms
        self._keep_ms = keep_ms
        self._max_entries = max_entries
        self._answers: dict[K, tuple[V, int]] = {}
        self._generation = 0
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        """The answer for `key`, at most `keep_ms` old while the record answers.

        With the record away the last known answer serves, however old; raises StoreUnavailable if there is none.
        """
        # Taken before the question is put: the answer may be as old as this.
        asked_ms = self._monotonic_ms()
        # In this order, without the lock: an answer of a generation that ends meanwhile is not kept.
        generation = self._generation
        known = self._answers.get(key)
        if known is not None and asked_ms < known[1]:
            return known[0]
        try:
            answer = self._look_up(key)
        except StoreUnavailable:
            if known is None:
                raise
            # The next callers do not wait for a database that is away.
            self._keep(key, known[0], self._monotonic_ms() + self._keep_ms, generation)
            return known[0]
        if answer is None:
            with self._lock:
                self._answers.pop(key, None)
        else:
            self._keep(key, answer, asked_ms + self._keep_ms, generation)
        return answer

    def forget(self) -> None:
        """Ask the record again for everything: something was changed by this process."""
        with self._lock:
            self._generation += 1
            self._answers.clear()

    def _keep(self, key: K, answer: V, until_ms: int, generation: int) -> None:
        with self._lock:
            # An answer from before a change must not come back after it.
            if generation != self._generation:
                return
            self._answers.pop(key, None)
            while len(self._answers) >= self._max_entries:
                del self._answers[next(iter(self._answers))]
            self._answers[key] = (answer, until_ms)
