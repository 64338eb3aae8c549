"""One run of the demo: starts broker, fake DCS and worker, sends requests, collects events, prints, cleans up."""

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from secrets import token_hex
from shlex import quote
from typing import Final, TextIO

import typer
from rich.console import Console

from worker.bootstrap.components import brokers, topology
from worker.cli.common import EXIT_FAILED, EXIT_OK, EXIT_UNAVAILABLE, fail, format_table, print_json
from worker.cli.progress import ProgressDisplay
from worker.config import Settings, load
from worker.rabbit.connection import Brokers
from worker.rabbit.tools.broker_access import BrokerError, open_connection
from worker.rabbit.tools.event_stream import EventStream, open_event_stream
from worker.rabbit.tools.sender import Sender, open_sender
from worker.rabbit.topology import Topology, remove
from worker.tools.demo.requests import (
    WORKER_SETTINGS,
    DemoResult,
    OutcomeTracker,
    collect,
    fault_scripts,
    plan_requests,
)
from worker.tools.demo.worker_process import WorkerProcess, WorkerProcessError
from worker.tools.fake_dcs import Auth, FakeDcs, FakeDcsSettings
from worker.tools.servers import ServerFailedError, ServerUnavailableError, new_broker

CONNECTION_NAME: Final = "dcs-worker demo"
DCS_LATENCY_SECONDS: Final = 0.02
MAX_SILENCE_SECONDS: Final = 60.0
"""The demo stops waiting after this time without an event."""
REMOVAL_TIMEOUT_SECONDS: Final = 60.0
MAX_PROBLEMS_SHOWN: Final = 10
OUTCOME_COLOURS: Final = {"created": "green", "adopted": "cyan"}

NEXT_STEPS: Final = (
    "Next: `dcs-worker demo --keep` keeps everything running, to send requests, to inject faults and to fix them; "
    "docs/walkthrough.md shows how, and how to use a real cloud."
)


@dataclass(frozen=True, slots=True)
class DemoRun:
    """One demo, on the broker of `settings` or a private one."""

    settings: Settings | None
    requests: int
    keep: bool
    as_json: bool

    @property
    def stream(self) -> TextIO:
        """Where everything but the JSON result is printed."""
        return sys.stderr if self.as_json else sys.stdout

    def _say(self, text: str) -> None:
        typer.echo(text, file=self.stream)

    @property
    def _is_broker_given(self) -> bool:
        return self.settings is not None

    async def run(self) -> int:
        """Run the demo; the exit status."""
        try:
            async with AsyncExitStack() as stack:
                result = await self._run_stages(stack)
        except (ServerUnavailableError, ServerFailedError, BrokerError) as error:
            return fail(str(error), EXIT_UNAVAILABLE)
        except WorkerProcessError as error:
            return fail(str(error))
        return EXIT_OK if result.is_ok else EXIT_FAILED

    async def _run_stages(self, stack: AsyncExitStack) -> DemoResult:
        planned_requests = plan_requests(self.requests)
        scripts, auth = fault_scripts(planned_requests), Auth(mode="token")
        fake_dcs_settings = FakeDcsSettings(scripts=scripts, latency=DCS_LATENCY_SECONDS, auth=auth)
        fake_dcs = await stack.enter_async_context(FakeDcs(fake_dcs_settings))
        broker = await self._broker_variables(stack)
        replica = WorkerProcess()
        stack.callback(replica.close)
        replica.variables = {
            **broker,
            **WORKER_SETTINGS,
            "WORKER_DCS_ENDPOINTS": json.dumps({"cn-north-4": fake_dcs.url}),
            "WORKER_AUTH_TOKEN": auth.token.get_secret_value(),
        }
        settings = load(replica.variables, folder=replica.folder).settings
        nodes = brokers(settings)
        connection = await stack.enter_async_context(open_connection(nodes, CONNECTION_NAME))
        if self._is_broker_given:
            stack.push_async_callback(self._remove, nodes, topology(settings))
        started = time.monotonic()
        await stack.enter_async_context(replica)
        self._say(f"Worker: ready after {time.monotonic() - started:.1f} s, {replica.url}")
        self._say(f"Worker: log {replica.log}, deleted at the end")
        events = await stack.enter_async_context(open_event_stream(connection, settings.event_exchange))
        sender = await stack.enter_async_context(open_sender(connection, settings.request_exchange))

        tally = OutcomeTracker(planned_requests)
        await self._send_and_collect(sender, events, replica, tally)
        result = tally.result((task.name, task.task_id) for task in fake_dcs.tasks)
        self._print(result)
        if self.keep:
            await self._keep_running(settings, fake_dcs, replica)
        await replica.stop()
        return result

    async def _broker_variables(self, stack: AsyncExitStack) -> dict[str, str]:
        """The variables of a running broker: the given one, or a private node."""
        if self.settings is not None:
            self._say(f"RabbitMQ: {_broker_names(self.settings)}")
            return _given_broker_variables(self.settings)
        self._say("RabbitMQ: starting a private node ...")
        started = time.monotonic()
        node = await stack.enter_async_context(await asyncio.to_thread(new_broker))
        self._say(f"RabbitMQ: ready after {time.monotonic() - started:.1f} s, {node.url}")
        return {"WORKER_AMQP_URL": node.url}

    async def _send_and_collect(
        self, sender: Sender, events: EventStream, replica: WorkerProcess, tally: OutcomeTracker
    ) -> None:
        """Send every request and collect the events, until all have one or none came for MAX_SILENCE_SECONDS."""
        try:
            with ProgressDisplay("answered", len(tally.planned), self.stream, tally.counts) as display:
                display.show()
                async with asyncio.TaskGroup() as tasks:
                    others = [tasks.create_task(replica.watch()), tasks.create_task(self._send(sender, tally))]
                    arriving = ((event.kind, event.body) async for event in events)
                    is_complete = await collect(arriving, tally, display.update, MAX_SILENCE_SECONDS)
                    for task in others:
                        task.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        if not is_complete:
            self._say(f"Some requests have no event, and none came for {MAX_SILENCE_SECONDS:g} s.")

    async def _send(self, sender: Sender, tally: OutcomeTracker) -> None:
        async with sender.batch() as batch:
            for planned in tally.planned:
                tally.sent(planned)
                for _ in range(planned.kind.copies):
                    await batch.put(planned.body, correlation_id=planned.request_id)

    def _print(self, result: DemoResult) -> None:
        if self.as_json:
            print_json(result.as_json())
            return
        print_result(result, self.stream)
        if not self.keep:
            self._say(NEXT_STEPS)

    async def _keep_running(self, settings: Settings, fake_dcs: FakeDcs, replica: WorkerProcess) -> None:
        """Print addresses and variables, and wait for Ctrl-C, the normal end."""
        say = self._say
        say("Everything keeps running until Ctrl-C:")
        url = settings.amqp_url[0].get_secret_value()
        say(f"  broker    {_broker_names(settings) if self._is_broker_given else url}")
        say(f"            queue {settings.queue}, events {settings.event_exchange}")
        say(f"  worker    {replica.url}  (status page; /metrics, /readyz)")
        say(f"            log {replica.log}")
        say(f"  fake DCS  {fake_dcs.url}  (/_tasks, /_calls, /_stats, /_settings)")
        say("In another terminal, for the other commands:")
        for name, value in replica.variables.items():
            if not (self._is_broker_given and name.startswith("WORKER_AMQP_")):
                say(f"  export {name}={quote(value)}")
        say(f"  export FAKE_DCS={fake_dcs.url}")
        task = asyncio.current_task()
        try:
            await replica.watch()
        except asyncio.CancelledError:
            if task is not None:
                task.uncancel()
            say("Stopping, and deleting everything ...")

    async def _remove(self, nodes: Brokers, plan: Topology) -> None:
        try:
            async with asyncio.timeout(REMOVAL_TIMEOUT_SECONDS), open_connection(nodes, CONNECTION_NAME) as connection:
                await remove(connection, plan)
        except (BrokerError, TimeoutError) as error:
            names = ", ".join([*(queue.name for queue in plan.queues), *(exchange.name for exchange in plan.exchanges)])
            typer.echo(f"These could not be deleted on the broker: {names}. {error}", err=True)


