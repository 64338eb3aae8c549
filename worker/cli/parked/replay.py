"""`parked replay`: sends parked requests to the requests queue, a canary first; without --yes a dry run."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import typer

from worker.cli.common import EXIT_FAILED, printable
from worker.cli.parked.canary import Canary, CanaryOutcome
from worker.cli.parked.parked_queue import NO_MATCH, selected_requests
from worker.cli.parked.replay_preview import ReplayVerdict, open_preview
from worker.cli.parked.request import ParkedRequest
from worker.cli.parked.selection import Selection
from worker.cli.progress import Pacer, ProgressDisplay
from worker.config import Configuration
from worker.rabbit.tools.parked_queue import ParkedQueue

MAX_HOLD_SECONDS: Final = 1200.0
"""A replay stops after this: brokers requeue what is unacknowledged for 1,800 s (their default)."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """Size of the canary, requests per second, and seconds to wait for the outcomes of the canary."""

    canary: int
    rate: float | None
    timeout: float
    as_json: bool


async def preview(queue: ParkedQueue, loaded: Configuration, selection: Selection, options: ReplayOptions) -> int:
    """Dry run: print the expected result of each request; the exit status. Raises BrokerError."""
    selected = await selected_requests(queue, loaded.settings, selection)
    await queue.release()  # the lookups take longer than a broker lets messages be unacknowledged
    verdicts: list[tuple[ParkedRequest, ReplayVerdict]] = []
    width = max((len(printable(request.id)) for request in selected), default=0)

    def on_verdict(request: ParkedRequest, verdict: ReplayVerdict) -> None:
        verdicts.append((request, verdict))
        if not options.as_json:
            typer.echo(f"{printable(request.id):<{width}}  {printable(verdict.text)}")

    async with open_preview(loaded, Pacer(options.rate)) as replay_preview:
        await replay_preview.check_all(selected, on_verdict)
    if options.as_json:
        typer.echo(
            json.dumps({"replayed": False, "requests": [_verdict_as_json(*item) for item in verdicts]}, indent=2)
        )
    elif not selected:
        typer.echo(NO_MATCH)
    else:
        typer.echo(f"\n{_counts([verdict for _, verdict in verdicts])} Dry run: nothing was sent. --yes replays them.")
    return selection.exit_status(len(selected))


def _verdict_as_json(request: ParkedRequest, verdict: ReplayVerdict) -> dict[str, object]:
    return {**request.summary(), "verdict": verdict.kind, "text": verdict.text, "tasks": list(verdict.tasks)}


_VERDICT_COUNTS: Final = {
    "create": "{:,} would create a task.",
    "exists": "{:,} have a task.",
    "unclear": "{:,} unknown.",
    "expire": "{:,} would expire.",
    "invalid": "{:,} are invalid.",
}


def _counts(verdicts: Sequence[ReplayVerdict]) -> str:
    counts = ((text, sum(verdict.kind == kind for verdict in verdicts)) for kind, text in _VERDICT_COUNTS.items())
    return " ".join(text.format(count) for text, count in counts if count)


class Replay:
    """One replay: counts what was sent and prints it at the end, also after an error or a signal."""

    def __init__(self, queue: ParkedQueue, loaded: Configuration, options: ReplayOptions) -> None:
        self._queue = queue
        self._settings = loaded.settings
        self._options = options
        self._pacer = Pacer(options.rate)
        self._started_at = time.monotonic()
        self._replayed = 0
        self._outcomes: list[CanaryOutcome] = []

    def __repr__(self) -> str:
        return f"<Replay: {self._replayed} sent>"

    async def run(self, selection: Selection) -> int:
        """Replay the selected requests; the exit status. Raises BrokerError."""
        selected = await selected_requests(self._queue, self._settings, selection)
        valid = [request for request in selected if request.parsed is not None]
        is_done = False
        try:
            is_done = await self._replay_all(valid)
            await self._queue.release()
        finally:
            self._print_result(len(selected), len(selected) - len(valid), is_done=is_done)
        return selection.exit_status(len(selected)) if is_done else EXIT_FAILED

    async def _replay_all(self, valid: Sequence[ParkedRequest]) -> bool:
        first, rest = valid[: self._options.canary], valid[self._options.canary :]
        if first and not await self._run_canary(first):
            return False
        if not rest:
            return True
        with ProgressDisplay("replayed", len(valid)) as display:
            display.start_at(len(first))
            for request in rest:
                if time.monotonic() - self._started_at > MAX_HOLD_SECONDS:
                    stopped = f"Stopped after {MAX_HOLD_SECONDS:g} s; the other requests stay parked."
                    typer.echo(f"{stopped} Repeat the command to go on.", err=True)
                    return False
                await self._replay(request)
                display.update(self._replayed)
        return True

    async def _run_canary(self, first: Sequence[ParkedRequest]) -> bool:
        """Replay the canary; whether all its requests succeeded in time."""
        async with self._queue.open_event_stream(self._settings.event_exchange) as events:
            canary = Canary(first)
            for request in first:
                await self._replay(request)
            typer.echo(f"Waiting for the outcomes of {len(first):,} canary requests ...", err=True)
            self._outcomes = await canary.outcomes(events, self._options.timeout)
        for outcome in self._outcomes:
            typer.echo(f"{printable(outcome.id)}  {printable(outcome.text)}", err=True)
        return all(outcome.succeeded for outcome in self._outcomes)

    async def _replay(self, request: ParkedRequest) -> None:
        await self._pacer.wait()
        await self._queue.move(request.parked, request.replay_headers(self._settings.delivery_limit, time.time()))
        self._replayed += 1

    def _print_result(self, selected: int, invalid: int, *, is_done: bool) -> None:
        left = selected - self._replayed
        if self._options.as_json:
            canary = [asdict(outcome) for outcome in self._outcomes]
            content = {
                "replayed": self._replayed,
                "left": left,
                "no_requests": invalid,
                "canary": canary,
                "done": is_done,
            }
            typer.echo(json.dumps(content, indent=2))
            return
        if not selected:
            typer.echo(NO_MATCH)
            return
        if self._outcomes and not all(outcome.succeeded for outcome in self._outcomes):
            typer.echo("The canary did not succeed; the other requests stay parked.")
        text = f"{self._replayed:,} replayed, {left:,} still parked"
        typer.echo(f"{text}, of which {invalid:,} are invalid." if invalid else f"{text}.")
