"""Which tests is the transport known to fail, and why? Read from different.toml.

Those test the insides of Kombu's own Redis transport, or a promise that this queue replaces by another one.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

LIST = Path(__file__).with_name("different.toml")


@dataclass(frozen=True)
class Difference:
    """Tests that fail for one reason: always, or `sometimes`.

    `tests` are patterns of node ids; one without a bracket means every parameter.
    """

    suite: str
    tests: tuple[str, ...]
    reason: str
    sometimes: bool

    def covers(self, suite: str, test: str) -> bool:
        """Whether this is about a test."""
        bare = test.partition("[")[0]
        return suite == self.suite and any(test == each or fnmatchcase(bare, each) for each in self.tests)


def differences(path: Path = LIST) -> list[Difference]:
    """The list; raises KeyError or tomllib.TOMLDecodeError if the file is not as it should be."""
    content = tomllib.loads(path.read_text("utf-8"))
    return [
        Difference(entry["suite"], tuple(entry["tests"]), entry["reason"], entry.get("sometimes", False))
        for entry in content.get("different", [])
    ]
