"""One submission: sends the stored requests, waits for confirms and outcomes, and prints the result."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Final

import typer

from schemas.client import read_event
from worker.bootstrap.components import brokers
from worker.cli.common import EXIT_FAILED, EXIT_OK, exit_status_of, format_table, print_json, printable
from worker.cli.progress import Pacer, ProgressDisplay
from worker.cli.submit import Format
from worker.cli.submit.ledger import MAX_REPORTED, InputValidator, Ledger, SubmittedRequest
from worker.config import Settings
from worker.rabbit.tools.broker_access import open_connection
from worker.rabbit.tools.event_stream import EventStream
from worker.rabbit.tools.sender import Sender, count_consumers, open_sender

CONNECTION_NAME: Final = "dcs-worker submit"
NO_OUTCOME: Final = "pending"


@dataclass(slots=True)
class Submission:
    """Sends validated requests at most `rate` times a second, and waits `wait_seconds` for outcomes (None: not)."""

    settings: Settings
    validator: InputValidator
    rate: float | None
    wait_seconds: float | None
    confirmed: int = 0
    sending_seconds: float = 0.0

    @property
    def _ledger(self) -> Ledger:
        return self.validator.ledger

    async def run(self, *, as_json: bool) -> int:
        """Send all requests, wait for their outcomes if configured, and print the result; the exit status."""
        status = EXIT_FAILED
        try:
            status = await exit_status_of(self._send_and_wait())
        finally:  # also after a signal
            if status != EXIT_OK:
                self._print_interrupted(as_json=as_json)
        if status != EXIT_OK:
            return status
        self._print_result(as_json=as_json)
        return EXIT_FAILED if self.wait_seconds is not None and any(self._ledger.unsuccessful()) else EXIT_OK

    async def _send_and_wait(self) -> None:
        """Raises BrokerError."""
        async with open_connection(brokers(self.settings), CONNECTION_NAME) as connection, AsyncExitStack() as stack:
            collecting: asyncio.Task[None] | None = None
            sender = await stack.enter_async_context(open_sender(connection, self.settings.request_exchange))
            if self.wait_seconds is not None:
                collecting = asyncio.create_task(self._collect(await sender.replies()))
                stack.push_async_callback(_cancel, collecting)
            if await count_consumers(connection, self.settings.queue) == 0:
                queue = self.settings.queue
                typer.echo(f"No worker consumes the queue {queue!r} now: requests wait in it until one does.", err=True)
            await self._send(sender)
            if collecting is not None and self.wait_seconds is not None:
                await self._wait(collecting, self.wait_seconds)

    async def _send(self, sender: Sender) -> None:
        pacer, started = Pacer(self.rate), time.monotonic()
        with ProgressDisplay("sent", self._ledger.requests) as display:

            def on_confirmed(count: int) -> None:
                self.confirmed = count
                self.sending_seconds = time.monotonic() - started
                display.update(count)

            async with sender.batch(on_confirmed) as batch:
                for body in self._ledger.bodies():
                    await pacer.wait()
                    await batch.put(body)

    async def _collect(self, events: EventStream) -> None:
        """Store the outcome of each request. Raises BrokerError."""
        while self._ledger.answered < self._ledger.requests:
            event = await anext(events)
            with suppress(ValueError):  # not an event of the worker
                self._ledger.record_outcome(read_event(event.body))

    async def _wait(self, collecting: asyncio.Task[None], wait_seconds: float) -> None:
        """Return when every request has an outcome, at the latest after `wait_seconds`. Raises BrokerError."""
        end = time.monotonic() + wait_seconds
        with ProgressDisplay("answered", self._ledger.requests) as display:
            display.start_at(self._ledger.answered)
            while not collecting.done() and time.monotonic() < end:
                await asyncio.wait((collecting,), timeout=min(0.1, wait_seconds))
                display.update(self._ledger.answered)
        if collecting.done():
            collecting.result()

    def _print_result(self, *, as_json: bool) -> None:
        if as_json:
            print_json(self._as_json())
            return
        summary = _input_summary(self.validator)
        typer.echo(f"{summary}: {self.confirmed:,} sent and confirmed in {self.sending_seconds:.1f} s.")
        if self.wait_seconds is not None:
            typer.echo("")
            typer.echo(format_table(("outcome", "requests"), self._counts(), right=("requests",)))
            self._print_unsuccessful()

    def _print_interrupted(self, *, as_json: bool) -> None:
        """Print how many requests were confirmed before an error or a signal."""
        if as_json:
            print_json(self._as_json())
        requests = self._ledger.requests
        is_done = self.confirmed == requests and self.wait_seconds is None
        advice = "" if is_done else " Submit the same input again: no task is created twice."
        typer.echo(f"{self.confirmed:,} of {requests:,} requests are confirmed.{advice}", err=True)

    def _as_json(self) -> dict[str, object]:
        counts = {**self.validator.as_json(), "sent": self.confirmed, "seconds": round(self.sending_seconds, 3)}
        if self.wait_seconds is None:
            return counts
        results = {"results": self._ledger.results(), "unsuccessful": self._ledger.unsuccessful()}
        listed = {name: [asdict(result) for result in found] for name, found in results.items()}
        return counts | {"outcomes": self._ledger.outcomes()} | listed

    def _counts(self) -> Iterator[tuple[str, str]]:
        for outcome, count in self._ledger.outcomes().items():
            yield outcome, f"{count:,}"
        if self._ledger.answered < self._ledger.requests:
            yield NO_OUTCOME, f"{self._ledger.requests - self._ledger.answered:,}"

    def _print_unsuccessful(self) -> None:
        """Print the first request of each failure (reason, error code, message), and how many others had it."""
        counts: Counter[tuple[str | None, str | None, str | None]] = Counter()
        first: dict[tuple[str | None, str | None, str | None], SubmittedRequest] = {}
        for entry in self._ledger.unsuccessful():
            group = (entry.outcome, entry.error_code, entry.said)
            if group in first or len(first) < MAX_REPORTED:
                counts[group] += 1
                first.setdefault(group, entry)
        if first:
            typer.echo("")
        for group, entry in first.items():
            others = f" (and {counts[group] - 1:,} more)" if counts[group] > 1 else ""
            typer.echo(printable(f"{_request_line(entry)}{others}"))
        if len(first) == MAX_REPORTED:
            typer.echo("... and possibly others: --json lists all.")


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _request_line(entry: SubmittedRequest) -> str:
    outcome = entry.outcome or NO_OUTCOME
    code = f" ({entry.error_code})" if entry.error_code else ""
    return f"line {entry.line:,}  {entry.request_id}  {outcome}{code}" + (f": {entry.said}" if entry.said else "")


def print_validation(validator: InputValidator, form: Format | None, *, as_json: bool) -> None:
    """Print the result of a submission that sends nothing: of --check, or of invalid input."""
    if as_json:
        print_json({**validator.as_json(), "sent": 0})
    elif not validator.invalid_lines:
        typer.echo(f"{_input_summary(validator)}, all valid. Nothing was sent (--check).")
    else:
        for error in validator.errors:
            typer.echo(printable(error), err=True)
        if len(validator.errors) == MAX_REPORTED:
            typer.echo("... and possibly more.", err=True)
        typer.echo(f"{validator.invalid_lines:,} of {validator.lines:,} lines are invalid. Nothing was sent.", err=True)
        if validator.invalid_lines == validator.lines and {error.field for error in validator.errors} == {"body"}:
            typer.echo(f"The input was read as {form}; --format sets another format.", err=True)


def _input_summary(validator: InputValidator) -> str:
    ledger = validator.ledger
    requests = "1 request" if ledger.requests == 1 else f"{ledger.requests:,} requests"
    if not ledger.repeats:
        return requests
    repeat = "1 line repeats an earlier one" if ledger.repeats == 1 else f"{ledger.repeats:,} lines repeat earlier ones"
    return f"{validator.lines:,} lines, of which {repeat}: {requests}"
