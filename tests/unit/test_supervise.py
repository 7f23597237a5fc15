"""Does the supervisor keep parts alive, tell of their ends, and drain them in order?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qosqueue.errors import Conflict
from qosqueue.ops import home_lock
from qosqueue.ops.child import last_line, spawn
from qosqueue.ops.signals import Signals
from qosqueue.ops.supervise import STOPPING, Part, StartFailed, Supervisor
from tests.support.eventually import eventually


class FakeChild:
    """A process that ends when the test says so, or on SIGTERM unless it is stubborn."""

    def __init__(self, diary: list[str], name: str, stubborn: bool) -> None:
        self.pid = 2**22 + 1  # above the kernel's largest process id: no group has it
        self.code: int | None = None
        self._diary, self._name, self._stubborn = diary, name, stubborn

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self._diary.append(f"terminate {self._name}")
        if not self._stubborn:
            self.code = 0


class World:
    """A clock that the supervisor's own waits move on, and what was told and started."""

    def __init__(self, tmp_path: Path) -> None:
        self.now_s = 1000.0
        self.stops = 0
        self.told: list[str] = []
        self.diary: list[str] = []
        self.children: dict[str, FakeChild] = {}
        self.on_wait: Callable[[], None] = lambda: None
        self._tmp_path = tmp_path
        self.supervisor = Supervisor(wait=self.wait, tell=self.told.append, clock=lambda: self.now_s)

    def wait(self, timeout_s: float) -> int:
        assert timeout_s >= 0
        self.now_s += timeout_s
        self.on_wait()
        return self.stops

    def part(self, name: str, *, stubborn: bool = False, broken: bool = False) -> Part:
        def start() -> FakeChild:
            if broken and name in self.children:
                raise Conflict("somebody else has it")
            self.diary.append(f"start {name}")
            self.children[name] = FakeChild(self.diary, name, stubborn)
            return self.children[name]

        return Part(name, start, self._tmp_path / f"{name}.log")

    def live(self, seconds: float) -> None:
        """Let time go by in steps as short as the shortest pause."""
        until = self.now_s + seconds
        while self.now_s < until:
            self.now_s += 0.25
            self.supervisor.look()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_part_that_dies_is_told_about_and_started_again(world: World, tmp_path: Path) -> None:
    (tmp_path / "web.log").write_text("fine\nout of memory\n\n")
    world.supervisor.start(world.part("web"))
    world.children["web"].code = -signal.SIGKILL
    world.supervisor.look()
    assert world.told == [
        f"web ended with signal 9 (SIGKILL); last line of {tmp_path / 'web.log'}: out of memory; next try in 0.5 s"
    ]
    world.live(0.25)
    assert world.diary == ["start web"]
    world.live(0.25)
    assert world.diary == ["start web", "start web"]
    assert world.told[1].startswith("web is started again")


def test_pauses_double_up_to_a_bound_and_fall_back_after_a_healthy_minute(world: World) -> None:
    world.supervisor.start(world.part("web"))
    pauses = []
    for _ in range(8):
        world.children["web"].code = 1
        world.supervisor.look()
        pauses.append(float(world.told[-1].split("next try in ")[1].split(" ")[0]))
        world.live(pauses[-1])
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
    world.live(60)
    world.children["web"].code = 1
    world.supervisor.look()
    assert world.told[-1].endswith("next try in 0.5 s")


def test_a_part_that_cannot_even_be_started_is_tried_again_too(world: World) -> None:
    world.supervisor.start(world.part("broker", broken=True))
    world.children["broker"].code = 0
    world.live(1)
    assert world.told[1] == "broker could not be started: somebody else has it; next try in 1 s"
    world.live(1)
    assert world.told[2].endswith("next try in 2 s")


def test_during_start_up_an_end_is_a_failure_with_the_last_words(world: World, tmp_path: Path) -> None:
    (tmp_path / "worker.log").write_text("no such model\n")
    world.supervisor.start(world.part("worker"))
    world.supervisor.require_all_alive()
    world.children["worker"].code = 3
    with pytest.raises(StartFailed, match="worker ended with exit code 3: no such model"):
        world.supervisor.require_all_alive()


def test_drain_ends_the_last_started_first_and_leaves_out_what_is_down(world: World) -> None:
    for name in ("broker", "worker", "beat", "web"):
        world.supervisor.start(world.part(name))
    world.children["beat"].code = 1
    world.supervisor.look()
    world.supervisor.drain()
    assert [line for line in world.diary if line.startswith("terminate")] == [
        "terminate web",
        "terminate worker",
        "terminate broker",
    ]


