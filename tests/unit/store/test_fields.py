"""Are names and numbers refused with field, expected and got?"""

from __future__ import annotations

import pytest

from qosqueue.errors import InvalidField
from qosqueue.policy.terms import Tier
from qosqueue.service.fields import (
    MODEL_NAME,
    TENANT_NAME,
    USER_NAME,
    Naming,
    checked_choice,
    checked_flag,
    checked_name,
    checked_whole,
)


@pytest.mark.parametrize("name", ["a", "Acme Corp", "x" * 64, "a.b_c-d", "ten_acme"])
def test_tenant_names_that_are_allowed(name: str) -> None:
    assert checked_name("name", name, TENANT_NAME) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", " a", "a ", "x" * 65, "a\n", "a\tb", "a{b}", "a:b", "a'b", 'a"b', "<b>", "ä", "a\0", "a/b"),
        *(7, None, f"ten_{'0' * 24}"),
    ],
)
def test_tenant_names_that_are_refused(name: object) -> None:
    with pytest.raises(InvalidField) as refused:
        checked_name("name", name, TENANT_NAME)
    assert refused.value.field == "name"
    assert refused.value.got is name
    assert str(refused.value).startswith("name: expected 1 to 64 letters")


@pytest.mark.parametrize(("naming", "name"), [(USER_NAME, "a@b.example"), (MODEL_NAME, "org/model:7b")])
def test_other_names(naming: Naming, name: str) -> None:
    assert checked_name("name", name, naming) == name
    for wrong in ("", "a b", "a\n", "x" * 65):
        with pytest.raises(InvalidField):
            checked_name("name", wrong, naming)


@pytest.mark.parametrize("value", [0, 1001, -1, True, 1.0, "7", None, 2**70])
def test_whole_numbers_out_of_range(value: object) -> None:
    with pytest.raises(InvalidField, match="weight: expected a whole number from 1 to 1000, got"):
        checked_whole("weight", value, 1, 1000)


def test_whole_numbers_in_range() -> None:
    assert [checked_whole("weight", value, 1, 1000) for value in (1, 1000)] == [1, 1000]


def test_choices_and_flags() -> None:
    assert checked_choice("tier", "vip", Tier) is Tier.VIP
    for wrong in ("VIP", "", None, 3, ["vip"]):
        with pytest.raises(InvalidField, match="tier: expected one of vip, standard, basic"):
            checked_choice("tier", wrong, Tier)
    assert checked_flag("enabled", False) is False
    with pytest.raises(InvalidField, match="enabled: expected true or false, got 1"):
        checked_flag("enabled", 1)


def test_a_long_value_is_shown_in_part_and_on_one_line() -> None:
    told = str(InvalidField("name", "a name", "x\n" * 5_000))
    assert "\n" not in told
    assert len(told) < 200
    assert "15002 characters" in told
