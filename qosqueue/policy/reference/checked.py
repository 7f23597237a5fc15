"""Is a figure within its bounds? Looked at before a command changes anything."""

from __future__ import annotations

from collections.abc import Mapping

from qosqueue.policy.quota import LARGEST_AMOUNT


def check_spent(spent: Mapping[str, int] | None) -> None:
    """What a request has used, if that is told. Raises ValueError."""
    if spent is not None:
        checked(**{name: (spent[name], 0, LARGEST_AMOUNT) for name in ("tokens", "gpu_ms")})


def checked(**figures: tuple[int, int, int]) -> None:
    """Each figure with its least and most. Raises ValueError that names the first one out of its bounds."""
    for name, (value, least, most) in figures.items():
        if not least <= value <= most:
            raise ValueError(f"{name}: {least} to {most} expected, got {value}")
