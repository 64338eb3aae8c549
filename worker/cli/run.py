"""The command `dcs-worker run`: sets up event loop, logging, metrics and signals, and runs the worker.

Short on purpose: `worker.bootstrap` constructs and runs it.
"""

import asyncio
import gc
import sys
import threading

import uvloop

from worker import __version__
from worker.bootstrap.components import tracing
from worker.bootstrap.run import run as run_worker
from worker.cli.common import EXIT_CONFIGURATION, on_first_signal
from worker.config import Configuration, ConfigurationError, load_from_process, secret_texts, wants_colours
from worker.observe.logging import configure_logging, crash_hook, loop_exception_handler, thread_hook
from worker.observe.metrics import Metrics
from worker.observe.observer import WorkerObserver


def run() -> int:
    """Run the worker; exit status 0 drained, 69 no broker, 78 configuration."""
    try:
        loaded = load_from_process()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(loaded))
    except ConfigurationError as error:
        for line in error.lines:
            print(line, file=sys.stderr)  # noqa: T201 - the log settings may be invalid
        return EXIT_CONFIGURATION


async def _run(loaded: Configuration) -> int:
    settings = loaded.settings
    metrics = Metrics(__version__, tuple(settings.dcs_endpoints), settings.claims_url is not None)
    logger = configure_logging(
        settings.log_level,
        settings.log_format or ("console" if sys.stdout.isatty() else "json"),
        sys.stdout,
        secrets=secret_texts(settings),
        colours=wants_colours(sys.stdout),
    )
    observer = WorkerObserver(metrics, logger, tracing(settings))
    stop = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(loop_exception_handler(logger))
    sys.excepthook = crash_hook(logger)
    threading.excepthook = thread_hook(logger)
    on_first_signal(stop.set)
    # Collect garbage rarely: objects of the start are never freed, and a request creates few reference cycles.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    return await run_worker(loaded, observer, metrics, stop)
