"""What did a person type into a small form, and what is wrong with it?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from qosqueue.errors import InvalidField, InvalidPolicy
from qosqueue_web.admin.forms import EXPECTED, WHOLE_NUMBER

WHOLE_FORM = ""
"""Where a fault stands that is no single field's."""


@dataclass
class SmallForm:
    """The fields as typed, shown again, and the faults by field."""

    typed: dict[str, str]
    faults: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, sent: Mapping[str, str], names: Iterable[str]) -> SmallForm:
        """The named fields of what was sent; nothing else is looked at."""
        return cls({name: sent.get(name, "").strip() for name in names})

    def whole(self, name: str) -> int | None:
        """A whole number; None if nothing was typed, or if it is none, which is a fault."""
        text = self.typed[name]
        if text and not WHOLE_NUMBER.fullmatch(text):
            self.refuse(InvalidField(name, EXPECTED, text))
            return None
        return int(text) if text else None

    def refuse(self, error: InvalidField) -> None:
        """Put an objection at its field, or over the form if it is about another."""
        name = error.field.rpartition("].")[2]
        got = "" if error.got is None else f", got {error.got!r:.60}"
        if name in self.typed:
            self.faults[name] = f"Expected {error.expected}{got}."
        else:
            self.refuse_whole(f"{error.field}: expected {error.expected}{got}.")

    def refuse_all(self, error: InvalidPolicy) -> None:
        """Put every objection of the policy at its field."""
        for fault in error.faults:
            self.refuse(fault)

    def refuse_whole(self, why: str) -> None:
        """Put an objection over the form."""
        self.faults[WHOLE_FORM] = why
