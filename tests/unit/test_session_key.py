"""Is the key that signs sessions made once, private, and refused when it is damaged?"""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from qosqueue.errors import QosqueueError
from qosqueue.service.session_key import FILE, session_key


def test_it_is_made_once_and_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = session_key(home)
    assert len(first) >= 32
    assert session_key(home) == first
    (file,) = home.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("damaged", [b"", b"short"])
def test_a_damaged_file_signs_nothing(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / FILE).write_bytes(damaged)
    with pytest.raises(QosqueueError, match=FILE):
        session_key(tmp_path)
