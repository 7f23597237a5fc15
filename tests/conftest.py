"""Which fixtures does every test see, and in which environment does it run?"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from qosqueue.settings import PREFIX

# How long an example takes says more of a busy machine than of the code.
settings.register_profile("qosqueue", deadline=None)
settings.load_profile("qosqueue")

pytest_plugins = [
    "tests.support.alone",
    "tests.support.broker",
    "tests.support.record",
    "tests.support.road",
    "tests.support.faulty",
]


@pytest.fixture(autouse=True)
def no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the settings of the shell that runs it (nor on those that speak to the tests alone)."""
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
