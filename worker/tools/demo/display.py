"""Output of the demo: a live progress bar on a terminal, plain lines elsewhere, and the final table."""

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self, TextIO

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from worker.tools.demo.requests import DemoResult, OutcomeRow, OutcomeTracker

PLAIN_WIDTH_COLUMNS: Final = 100
PROGRESS_INTERVAL_SECONDS: Final = 1.0
MAX_PROBLEMS_SHOWN: Final = 10
OUTCOME_COLOURS: Final = {"created": "green", "adopted": "cyan"}


class DemoDisplay:
    """Prints to `stream`; rich detects a terminal and respects NO_COLOR."""

    def __init__(self, stream: TextIO) -> None:
        console = Console(file=stream, highlight=False)
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        self._console = (
            console
            if self._is_live
            else Console(file=stream, highlight=False, width=PLAIN_WIDTH_COLUMNS, no_color=True)
        )
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._stack = ExitStack()
        self._last_line = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def say(self, text: str) -> None:
        """Print one line without markup."""
        self._console.print(text, markup=False, soft_wrap=True)

    def progress(self, tally: OutcomeTracker) -> None:
        """Show how many requests have an event, by outcome: a bar on a terminal, else a line per second."""
        if self._is_live:
            self._draw(tally)
        elif tally.is_complete or time.monotonic() - self._last_line >= PROGRESS_INTERVAL_SECONDS:
            self._last_line = time.monotonic()
            self.say(f"{tally.answered} of {len(tally.planned)} answered: {_counts(tally)}")

    def result(self, result: DemoResult) -> None:
        """Print the final table and the verdict."""
        self._stack.close()
        self._console.print()
        self._console.print(_table(result))
        self.say(_tasks(result))
        for problem in result.problems[:MAX_PROBLEMS_SHOWN]:
            self._console.print(f"  {problem}", markup=False, style="red")
        if len(result.problems) > MAX_PROBLEMS_SHOWN:
            self.say(f"  and {len(result.problems) - MAX_PROBLEMS_SHOWN} more")

    def _draw(self, tally: OutcomeTracker) -> None:
        if self._progress is None:
            columns = (
                TextColumn("{task.completed}/{task.total} answered"),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[counts]}"),
            )
            self._progress = self._stack.enter_context(Progress(*columns, console=self._console))
            self._task = self._progress.add_task("", total=len(tally.planned), counts="")
        self._progress.update(self._task, completed=tally.answered, counts=_counts(tally))


def _counts(tally: OutcomeTracker) -> str:
    return ", ".join(f"{outcome} {count}" for outcome, count in tally.outcomes.most_common()) or "none yet"


def _tasks(result: DemoResult) -> str:
    found, expected = result.tasks_found, result.tasks_expected
    if result.is_ok:
        return f"{found} tasks exist for the {expected} requests that should have one: exactly one each."
    return f"{found} tasks exist, {expected} requests should have one, and {len(result.problems)} things are wrong:"


def _table(result: DemoResult) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, title=f"{result.requests} requests in {result.seconds:.1f} s", title_style="bold"
    )
    table.add_column("outcome", no_wrap=True)
    for name in ("requests", "p50", "p95", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("injected fault", no_wrap=True)
    for row in result.outcomes:
        times = (_seconds(value) for value in (row.p50, row.p95, row.max))
        table.add_row(
            row.outcome, str(row.requests), *times, _met(row), style=OUTCOME_COLOURS.get(row.outcome, "yellow")
        )
    return table


def _met(row: OutcomeRow) -> str:
    return "\n".join(f"{count:>4} {met}" for met, count in row.met.items())


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"
