"""Is a wrong setting told of, with field, expected and got, and never ignored?"""

from __future__ import annotations

from pathlib import Path

import pytest

from qosqueue.errors import SettingsError
from qosqueue.settings import load_settings


def test_defaults_are_sound_and_the_record_is_in_the_home(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    assert settings.redis_url is None
    assert settings.sql_url() == f"sqlite:///{tmp_path / 'qosqueue.db'}"


def test_the_environment_is_read_and_what_is_given_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QOSQUEUE_PORT", "9001")
    monkeypatch.setenv("QOSQUEUE_LEASE_MS", "700")
    settings = load_settings(port=9002)
    assert (settings.port, settings.lease_ms) == (9002, 700)


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("QOSQUEUE_PORT", "eighty", "QOSQUEUE_PORT"),
        ("QOSQUEUE_PORT", "70000", "QOSQUEUE_PORT"),
        ("QOSQUEUE_LEASE_MS", "-1", "QOSQUEUE_LEASE_MS"),
        ("QOSQUEUE_GROUP", "a}b", "QOSQUEUE_GROUP"),
        ("QOSQUEUE_ORDER", "lifo", "QOSQUEUE_ORDER"),
    ],
)
def test_a_bad_value_names_field_expected_and_got(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, field: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    line = str(caught.value)
    assert line.startswith(f"{field}: ")
    assert line.endswith(f"got {value!r}")
    assert "\n" not in line


def test_a_misspelt_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QOSQUEUE_PROT", "8080")
    with pytest.raises(SettingsError, match=r"unknown setting QOSQUEUE_PROT: expected one of .*QOSQUEUE_PORT"):
        load_settings()


def test_settings_are_frozen() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1
