"""What does somebody see while the load runs? A live line on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from scripts.demo.drive import Tell
from scripts.demo.load import STREAMS
from scripts.demo.measure import Outcome

LINE_EVERY_S = 5.0


class Display:
    """Tells of the phases of a run and of the load under way."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._console = console
        self._seconds = seconds

    def say(self, line: str) -> None:
        """One line that stays."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def load(self, name: str) -> Iterator[Tell]:
        """Follow one run of the load."""
        if not self._console.is_terminal:
            yield self._lines(name)
            return
        columns = (TextColumn("  {task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[counts]}"))
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(name, total=self._seconds, counts="")

            def tell(elapsed_s: float, outcomes: Sequence[Outcome]) -> None:
                progress.update(task, completed=max(0.0, elapsed_s), counts=self._text(elapsed_s, outcomes))

            yield tell

    def _lines(self, name: str) -> Tell:
        next_s = LINE_EVERY_S

        def tell(elapsed_s: float, outcomes: Sequence[Outcome]) -> None:
            nonlocal next_s
            if elapsed_s >= next_s:
                next_s += LINE_EVERY_S
                self.say(f"  {name} {self._text(elapsed_s, outcomes)}")

        return tell

    def _text(self, elapsed_s: float, outcomes: Sequence[Outcome]) -> str:
        return f"{min(max(0.0, elapsed_s), self._seconds):2.0f} of {self._seconds:g} s  {counts(list(outcomes))}"


def counts(outcomes: Sequence[Outcome]) -> str:
    """How many requests of each tier have ended so far, and how many of them in budget."""
    told = []
    for tier, stream in STREAMS.items():
        ended = [outcome for outcome in outcomes if outcome.tier == tier]
        in_budget = sum(outcome.met(stream.judged) for outcome in ended)
        told.append(f"{tier} {in_budget}/{len(ended)}" if stream.judged.ms is not None else f"{tier} {in_budget} done")
    return "in budget: " + ", ".join(told)
