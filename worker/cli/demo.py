"""One run of the demo: starts broker, fake DCS and worker, sends requests, collects events, prints, cleans up."""

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from secrets import token_hex
from shlex import quote
from typing import Final

import typer

from worker.bootstrap.components import brokers, topology
from worker.cli.common import EXIT_FAILED, EXIT_OK, EXIT_UNAVAILABLE, fail, print_json
from worker.config import Settings, load
from worker.rabbit.connection import Brokers
from worker.rabbit.tools.broker_access import BrokerError, open_connection
from worker.rabbit.tools.event_stream import EventStream, open_event_stream
from worker.rabbit.tools.sender import Sender, open_sender
from worker.rabbit.topology import Topology, remove
from worker.tools.demo.display import DemoDisplay
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
from worker.tools.servers import ServerFailedError, ServerUnavailableError, open_broker

CONNECTION_NAME: Final = "dcs-worker demo"
DCS_LATENCY_SECONDS: Final = 0.02
MAX_SILENCE_SECONDS: Final = 60.0
"""The demo stops waiting after this time without an event."""
REMOVAL_TIMEOUT_SECONDS: Final = 60.0
REPLICA_ONLY_VARIABLES: Final = frozenset(
    ("WORKER_HTTP_HOST", "WORKER_HTTP_PORT", "WORKER_SECRETS_DIR", "WORKER_LOG_FORMAT")
)
"""Variables of the worker process that other commands must not have."""

NEXT_STEPS: Final = (
    "Next: `dcs-worker demo --keep` keeps everything running, to send requests, to inject faults and to fix them; "
    "docs/walkthrough.md shows how, and how to use a real cloud."
)


@dataclass(frozen=True, slots=True)
class DemoRun:
    """One demo, which shows its progress on `display`, on the broker of `settings` or a private one."""

    settings: Settings | None
    display: DemoDisplay
    requests: int
    keep: bool
    as_json: bool

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
        replica = stack.enter_context(WorkerProcess())
        fake_dcs_variables = {
            "WORKER_DCS_ENDPOINTS": json.dumps({"cn-north-4": fake_dcs.url}),
            "WORKER_AUTH_TOKEN": auth.token.get_secret_value(),
        }
        variables = replica.variables({**broker, **WORKER_SETTINGS, **fake_dcs_variables})
        settings = load(variables, folder=replica.folder).settings
        nodes = brokers(settings)
        connection = await stack.enter_async_context(open_connection(nodes, CONNECTION_NAME))
        if self._is_broker_given:
            stack.push_async_callback(self._remove, nodes, topology(settings))
        started = time.monotonic()
        stack.enter_context(replica.running(variables))
        await replica.ready()
        self.display.say(f"Worker: ready after {time.monotonic() - started:.1f} s, {replica.url}")
        events = await stack.enter_async_context(open_event_stream(connection, settings.event_exchange))
        sender = await stack.enter_async_context(open_sender(connection, settings.request_exchange))

        tally = OutcomeTracker(planned_requests)
        await self._send_and_collect(sender, events, replica, tally)
        result = tally.result((task.name, task.task_id) for task in fake_dcs.tasks)
        self._print(result)
        if self.keep:
            await self._keep_running(variables, settings, fake_dcs, replica)
        await replica.stop()
        return result

    async def _broker_variables(self, stack: AsyncExitStack) -> dict[str, str]:
        """The variables of a running broker: the given one, or a private node."""
        if self.settings is not None:
            self.display.say(f"RabbitMQ: {_broker_names(self.settings)}")
            return _given_broker_variables(self.settings)
        self.display.say("RabbitMQ: starting a private node ...")
        started = time.monotonic()
        url = await stack.enter_async_context(open_broker(None))
        self.display.say(f"RabbitMQ: ready after {time.monotonic() - started:.1f} s, {url}")
        return {"WORKER_AMQP_URL": url}

    async def _send_and_collect(
        self, sender: Sender, events: EventStream, replica: WorkerProcess, tally: OutcomeTracker
    ) -> None:
        """Send every request and collect the events, until all have one or none came for MAX_SILENCE_SECONDS."""
        self.display.progress(tally)
        try:
            async with asyncio.TaskGroup() as tasks:
                background_tasks = [tasks.create_task(replica.watch()), tasks.create_task(self._send(sender, tally))]
                arriving = ((event.kind, event.body) async for event in events)
                is_complete = await collect(arriving, tally, self.display.progress, MAX_SILENCE_SECONDS)
                for task in background_tasks:
                    task.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        if not is_complete:
            self.display.say(f"Some requests have no event, and none came for {MAX_SILENCE_SECONDS:g} s.")

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
        self.display.result(result)
        if not self.keep:
            self.display.say(NEXT_STEPS)

    async def _keep_running(
        self, variables: Mapping[str, str], settings: Settings, fake_dcs: FakeDcs, replica: WorkerProcess
    ) -> None:
        """Print addresses and variables, and wait for Ctrl-C, the normal end."""
        say = self.display.say
        say("Everything keeps running until Ctrl-C:")
        url = settings.amqp_url[0].get_secret_value()
        say(f"  broker    {_broker_names(settings) if self._is_broker_given else url}")
        say(f"            queue {settings.queue}, events {settings.event_exchange}")
        say(f"  worker    {replica.url}  (/metrics, /readyz)")
        say(f"  fake DCS  {fake_dcs.url}  (/_tasks, /_calls, /_stats, /_settings)")
        say("In another terminal, for the other commands:")
        for name, value in variables.items():
            if not (name in REPLICA_ONLY_VARIABLES or (self._is_broker_given and name.startswith("WORKER_AMQP_"))):
                say(f"  export {name}={quote(value)}")
        say(f"  export STANDIN={fake_dcs.url}")
        task = asyncio.current_task()
        try:
            await replica.watch()
        except asyncio.CancelledError:
            if task is not None:
                task.uncancel()

    async def _remove(self, nodes: Brokers, plan: Topology) -> None:
        try:
            async with asyncio.timeout(REMOVAL_TIMEOUT_SECONDS), open_connection(nodes, CONNECTION_NAME) as connection:
                await remove(connection, plan)
        except (BrokerError, TimeoutError) as error:
            names = ", ".join([*(queue.name for queue in plan.queues), *(exchange.name for exchange in plan.exchanges)])
            typer.echo(f"These could not be deleted on the broker: {names}. {error}", err=True)


def _given_broker_variables(settings: Settings) -> dict[str, str]:
    """The variables of the given broker, with private names of exchanges and queues."""
    name = f"dcs.migration.demo-{token_hex(4)}"
    files = {
        "WORKER_AMQP_CA_FILE": settings.amqp_ca_file,
        "WORKER_AMQP_CERT_FILE": settings.amqp_cert_file,
        "WORKER_AMQP_KEY_FILE": settings.amqp_key_file,
    }
    return {
        "WORKER_AMQP_URL": ",".join(url.get_secret_value() for url in settings.amqp_url),
        "WORKER_REQUEST_EXCHANGE": name,
        "WORKER_QUEUE": f"{name}.requests",
        "WORKER_EVENT_EXCHANGE": f"{name}.events",
        **{variable: str(path.resolve()) for variable, path in files.items() if path is not None},
    }


def _broker_names(settings: Settings) -> str:
    return ", ".join(str(url) for url in settings.amqp_url)
