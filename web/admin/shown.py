"""How are times, lengths and limits written for a person?"""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Flask

NONE = "–"


def add_filters(app: Flask) -> None:
    """Give the templates the filters `instant`, `iso`, `span` and `number`."""
    app.jinja_env.filters.update(instant=instant, iso=iso, span=span, number=number)


def instant(at_ms: int | None) -> str:
    """An instant (ms since the epoch) to the second, in UTC."""
    return NONE if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(at_ms: int) -> str:
    """An instant (ms since the epoch) for a `datetime` attribute."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")


def span(span_ms: int | None) -> str:
    """A length in ms in its two largest fitting units."""
    if span_ms is None:
        return NONE
    if span_ms < 1_000:
        return f"{max(span_ms, 0)} ms"
    if span_ms < 60_000:
        return f"{span_ms / 1000:.1f} s"
    minutes, rest_ms = divmod(span_ms, 60_000)
    if minutes < 60:
        return f"{minutes} min {rest_ms // 1000} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def number(value: int | None) -> str:
    """A count with thin spaces between the thousands."""
    return NONE if value is None else f"{value:,}".replace(",", "\u2009")