def test_a_stubborn_part_is_killed_after_its_grace(world: World) -> None:
    world.supervisor.start(world.part("web", stubborn=True))
    before_s = world.now_s

    def die_if_killed() -> None:
        if world.told:
            world.children["web"].code = -9

    world.on_wait = die_if_killed
    world.supervisor.drain()
    assert world.told == ["web did not end in time: killed"]
    assert 10 <= world.now_s - before_s <= 12


def test_a_second_stop_signal_cuts_the_grace(world: World) -> None:
    world.supervisor.start(world.part("web", stubborn=True))
    before_s = world.now_s
    world.stops = 1

    def ask_again() -> None:
        if world.now_s - before_s >= 2:
            world.stops = 2
        if world.told[-1:] == ["web killed"]:
            world.children["web"].code = -9

    world.on_wait = ask_again
    world.supervisor.drain()
    assert world.told == [STOPPING, "web killed"]
    assert world.now_s - before_s < 5


def test_who_asks_to_stop_is_told_what_is_waited_for_and_what_has_ended(world: World) -> None:
    world.supervisor.start(world.part("broker"))
    world.supervisor.start(world.part("web"))
    world.stops = 1
    world.supervisor.drain()
    assert world.told == [STOPPING, "web has ended", "broker has ended"]


def test_a_part_that_ends_on_the_second_signal_is_not_called_killed(world: World) -> None:
    world.supervisor.start(world.part("web", stubborn=True))
    world.stops = 1

    def end_with_the_signal() -> None:
        if world.told:
            world.stops = 2
            world.children["web"].code = 0

    world.on_wait = end_with_the_signal
    world.supervisor.drain()
    assert world.told == [STOPPING, "web has ended"]


def test_serve_ends_when_a_stop_is_asked_for(world: World) -> None:
    world.supervisor.start(world.part("web"))

    def stop_later() -> None:
        if world.now_s >= 1002:
            world.stops = 1

    world.on_wait = stop_later
    world.supervisor.serve()
    assert world.now_s == 1002


@pytest.fixture
def signals() -> Iterator[Signals]:
    with Signals() as entered:
        yield entered


def test_real_processes_are_killed_with_all_their_group(signals: Signals, tmp_path: Path) -> None:
    log = tmp_path / "family.log"
    # A leader that ignores SIGTERM, with a child of its own.
    script = "trap '' TERM; sleep 1000 & echo $!; wait; wait"
    part = Part("family", lambda: spawn(["sh", "-c", script], env=os.environ, log=log), log, grace_s=0.2)
    told: list[str] = []
    supervisor = Supervisor(wait=signals.wait, tell=told.append)
    supervisor.start(part)
    grandchild = int(eventually(lambda: log.read_text().strip(), 10))
    supervisor.drain()
    assert told == ["family did not end in time: killed"]
    eventually(lambda: not _runs(grandchild), 10)


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "orphan.log"
    parent = (
        "import os, signal\nfrom pathlib import Path\nfrom qosqueue.ops.child import spawn\n"
        f"child = spawn(['sleep', '1000'], env=os.environ, log=Path({str(log)!r}))\n"
        "print(child.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    child = int(done.stdout)
    eventually(lambda: not _runs(child), 10)


def test_a_stop_signal_is_counted_and_ends_the_wait(signals: Signals) -> None:
    assert signals.wait(0) == 0
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.wait(30) == 1
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.wait(30) == 2


def test_a_home_has_one_holder(tmp_path: Path) -> None:
    assert home_lock.serving(tmp_path) is None
    with home_lock.hold(tmp_path) as claim:
        claim.tell(8123)
        assert home_lock.serving(tmp_path) == home_lock.Serving(os.getpid(), 8123)
        with pytest.raises(Conflict, match=f"process {os.getpid()}, port 8123"), home_lock.hold(tmp_path):
            pytest.fail("held twice")
    assert home_lock.serving(tmp_path) is None


def test_last_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert last_line(log) == "(no log)"
    log.write_bytes(b"")
    assert last_line(log) == "(empty log)"
    log.write_bytes(b"one\n" * 5000 + "zwölf\n  \n".encode())
    assert last_line(log) == "zwölf"


def _runs(pid: int) -> bool:
    """Whether the process is there and no zombie that waits to be collected."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
