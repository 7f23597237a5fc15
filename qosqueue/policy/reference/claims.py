"""How much of a pool does an organisation claim, and what may it claim without losing place?"""

from __future__ import annotations

from dataclasses import dataclass

from qosqueue.policy.order import (
    ALLOWANCE_Q10,
    FREE_SERVICES,
    Q10,
    PoolTerms,
    claim,
    penalty_ms,
    tier_index,
)
from qosqueue.policy.reference.message import Message
from qosqueue.policy.terms import TIERS

Account = tuple[str, str]
"""Organisation (or tenant) and model."""


@dataclass(frozen=True)
class Share:
    """What an organisation was promised, in 1/1024: its contracted share, its allowance (None: its tier's), and how
    steeply its excess counts (1024 over its weight)."""

    contract_q10: int = 0
    allowance_q10: int | None = None
    steepness_q10: int = Q10


class Claims:
    """The claims of queued live work, and the tokens of contracts, by organisation and model."""

    def __init__(self) -> None:
        self.claimed: dict[Account, int] = {}
        self.tokens: dict[Account, tuple[int, int]] = {}
        self.shares: dict[str, Share] = {}

    def add(self, message: Message) -> None:
        """Count a message that joins the order."""
        if message.organisation:
            account = message.organisation, message.model
            self.claimed[account] = self.claimed.get(account, 0) + claim(message.cost_ms, message.urgency)

    def remove(self, message: Message) -> None:
        """Count it no more."""
        if message.organisation:
            account = message.organisation, message.model
            left = self.claimed.get(account, 0) - claim(message.cost_ms, message.urgency)
            if left > 0:
                self.claimed[account] = left
            else:
                self.claimed.pop(account, None)

    def charge(self, now: int, message: Message, terms: PoolTerms, priority: int) -> tuple[int, bool]:
        """What joining now costs a message in place: its penalty (ms), and whether it fits its contract.

        With other shares it is charged again for what was claimed before it when it joined, and what was in profile
        stays so: a promise that grows moves nothing back.
        """
        if not message.organisation or not message.budget_ms or not terms.slots:
            return 0, False
        share = self.shares.get(message.organisation, Share())
        if message.claimed is None:
            message.claimed = self.claimed.get((message.organisation, message.model), 0)
        if share.contract_q10 and (message.in_profile or self._take(now, message, terms, share.contract_q10)):
            return 0, True
        tier = TIERS[tier_index(priority)]
        allowed_q10 = share.allowance_q10
        if allowed_q10 is None:
            allowed_q10 = share.contract_q10 or ALLOWANCE_Q10[tier]
        allowance = max(allowed_q10 * terms.slots, FREE_SERVICES * claim(terms.mean_ms, message.urgency))
        excess = max(0, message.claimed - allowance)
        base = terms.base_ms if share.contract_q10 else 0
        return base + penalty_ms(excess, terms.slope_q20, share.steepness_q10), False

    def beyond_contract(self, message: Message) -> bool:
        """Whether its organisation has a contract and the message does not fit into it."""
        return not message.in_profile and self.shares.get(message.organisation, Share()).contract_q10 > 0

    def give_back(self, now: int, message: Message, terms: PoolTerms, unused_ms: int) -> None:
        """Put back into its contract's bucket what a message that was in profile did not use (ms of one slot; less than
        0: it used more). With `now` 0 the bucket is left at its instant: what only grows needs no clock.

        Who used more than it said may owe the bucket as much as it holds: small predictions buy nothing.
        """
        contract_q10 = self.shares.get(message.organisation, Share()).contract_q10
        if message.in_profile and contract_q10 and terms.slots:
            tokens, since, most = self._bucket(now, message, terms, contract_q10)
            self.tokens[message.organisation, message.model] = min(max(-most, tokens + (unused_ms << 10)), most), since

    def _take(self, now: int, message: Message, terms: PoolTerms, contract_q10: int) -> bool:
        """Take a message's cost out of the contract's bucket, if it is there. Tokens are 1/1024 ms of one slot."""
        tokens, since, _ = self._bucket(now, message, terms, contract_q10)
        cost = message.cost_ms << 10
        fits = cost <= tokens
        self.tokens[message.organisation, message.model] = tokens - cost if fits else tokens, since
        return fits

    def _bucket(self, now: int, message: Message, terms: PoolTerms, contract_q10: int) -> tuple[int, int, int]:
        """What is in the bucket, at which instant, and the most that it holds."""
        rate = contract_q10 * terms.slots
        most = rate * terms.burst_ms
        tokens, since = self.tokens.get((message.organisation, message.model), (most, now))
        elapsed = min(max(0, now - since), terms.burst_ms)
        # The clock that went back gives nothing twice.
        return min(tokens + elapsed * rate, most), max(now, since), most
