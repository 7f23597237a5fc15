"""Does a request get what was agreed for its tenant, model and task type, the most specific first?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qosqueue.policy.agreement import AGREED_FIELDS, LIMITS, Agreed, Bound, Rule, agreement
from qosqueue.policy.terms import OnLate, RoadStep, TaskType

AGREED = st.builds(
    Agreed,
    **{name: st.none() | st.integers(0, 9) for name in AGREED_FIELDS if name not in ("on_late", "road")},
    on_late=st.none() | st.sampled_from(OnLate),
    road=st.none() | st.lists(st.sampled_from(RoadStep), min_size=1, unique=True).map(tuple),
)
RULES = st.lists(
    st.builds(
        Rule,
        tenant_id=st.sampled_from([None, "t", "other"]),
        model=st.sampled_from([None, "m", "n"]),
        task_type=st.sampled_from([None, TaskType.BATCH, TaskType.ONLINE]),
        agreed=AGREED,
    ).filter(lambda rule: rule.model or rule.task_type),
    unique_by=lambda rule: (rule.tenant_id, rule.model, rule.task_type),
)


def of(own: Agreed, rules: list[Rule]) -> tuple[set[Bound], Agreed]:
    found = agreement("t", own, rules, "m", TaskType.BATCH)
    assert len(set(found.bounds)) == len(found.bounds)
    return set(found.bounds), found.agreed


@given(AGREED, RULES)
def test_the_tenants_own_limits_hold_whatever_is_overridden(own: Agreed, rules: list[Rule]) -> None:
    bounds, _ = of(own, rules)
    whole = {bound.limit: bound.most for bound in bounds if bound.model is None and bound.task_type is None}
    assert whole == {name: getattr(own, name) for name in LIMITS if getattr(own, name) is not None}


@given(AGREED, RULES)
def test_each_limit_is_that_of_the_tenant_before_that_for_each_tenant(own: Agreed, rules: list[Rule]) -> None:
    bounds, _ = of(own, rules)
    for model, task_type in (("m", None), (None, TaskType.BATCH), ("m", TaskType.BATCH)):
        for limit in LIMITS:
            wanted = None
            for tenant in (None, "t"):
                for rule in rules:
                    if (rule.tenant_id, rule.model, rule.task_type) == (tenant, model, task_type):
                        said = getattr(rule.agreed, limit)
                        wanted = wanted if said is None else said
            assert (wanted is not None) == any(
                (bound.limit, bound.model, bound.task_type) == (limit, model, task_type) for bound in bounds
            )
            assert wanted is None or Bound(limit, wanted, model, task_type) in bounds


@given(AGREED, RULES)
def test_a_target_is_that_of_the_most_specific_rule_that_says_one(own: Agreed, rules: list[Rule]) -> None:
    _, agreed = of(own, rules)
    order = [(model, task) for model, task in (("m", TaskType.BATCH), ("m", None), (None, TaskType.BATCH))]
    specific_first = [
        rule.agreed
        for model, task in order
        for tenant in ("t", None)
        for rule in rules
        if (rule.tenant_id, rule.model, rule.task_type) == (tenant, model, task)
    ]
    for name in set(AGREED_FIELDS) - set(LIMITS):
        said = [getattr(each, name) for each in (*specific_first, own) if getattr(each, name) is not None]
        assert getattr(agreed, name) == (said[0] if said else None)
    assert all(getattr(agreed, name) is None for name in LIMITS), "limits are told as bounds, each with what it counts"


@given(AGREED, RULES)
def test_rules_of_others_change_nothing(own: Agreed, rules: list[Rule]) -> None:
    mine = [rule for rule in rules if rule.tenant_id != "other" and rule.model != "n"]
    assert of(own, rules) == of(own, mine) == of(own, rules[::-1])
