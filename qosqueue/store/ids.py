"""How are rows named? By random ids that say what they name and give nothing away."""

from __future__ import annotations

import secrets
from typing import Literal

RANDOM_BYTES = 12


def new_id(prefix: Literal["ten", "key", "usr", "tok", "job", "file", "batch", "whe", "evt"]) -> str:
    """A fresh id: the prefix, an underscore and 24 hex characters (96 random bits)."""
    return f"{prefix}_{secrets.token_hex(RANDOM_BYTES)}"
