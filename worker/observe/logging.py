"""Logging, set up in one place: structlog for the worker's own lines, the same lines for libraries."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

import structlog

from worker.observe import render
from worker.observe.foreign import route_library_logs
from worker.observe.redaction import Redactor
from worker.observe.sink import LogSink

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    Logger = FilteringBoundLogger

Level = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["json", "console"]

LEVEL_NUMBERS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


def configure_logging(
    level: Level,
    format_: LogFormat,
    stream: TextIO | None,
    *,
    secrets: Iterable[str] = (),
    colours: bool = False,
) -> "Logger":
    """Make the worker's logger, and route the standard library's loggers into the same lines from `warning` on.

    Lines of at least `level` go to `stream` (None: nowhere), one JSON object each, or for people with
    `console`. `secrets` are masked wherever they appear. May be called again: the last call holds for libraries.
    """
    sink, redactor = LogSink(stream), Redactor(secrets)
    logger: Logger = structlog.wrap_logger(
        sink,
        processors=[
            render.describe_errors(with_traceback=level == "debug"),
            render.add_header(sink),
            *(_console_processors(redactor, colours) if format_ == "console" else [render.render_json(redactor)]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVEL_NUMBERS[level]),
        context_class=dict,
    ).bind()
    route_library_logs(logger, LEVEL_NUMBERS[level])
    return logger


def _console_processors(redactor: Redactor, colours: bool) -> list[Any]:
    console = structlog.dev.ConsoleRenderer(
        colors=colours, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )
    return [render.make_printable(redactor), console]
