"""What can go wrong, as the person who reads it would say it.

An exception here means that an expectation broke (a file is missing, the broker is away). A refusal of a
request is not an exception: it is a value, `qosqueue.policy.refusal.Refusal`.
"""

from collections.abc import Sequence


class QosqueueError(Exception):
    """Base of every error that qosqueue raises on purpose; its text is one clear line."""


class SettingsError(QosqueueError):
    """A setting is missing, unknown or of the wrong kind; the text names the field, what was expected and what came."""


class BrokerUnavailable(QosqueueError):
    """Redis or Valkey cannot be reached, or refuses writes; nothing was accepted."""


class StoreUnavailable(QosqueueError):
    """The SQL database cannot be reached or is locked; nothing was accepted."""


class NotFound(QosqueueError):
    """No such tenant, model, key or job, for the one who asks."""


class Conflict(QosqueueError):
    """The name is taken, or the state of the thing does not allow the change."""


class EngineError(QosqueueError):
    """A model could not be loaded, or an engine failed while it ran."""


class InvalidField(QosqueueError):
    """A value that a person gave is out of range; the text names the field, what was expected and what came.

    Never pass a secret as `got`: the text is shown and logged.
    """

    def __init__(self, field: str, expected: str, got: object) -> None:
        shown = "nothing" if got is None else repr(got)
        if len(shown) > 100:
            shown = f"{shown[:100]}… ({len(shown)} characters)"
        super().__init__(f"{field}: expected {expected}, got {shown}")
        self.field = field
        self.expected = expected
        self.got = got


class NoRoom(InvalidField):
    """The value is a sound one, but others have taken what it would need."""


class InvalidPolicy(QosqueueError):
    """A policy that cannot hold: every value in it that is at fault, each named by its key. The text is a line each."""

    def __init__(self, faults: Sequence[InvalidField]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults
