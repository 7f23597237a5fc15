"""Do the scripts in a real server start the same requests at the same times as the reference, through the simulator?"""

from __future__ import annotations

from scripts.bench.sim.scenes import flooded
from scripts.bench.sim.setting import Setting, setting


def starts(chosen: Setting, name: str) -> list[int]:
    return list(chosen.run(name, flooded(chosen, seed=7)).started_ms)


def test_the_real_scripts_start_what_the_reference_starts() -> None:
    chosen = setting("flood", "", ["--requests", "1000", "--slots", "8", "--redis"], rho=1.0)
    ours = starts(chosen, "qosqueue-redis")
    assert ours == starts(chosen, "qosqueue")
    assert len(set(ours)) > 100
