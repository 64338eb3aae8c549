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
    message = f"Version {__version__} starts; requests come from queue {loaded.settings.queue}"
    observer.note("info", "worker.starting", message=message, version=__version__, queue=loaded.settings.queue)
    for warning in loaded.warnings:
        variable, _, problem = warning.partition(": ")
        observer.note("warning", "config.warning", message=warning, variable=variable, problem=problem)
    try:
        lenient_codec.install()
    except lenient_codec.IncompatibleCodecError as error:
        raise ConfigurationError((str(error),)) from error
    async with build(loaded, observer, metrics) as worker:
        running = [asyncio.create_task(link.run(), name=link.name) for link in worker.supervisors]
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((stopping, *running), return_when=asyncio.FIRST_COMPLETED)
            status = _status(running, observer)
            await _drain(worker)
        finally:
            for task in (stopping, *running):
                await end(task)
    observer.flush(is_last=True)
    observer.note("info", "worker.stopped", message=f"Stopped with exit status {status}", status=status)
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
                    observer.note("error", "topology.mismatch", message=difference)
                return os.EX_CONFIG
            case BrokerLostError():
                ends = f"The worker exits with status {os.EX_UNAVAILABLE}, to be started again"
                message = f"{error}. {ends}; check the broker with: dcs-worker doctor"
                observer.note("error", "broker.gave_up", message=message, duration_seconds=error.seconds)
                return os.EX_UNAVAILABLE
            case _:
                raise error
    return os.EX_OK


async def _drain(worker: Worker) -> None:
    """Law `drain`. A delivery that is left at the deadline stays unsettled, which law `first-delivery` makes safe."""
    in_flight, parts = worker.dispatcher.in_flight, (worker, worker.follow_up) if worker.follow_up else (worker,)
    message = f"No request is consumed any more; {in_flight} in flight are finished or requeued"
    worker.observer.note("info", "worker.draining", message=message, in_flight=in_flight)
    left = sum(await asyncio.gather(*(part.dispatcher.drain(worker.settings.drain) for part in parts)))
    with suppress(Exception):
        async with asyncio.timeout(FLUSH_SECONDS):
            await asyncio.gather(*(part.consumer.flush() for part in parts))
    worker.observer.note("info", "worker.drained", message=f"{left} requests were left to the broker", left=left)
