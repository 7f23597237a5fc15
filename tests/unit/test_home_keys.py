"""Are the keys of a home made once, private, each for itself, and refused when damaged?"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from qosqueue.errors import QosqueueError
from qosqueue.service.home_keys import SESSION_FILE, WEBHOOK_FILE, session_key, webhook_key

KEYS = [(session_key, SESSION_FILE), (webhook_key, WEBHOOK_FILE)]


@pytest.mark.parametrize(("key_of", "name"), KEYS)
def test_it_is_made_once_and_private(tmp_path: Path, key_of: Callable[[Path], bytes], name: str) -> None:
    home = tmp_path / "home"
    first = key_of(home)
    assert len(first) >= 32
    assert key_of(home) == first
    (file,) = home.iterdir()
    assert file.name == name
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_each_is_another(tmp_path: Path) -> None:
    assert session_key(tmp_path) != webhook_key(tmp_path)


@pytest.mark.parametrize("damaged", [b"", b"short"])
@pytest.mark.parametrize(("key_of", "name"), KEYS)
def test_a_damaged_file_signs_nothing(
    tmp_path: Path, key_of: Callable[[Path], bytes], name: str, damaged: bytes
) -> None:
    (tmp_path / name).write_bytes(damaged)
    with pytest.raises(QosqueueError, match=name):
        key_of(tmp_path)
