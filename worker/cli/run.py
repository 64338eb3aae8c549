"""The command `dcs-worker run`: sets up event loop, logging, metrics and signals, and runs the worker.

`worker.bootstrap` constructs and runs it.
"""

import asyncio
import gc
import sys
import threading
from typing import TextIO

import uvloop

from worker import __version__
from worker.bootstrap.components import tracing
from worker.bootstrap.run import run as run_worker
from worker.cli.common import EXIT_CONFIGURATION, on_first_signal
from worker.config import Configuration, ConfigurationError, load_from_process, secret_texts, wants_colours
from worker.observe.logging import LogFormat, configure_logging, crash_hook, loop_exception_handler, thread_hook
from worker.observe.metrics import Metrics
from worker.observe.observer import WorkerObserver
from worker.policy.redaction import Redactor
from worker.policy.retry_policy import CLAIMS_AWAY_MODES


def run() -> int:
    """Run the worker; exit status 0 drained, 69 no broker, 78 configuration."""
    format_: LogFormat | None = None
    try:
        loaded = load_from_process()
        format_ = loaded.settings.log_format
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(loaded))
    except ConfigurationError as error:
        _report_invalid(error, error.log_format or format_ or _default_format(sys.stderr))
        return EXIT_CONFIGURATION


def _default_format(stream: TextIO) -> LogFormat:
    return "console" if stream.isatty() else "json"


def _report_invalid(error: ConfigurationError, format_: LogFormat) -> None:
    """One line per problem on standard error: a JSON object, or for a terminal plain text."""
    logger = configure_logging("info", "json", sys.stderr)
    for line in error.lines:
        if format_ == "console":
            print(line, file=sys.stderr)  # noqa: T201 - read in a terminal
            continue
        variable, _, problem = line.partition(": ")
        event, log = ("config.invalid", logger.error) if line in error.problems else ("config.warning", logger.warning)
        log(event, message=line, variable=variable, problem=problem)


async def _run(loaded: Configuration) -> int:
    settings = loaded.settings
    metrics = Metrics(__version__, tuple(settings.dcs_endpoints), settings.claims_url is not None)
    redactor = Redactor(secret_texts(dict(settings).values()))
    format_ = settings.log_format or _default_format(sys.stdout)
    colours = wants_colours(sys.stdout)
    logger = configure_logging(settings.log_level, format_, sys.stdout, redactor=redactor, colours=colours)
    without_redis = CLAIMS_AWAY_MODES[settings.claims_away]
    observer = WorkerObserver(metrics, logger, tracing(settings), redactor=redactor, without_redis=without_redis)
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
