"""The demo as one run: broker, stand-in and worker up, requests through, everything gone again."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from secrets import token_hex
from shlex import quote
from typing import Final

import typer

from worker.bootstrap.from_settings import brokers, topology
from worker.cli.common import EXIT_FAILED, EXIT_OK, EXIT_UNAVAILABLE
from worker.config import Settings, load
from worker.rabbit.connect import Brokers
from worker.rabbit.follower import Events, FollowError, following
from worker.rabbit.reach import UnreachableError, reached
from worker.rabbit.remove import remove
from worker.rabbit.sender import Sender, SendError, sending
from worker.rabbit.topology import Topology
from worker.tools.demo.answers import collect
from worker.tools.demo.display import Display
from worker.tools.demo.plan import PACE, plan, scripts
from worker.tools.demo.replica import Replica, ReplicaError
from worker.tools.demo.tally import Result, Tally
from worker.tools.nodes import NodeFailed, NodeUnavailable, open_broker
from worker.tools.standin import Auth, StandIn, StandInSettings

CONNECTION_NAME: Final = "dcs-worker demo"
DCS_LATENCY_SECONDS: Final = 0.02
MAX_SILENCE_SECONDS: Final = 60.0
"""Seconds without any further answer after which no more is waited for."""
REMOVAL_TIMEOUT_SECONDS: Final = 60.0
REPLICA_ONLY_VARIABLES: Final = frozenset(
    ("WORKER_HTTP_HOST", "WORKER_HTTP_PORT", "WORKER_SECRETS_DIR", "WORKER_LOG_FORMAT")
)
"""Settings that are of no use to anybody else; those of a broker that was given are there already."""


class DemoRun:
    """One demo; `announce` is told the result. `settings` say which broker is given, if any."""

    def __init__(
        self, settings: Settings, display: Display, on_result: Callable[[Result], None], *, requests: int, keep: bool
    ) -> None:
        self._settings = settings
        self._display = display
        self._on_result = on_result
        self._planned_requests = plan(requests)
        self._keep = keep
        self._is_broker_given = "amqp_url" in settings.model_fields_set

    async def run(self) -> int:
        """Show it all; the exit status."""
        try:
            async with AsyncExitStack() as stack:
                result = await self._run_stages(stack)
        except (NodeUnavailable, NodeFailed, UnreachableError, SendError, FollowError) as error:
            typer.echo(str(error), err=True)
            return EXIT_UNAVAILABLE
        except ReplicaError as error:
            typer.echo(str(error), err=True)
            return EXIT_FAILED
        return EXIT_OK if result.is_ok else EXIT_FAILED

    async def _run_stages(self, stack: AsyncExitStack) -> Result:
        standin = await stack.enter_async_context(StandIn(self._fake_dcs_settings()))
        broker = await self._broker_variables(stack)
        replica = await stack.enter_async_context(Replica())
        variables = replica.variables({**broker, **PACE, **_fake_dcs_variables(standin)})
        settings = load(variables, folder=replica.folder).settings
        nodes = brokers(settings)
        connection = await stack.enter_async_context(reached(nodes, CONNECTION_NAME))
        if self._is_broker_given:
            stack.push_async_callback(self._remove, nodes, topology(settings))
        started = time.monotonic()
        stack.enter_context(replica.running(variables))
        await replica.ready()
        self._display.say(f"Worker: ready after {time.monotonic() - started:.1f} s, {replica.url}")
        events = await stack.enter_async_context(following(connection, settings.event_exchange))
        sender = await stack.enter_async_context(sending(connection, settings.request_exchange))

        tally = Tally(self._planned_requests)
        await self._send_and_collect(sender, events, replica, tally)
        result = tally.result((task.name, task.task_id) for task in standin.tasks)
        self._on_result(result)
        if self._keep:
            await self._keep_running(variables, settings, standin, replica)
        await replica.stop()
        return result

    def _fake_dcs_settings(self) -> StandInSettings:
        auth = Auth(mode="token")
        step_scripts = scripts(self._planned_requests)
        return StandInSettings(scripts=step_scripts, latency=DCS_LATENCY_SECONDS, auth=auth)

    async def _broker_variables(self, stack: AsyncExitStack) -> dict[str, str]:
        """The worker's settings of a broker that is there now."""
        if self._is_broker_given:
            self._display.say(f"RabbitMQ: {_broker_names(self._settings)}, as WORKER_AMQP_URL says")
            return _given_broker_variables(self._settings)
        self._display.say("RabbitMQ: starting one of our own ...")
        started = time.monotonic()
        url = await stack.enter_async_context(open_broker(None))
        self._display.say(f"RabbitMQ: ready after {time.monotonic() - started:.1f} s, {url}")
        return {"WORKER_AMQP_URL": url}

    async def _send_and_collect(self, sender: Sender, events: Events, replica: Replica, tally: Tally) -> None:
        """Send every request and wait for every answer, for as long as answers come."""
        self._display.progress(tally)
        try:
            async with asyncio.TaskGroup() as tasks:
                background_tasks = [tasks.create_task(replica.watch()), tasks.create_task(self._send(sender, tally))]
                is_complete = await collect(events, tally, self._display.progress, MAX_SILENCE_SECONDS)
                for task in background_tasks:
                    task.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        if not is_complete:
            self._display.say(
                f"Not every request is answered, and no further answer came for {MAX_SILENCE_SECONDS:g} s."
            )

    async def _send(self, sender: Sender, tally: Tally) -> None:
        async with sender.batch() as batch:
            for one in self._planned_requests:
                tally.sent(one)
                for _ in range(one.kind.copies):
                    await batch.put(one.body, correlation_id=one.request_id)

    async def _keep_running(
        self, variables: Mapping[str, str], settings: Settings, standin: StandIn, replica: Replica
    ) -> None:
        """Wait for Ctrl-C, which is the way this ends well."""
        say = self._display.say
        say("Everything keeps running until Ctrl-C:")
        url = settings.amqp_url[0].get_secret_value()
        say(f"  broker    {_broker_names(settings) if self._is_broker_given else url}")
        say(f"            queue {settings.queue}, events {settings.event_exchange}")
        say(f"  worker    {replica.url}  (/metrics, /readyz)")
        say(f"  stand-in  {standin.url}  (/_tasks, /_calls, /_stats, /_settings)")
        say("In another terminal, so that the other commands find it:")
        for name, value in variables.items():
            if not (name in REPLICA_ONLY_VARIABLES or (self._is_broker_given and name.startswith("WORKER_AMQP_"))):
                say(f"  export {name}={quote(value)}")
        say(f"  export STANDIN={standin.url}")
        task = asyncio.current_task()
        try:
            await replica.watch()
        except asyncio.CancelledError:
            if task is not None:
                task.uncancel()

    async def _remove(self, nodes: Brokers, plan: Topology) -> None:
        try:
            async with asyncio.timeout(REMOVAL_TIMEOUT_SECONDS), reached(nodes, CONNECTION_NAME) as connection:
                await remove(connection, plan)
        except (UnreachableError, TimeoutError) as error:
            names = ", ".join([*(queue.name for queue in plan.queues), *(one.name for one in plan.exchanges)])
            typer.echo(f"These could not be removed from the broker: {names}. {error}", err=True)


def _given_broker_variables(settings: Settings) -> dict[str, str]:
    """The broker that was given, under names that nobody else uses."""
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


def _fake_dcs_variables(standin: StandIn) -> dict[str, str]:
    """The stand-in in place of the cloud."""
    return {
        "WORKER_DCS_ENDPOINTS": json.dumps({"cn-north-4": standin.url}),
        "WORKER_AUTH_TOKEN": standin.settings.auth.token.get_secret_value(),
    }


def _broker_names(settings: Settings) -> str:
    return ", ".join(str(url) for url in settings.amqp_url)
