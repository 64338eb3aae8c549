"""`dcs-worker run`: consume until told to stop, then drain."""

import asyncio
import gc
import os
import signal
import sys

import uvloop

from worker import __version__
from worker.bootstrap.from_settings import tracing
from worker.bootstrap.running import run as run_worker
from worker.cli.common import EXIT_CONFIGURATION
from worker.config import (
    ConfigurationError,
    Loaded,
    Settings,
    load_from_process,
    secret_texts,
    wants_colours,
)
from worker.observe import foreign, logs
from worker.observe.metrics import Metrics
from worker.observe.observer import Observer


def run() -> int:
    """Run the worker; the exit status: 0 drained, 69 no broker, 78 configuration."""
    try:
        loaded = load_from_process()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(loaded))
    except ConfigurationError as error:
        for line in error.lines:
            print(line, file=sys.stderr)  # noqa: T201 - the configuration of logs may be what is wrong
        return EXIT_CONFIGURATION


async def _run(loaded: Loaded) -> int:
    settings = loaded.settings
    metrics = Metrics(__version__, tuple(settings.dcs_endpoints), settings.claims_url is not None)
    logger = _logger(settings)
    observer = Observer(metrics, logger, tracing(settings))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(foreign.loop_handler(logger))
    sys.excepthook = foreign.crash_hook(logger)

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)  # a second signal ends at once
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    _tune_garbage_collector()
    return await run_worker(loaded, observer, metrics, stop)


def _tune_garbage_collector() -> None:
    """What was made at the start stays for good, and a request makes few cycles: look for them seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _logger(settings: Settings) -> "logs.Logger":
    return logs.configure(
        settings.log_level,
        settings.log_format or ("console" if sys.stdout.isatty() else "json"),
        sys.stdout,
        secrets=secret_texts(settings),
        colours=wants_colours(sys.stdout),
    )
