"""Run of a worker: until it is stopped, then until it has drained."""

import asyncio
import os
from contextlib import suppress
from typing import Final

from worker import __version__
from worker.bootstrap.build import build, end
from worker.bootstrap.worker import Worker
from worker.config import Configuration, ConfigurationError
from worker.observe.metrics import Metrics
from worker.observe.observer import WorkerObserver
from worker.rabbit import lenient_codec
from worker.rabbit.connection_supervisor import BrokerLostError
from worker.rabbit.topology import TopologyError

FLUSH_SECONDS: Final = 2.0
"""Time for the broker to read the last acknowledgements."""


async def run(loaded: Configuration, observer: WorkerObserver, metrics: Metrics, stop: asyncio.Event) -> int:
    """Work until `stop` is set, then drain; the exit status.

    Raises ConfigurationError when it cannot listen, or hostile messages would break the connection to the broker.
    """
    observer.note("info", "worker.starting", version=__version__, queue=loaded.settings.queue)
    for warning in loaded.warnings:
        observer.note("warning", "config.warning", message=warning)
    try:
        lenient_codec.install()
    except lenient_codec.IncompatibleCodecError as error:
        raise ConfigurationError((str(error),)) from error
    async with build(loaded, observer, metrics) as worker:
        lookups, claims = worker.modes
        observer.note("info", "worker.mode", lookups=lookups, claims=claims)
        running = [asyncio.create_task(link.run(), name=link.name) for link in worker.supervisors]
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((stopping, *running), return_when=asyncio.FIRST_COMPLETED)
            status = _status(running, observer)
            await _drain(worker)
        finally:
            for task in (stopping, *running):
                await end(task)
    observer.note("info", "worker.stopped", status=status)
    return status


def _status(running: list[asyncio.Task[None]], observer: WorkerObserver) -> int:
    """Exit status after a connection that failed for good; EX_OK if none did."""
    for task in running:
        error = task.exception() if task.done() else None
        match error:
            case None:
                continue
            case TopologyError():
                for difference in error.differences:
                    observer.note("error", "topology.differs", message=difference)
                return os.EX_CONFIG
            case BrokerLostError():
                observer.note("error", "broker.lost", message=str(error))
                return os.EX_UNAVAILABLE
            case _:
                raise error
    return os.EX_OK


async def _drain(worker: Worker) -> None:
    """Law `drain`. A delivery that is left at the deadline stays unsettled, which law `first-delivery` makes safe."""
    worker.observer.note("info", "worker.draining", in_flight=worker.dispatcher.in_flight)
    parts = (worker, worker.follow_up) if worker.follow_up else (worker,)
    left = await asyncio.gather(*(part.dispatcher.drain(worker.settings.drain) for part in parts))
    with suppress(Exception):
        async with asyncio.timeout(FLUSH_SECONDS):
            await asyncio.gather(*(part.consumer.flush() for part in parts))
    worker.observer.note("info", "worker.drained", left=sum(left))
