"""Who is first among those who wait? Ordered rows, one for each stand, lane and model, kept by tenant.

A row holds each tenant's messages in an order of their own, and the tenants by their first message. So a tenant that
is at its limit is passed over in one step, however much it has queued: it is *parked* until a slot of its own is free.
"""

from __future__ import annotations

from qosqueue.policy.ordered_set import OrderedSet
from qosqueue.policy.reference.message import Message, Row

TenantRow = tuple[Row, str]


class Rows:
    """Every row of one group."""

    def __init__(self) -> None:
        self.waiting: dict[TenantRow, OrderedSet] = {}
        self.heads: dict[Row, OrderedSet] = {}
        self.depth: dict[Row, int] = {}
        self.parked: dict[str, set[Row]] = {}

    def enter(self, message: Message) -> None:
        """Put a message in by its score."""
        row, tenant = message.row, message.tenant
        waiting = self.waiting.setdefault((row, tenant), OrderedSet())
        waiting.add(message.tag, message.score)
        if waiting.top()[1] == message.tag:
            # A parked tenant that comes up again is parked again by the next pick.
            self.heads.setdefault(row, OrderedSet()).add(tenant, message.score)
        self.depth[row] = self.depth.get(row, 0) + 1

    def leave(self, message: Message) -> None:
        """Take a message out."""
        row, tenant = message.row, message.tenant
        waiting = self.waiting[row, tenant]
        waiting.remove(message.tag)
        heads = self.heads.get(row)
        first = waiting.first()
        if first is None:
            del self.waiting[row, tenant]
            if heads is not None:
                heads.remove(tenant)
            self._forget_parked(row, tenant)
        elif heads is not None and tenant in heads:
            heads.add(tenant, first[0])
        if heads is not None and not heads:
            del self.heads[row]
        self.depth[row] -= 1
        if not self.depth[row]:
            del self.depth[row]

    def head(self, row: Row) -> tuple[int, str] | None:
        """(score, tenant) of the first tenant of a row that is not parked."""
        heads = self.heads.get(row)
        return None if heads is None else heads.first()

    def first_of(self, row: Row, tenant: str) -> str:
        """Tag of a tenant's first message in a row that it waits in."""
        return self.waiting[row, tenant].top()[1]

    def park(self, row: Row, tenant: str) -> None:
        """Pass a tenant over in a row until `unpark`."""
        self.heads[row].remove(tenant)
        if not self.heads[row]:
            del self.heads[row]
        self.parked.setdefault(tenant, set()).add(row)

    def unpark(self, tenant: str) -> set[Row]:
        """Let a tenant be picked again wherever it was parked; those rows."""
        rows = self.parked.pop(tenant, set())
        for row in rows:
            self.heads.setdefault(row, OrderedSet()).add(tenant, self.waiting[row, tenant].top()[0])
        return rows

    def _forget_parked(self, row: Row, tenant: str) -> None:
        rows = self.parked.get(tenant)
        if rows is not None:
            rows.discard(row)
            if not rows:
                del self.parked[tenant]
