"""Do the scripts in a real server start the same requests at the same times as the reference, through the simulator?"""

from __future__ import annotations

from scripts.bench.binding import misses_bound_early
from scripts.bench.sim.scenes import flooded, mixed
from scripts.bench.sim.setting import Setting, setting


def starts(chosen: Setting, name: str) -> list[int]:
    return list(chosen.run(name, flooded(chosen, seed=7)).started_ms)


def test_the_real_scripts_start_what_the_reference_starts() -> None:
    chosen = setting("flood", "", ["--requests", "1000", "--slots", "8", "--redis"], rho=1.0)
    ours = starts(chosen, "qosqueue-redis")
    assert ours == starts(chosen, "qosqueue")
    assert len(set(ours)) > 100


def test_rules_that_are_there_at_the_same_time_do_not_meet() -> None:
    chosen = setting("binding", "", ["--requests", "1000", "--slots", "8", "--redis"], rho=0.95)
    work = mixed(chosen, chosen.rho, seed=7)
    assert misses_bound_early(work, "qosqueue-redis") == misses_bound_early(work, "qosqueue") > 0
