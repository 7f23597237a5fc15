"""Which scheduling rules can be compared, by name?"""

from __future__ import annotations

from scripts.bench.policies.fifo import Fifo
from scripts.bench.policies.interface import MakePolicy
from scripts.bench.policies.w1 import W1, w2

POLICIES: dict[str, MakePolicy] = {"fifo": Fifo, "w1": W1, "w2": w2}
