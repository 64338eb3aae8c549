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
from worker.cli.common import DONE, FAILED, UNAVAILABLE
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

CONNECTION: Final = "dcs-worker demo"
LATENCY: Final = 0.02
PATIENCE: Final = 60.0
"""Seconds without any further answer after which no more is waited for."""
REMOVAL_DEADLINE: Final = 60.0
OF_THE_REPLICA: Final = frozenset(("WORKER_HTTP_HOST", "WORKER_HTTP_PORT", "WORKER_SECRETS_DIR", "WORKER_LOG_FORMAT"))
"""Settings that are of no use to anybody else; those of a broker that was given are there already."""


class Demonstration:
    """One demo; `announce` is told the result. `settings` say which broker is given, if any."""

    def __init__(
        self, settings: Settings, display: Display, announce: Callable[[Result], None], *, requests: int, keep: bool
    ) -> None:
        self._settings = settings
        self._display = display
        self._announce = announce
        self._planned = plan(requests)
        self._keep = keep
        self._is_given = "amqp_url" in settings.model_fields_set

    async def run(self) -> int:
        """Show it all; the exit status."""
        try:
            async with AsyncExitStack() as stack:
                result = await self._stages(stack)
        except (NodeUnavailable, NodeFailed, UnreachableError, SendError, FollowError) as error:
            typer.echo(str(error), err=True)
            return UNAVAILABLE
        except ReplicaError as error:
            typer.echo(str(error), err=True)
            return FAILED
        return DONE if result.is_ok else FAILED

    async def _stages(self, stack: AsyncExitStack) -> Result:
        standin = await stack.enter_async_context(StandIn(self._behaviour()))
        broker = await self._broker(stack)
        replica = await stack.enter_async_context(Replica())
        variables = replica.variables({**broker, **PACE, **_service(standin)})
        settings = load(variables, folder=replica.folder).settings
        nodes = brokers(settings)
        connection = await stack.enter_async_context(reached(nodes, CONNECTION))
        if self._is_given:
            stack.push_async_callback(self._remove, nodes, topology(settings))
        started = time.monotonic()
        stack.enter_context(replica.running(variables))
        await replica.ready()
        self._display.say(f"Worker: ready after {time.monotonic() - started:.1f} s, {replica.url}")
        events = await stack.enter_async_context(following(connection, settings.event_exchange))
        sender = await stack.enter_async_context(sending(connection, settings.request_exchange))

        tally = Tally(self._planned)
        await self._exchange(sender, events, replica, tally)
        result = tally.result((task.name, task.task_id) for task in standin.tasks)
        self._announce(result)
        if self._keep:
            await self._kept(variables, settings, standin, replica)
        await replica.stop()
        return result

    def _behaviour(self) -> StandInSettings:
        auth = Auth(mode="token")
        played = scripts(self._planned)
        return StandInSettings(scripts=played, latency=LATENCY, auth=auth)

    async def _broker(self, stack: AsyncExitStack) -> dict[str, str]:
        """The worker's settings of a broker that is there now."""
        if self._is_given:
            self._display.say(f"RabbitMQ: {_shown(self._settings)}, as WORKER_AMQP_URL says")
            return _given(self._settings)
        self._display.say("RabbitMQ: starting one of our own ...")
        started = time.monotonic()
        url = await stack.enter_async_context(open_broker(None))
        self._display.say(f"RabbitMQ: ready after {time.monotonic() - started:.1f} s, {url}")
        return {"WORKER_AMQP_URL": url}

    async def _exchange(self, sender: Sender, events: Events, replica: Replica, tally: Tally) -> None:
        """Send every request and wait for every answer, for as long as answers come."""
        self._display.progress(tally)
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [tasks.create_task(replica.watch()), tasks.create_task(self._send(sender, tally))]
                is_complete = await collect(events, tally, self._display.progress, PATIENCE)
                for task in beside:
                    task.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        if not is_complete:
            self._display.say(f"Not every request is answered, and no further answer came for {PATIENCE:g} s.")

    async def _send(self, sender: Sender, tally: Tally) -> None:
        async with sender.batch() as batch:
            for one in self._planned:
                tally.sent(one)
                for _ in range(one.kind.copies):
                    await batch.put(one.body, correlation_id=one.request_id)

    async def _kept(self, variables: Mapping[str, str], settings: Settings, standin: StandIn, replica: Replica) -> None:
        """Wait for Ctrl-C, which is the way this ends well."""
        say = self._display.say
        say("Everything keeps running until Ctrl-C:")
        say(f"  broker    {_shown(settings) if self._is_given else settings.amqp_url[0].get_secret_value()}")
        say(f"            queue {settings.queue}, events {settings.event_exchange}")
        say(f"  worker    {replica.url}  (/metrics, /readyz)")
        say(f"  stand-in  {standin.url}  (/_tasks, /_calls, /_stats, /_settings)")
        say("In another terminal, so that the other commands find it:")
        for name, value in variables.items():
            if not (name in OF_THE_REPLICA or (self._is_given and name.startswith("WORKER_AMQP_"))):
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
            async with asyncio.timeout(REMOVAL_DEADLINE), reached(nodes, CONNECTION) as connection:
                await remove(connection, plan)
        except (UnreachableError, TimeoutError) as error:
            names = ", ".join([*(queue.name for queue in plan.queues), *(one.name for one in plan.exchanges)])
            typer.echo(f"These could not be removed from the broker: {names}. {error}", err=True)


def _given(settings: Settings) -> dict[str, str]:
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


def _service(standin: StandIn) -> dict[str, str]:
    """The stand-in in place of the cloud."""
    return {
        "WORKER_DCS_ENDPOINTS": json.dumps({"cn-north-4": standin.url}),
        "WORKER_AUTH_TOKEN": standin.settings.auth.token.get_secret_value(),
    }


def _shown(settings: Settings) -> str:
    return ", ".join(str(url) for url in settings.amqp_url)
