"""Logging, set up in one place: structlog for the worker's own lines, the same lines for libraries."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

import structlog

from worker.observe import render
from worker.observe.foreign import adopt_libraries
from worker.observe.mask import Mask
from worker.observe.sink import Sink

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    Logger = FilteringBoundLogger

Level = Literal["debug", "info", "warning", "error", "critical"]
Format = Literal["json", "console"]

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


def configure(
    level: Level,
    format_: Format,
    stream: TextIO | None,
    *,
    secrets: Iterable[str] = (),
    colours: bool = False,
) -> "Logger":
    """Make the worker's logger, and route the standard library's loggers into the same lines from `warning` on.

    Lines of at least `level` go to `stream` (None: nowhere), one JSON object each, or for people with
    `console`. `secrets` are masked wherever they appear. May be called again: the last call holds for libraries.
    """
    sink, mask = Sink(stream), Mask(secrets)
    logger: Logger = structlog.wrap_logger(
        sink,
        processors=[
            render.explained(with_traceback=level == "debug"),
            render.begun(sink),
            *(_for_people(mask, colours) if format_ == "console" else [render.json_line(mask)]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        context_class=dict,
    ).bind()
    adopt_libraries(logger, LEVELS[level])
    return logger


def _for_people(mask: Mask, colours: bool) -> list[Any]:
    console = structlog.dev.ConsoleRenderer(
        colors=colours, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )
    return [render.printable(mask), console]