def print_result(result: DemoResult, stream: TextIO) -> None:
    """Print the final table and the verdict."""
    console = Console(file=stream, highlight=False, soft_wrap=True)
    titles = ("outcome", "requests", "p50", "p95", "max", "injected fault")
    rows: list[tuple[str, ...]] = []
    for row in result.outcomes:
        times = ("" if value is None else f"{value:.2f} s" for value in (row.p50, row.p95, row.max))
        met, *more = (f"{count:>4} {fault}" for fault, count in row.met.items())
        rows += [(row.outcome, str(row.requests), *times, met), *(("", "", "", "", "", fault) for fault in more)]
    head, *lines = format_table(titles, rows, right=titles[1:5]).splitlines()
    console.print(f"\n{result.requests} requests in {result.seconds:.1f} s\n\n{head}")
    colour = ""
    for (outcome, *_), line in zip(rows, lines, strict=True):
        if outcome:
            colour = OUTCOME_COLOURS.get(outcome, "yellow")
        console.print(line, style=colour, markup=False)
    console.print()
    if result.is_ok:
        verdict = "tasks exist for the {} requests that should have one: exactly one each."
    else:
        verdict = f"tasks exist, {{}} requests should have one, and {len(result.problems)} things are wrong:"
    console.print(f"{result.tasks_found} {verdict.format(result.tasks_expected)}")
    for problem in result.problems[:MAX_PROBLEMS_SHOWN]:
        console.print(f"  {problem}", markup=False, style="red")
    if len(result.problems) > MAX_PROBLEMS_SHOWN:
        console.print(f"  and {len(result.problems) - MAX_PROBLEMS_SHOWN} more")


def _given_broker_variables(settings: Settings) -> dict[str, str]:
    """The variables of the given broker, with private names of exchanges and queues."""
    name = f"dcs.migration.demo-{token_hex(4)}"
    files = {field: getattr(settings, field) for field in ("amqp_ca_file", "amqp_cert_file", "amqp_key_file")}
    return {
        "WORKER_AMQP_URL": ",".join(url.get_secret_value() for url in settings.amqp_url),
        "WORKER_REQUEST_EXCHANGE": name,
        "WORKER_QUEUE": f"{name}.requests",
        "WORKER_EVENT_EXCHANGE": f"{name}.events",
        **{f"WORKER_{field.upper()}": str(path.resolve()) for field, path in files.items() if path is not None},
    }


def _broker_names(settings: Settings) -> str:
    return ", ".join(str(url) for url in settings.amqp_url)
