"""What has been admitted, and what does each request hold of which quota? Twin of `_holds.lua`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qosqueue.policy.ordered_set import OrderedSet
from qosqueue.policy.quota import DAY, HOLD_MS, MINUTE, Kind, Quota, Use, Verdict, fits, scaled, used_now

Account = tuple[Kind, str]


@dataclass(frozen=True)
class Held:
    """What one request has taken of one quota: how much, how much there was in all, and the day it is of."""

    amount: int
    most: int
    since: int


class Door:
    """Quotas and holds of one group. `running` counts the attempts under a name, `breaker` tells for how many ms one
    lets nothing in, `let_in` counts that it let one in."""

    def __init__(
        self,
        running: Mapping[str, int],
        breaker: Callable[[int, str], int],
        let_in: Callable[[str], None],
    ) -> None:
        self.used: dict[Account, Use] = {}
        self.holds: dict[str, dict[Account, Held]] = {}
        self.ends = OrderedSet()
        self._running = running
        self._breaker = breaker
        self._let_in = let_in

    def admit(self, now: int, request: str, quotas: Sequence[Quota]) -> Verdict:
        """Take from all quotas, or from none."""
        if request in self.holds:
            return Verdict(True, now, tuple(self._look(now, quota) for quota in quotas))
        used = tuple(self._look(now, quota) for quota in quotas)
        if not all(map(fits, quotas, used)):
            return Verdict(False, now, used)
        holds: dict[Account, Held] = {}
        for quota in quotas:
            if quota.kind is Kind.BREAKER:
                self._let_in(quota.name)
                continue
            account = quota.kind, quota.name
            before = self._use(now, account, quota.most)
            since = before.since if quota.kind in DAY else 0
            holds[account] = Held(quota.amount, quota.most, since)
            self._put(account, before.amount + scaled(quota.kind, quota.amount), before.since)
        self.holds[request] = holds
        self.ends.add(request, now + HOLD_MS)
        return Verdict(True, now, tuple(self._look(now, quota) for quota in quotas))

    def release(self, now: int, request: str, spent: Mapping[str, int] | None) -> int:
        """End a hold: 1, or 0 if there is none. `spent` is what was used of each unit; None: nothing, not even a
        request."""
        holds = self.holds.get(request)
        if holds is None:
            return 0
        for (kind, name), held in holds.items():
            actual = None if spent is None else _spent_of(kind, spent)
            if kind not in MINUTE and kind not in DAY:
                self._take_back((kind, name), held.amount)
            elif spent is None:
                self._give_back((kind, name), held)
            elif actual is not None and actual != held.amount:
                self._correct(now, (kind, name), held, actual)
        self._forget(request)
        return 1

    def end(self, request: str, *, was_served: bool) -> None:
        """The request's message is gone: unless it was served and its hold settled, everything is given back; what was
        served and never settled keeps what was estimated."""
        for (kind, name), held in self.holds.get(request, {}).items():
            if kind not in MINUTE and kind not in DAY:
                self._take_back((kind, name), held.amount)
            elif not was_served:
                self._give_back((kind, name), held)
        self._forget(request)

    def hold_on(self, request: str, until: int) -> None:
        """It is still there: look again then."""
        self.ends.add(request, until)

    def _forget(self, request: str) -> None:
        self.holds.pop(request, None)
        self.ends.remove(request)

    def _look(self, now: int, quota: Quota) -> int:
        if quota.kind is Kind.BREAKER:
            return self._breaker(now, quota.name)
        used = self._use(now, (quota.kind, quota.name), quota.most).amount
        if quota.kind is Kind.QUEUE:
            return max(0, used - self._running.get(quota.name, 0))
        return used

    def _use(self, now: int, account: Account, most: int) -> Use:
        return used_now(now, account[0], most, self.used.get(account, Use()))

    def _put(self, account: Account, amount: int, since: int) -> None:
        if amount <= 0:
            self.used.pop(account, None)
        else:
            self.used[account] = Use(min(amount, _MOST_COUNTED), since)

    def _take_back(self, account: Account, amount: int) -> None:
        self._put(account, self.used.get(account, Use()).amount - amount, 0)

    def _give_back(self, account: Account, held: Held) -> None:
        """Less used at its own instant is less used now: no clock is needed, and nothing is given twice."""
        kind = account[0]
        use = self.used.get(account)
        if use is not None and (kind in MINUTE or use.since == held.since):
            self._put(account, use.amount - scaled(kind, held.amount), use.since)

    def _correct(self, now: int, account: Account, held: Held, actual: int) -> None:
        """More used counts from now on, so what was used is drained first; a day that is over is left alone."""
        kind = account[0]
        use = self._use(now, account, held.most)
        if kind in DAY and use.since != held.since:
            return
        self._put(account, use.amount + scaled(kind, actual - held.amount), use.since)


_MOST_COUNTED = 1 << 52


def _spent_of(kind: Kind, spent: Mapping[str, int]) -> int | None:
    match kind:
        case Kind.TOKENS | Kind.DAY_TOKENS:
            return spent["tokens"]
        case Kind.DAY_GPU_MS:
            return spent["gpu_ms"]
        case _:
            return None
