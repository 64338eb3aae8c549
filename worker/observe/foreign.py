"""What others say: loggers of libraries, the event loop, an exception that nobody caught."""

import asyncio
import logging
import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from worker.observe.redaction import safe_text

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


TALKATIVE: Final = ("httpcore2", "httpx2")
"""Loggers that stay at `warning` at every level: at `debug` they would tell the tokens in answers of IAM."""


def route_library_logs(logger: "FilteringBoundLogger", level: int) -> None:
    """Let loggers of the standard library speak through `logger`, at `warning` and above, at least at `level`."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _LibraryLogHandler)]:
        root.removeHandler(handler)
    root.addHandler(_LibraryLogHandler(logger))
    root.setLevel(max(level, logging.WARNING))
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


class _LibraryLogHandler(logging.Handler):
    """Says what a library logged; its exceptions like ours, without their tracebacks."""

    def __init__(self, logger: "FilteringBoundLogger") -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as `library.logged`."""
        fields: dict[str, Any] = {"logger": record.name, "message": _message(record)}
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = record.exc_info[1]
        # Libraries may use levels of their own; a line has one of ours.
        level = min(record.levelno // 10 * 10, logging.CRITICAL)
        self._logger.log(level, "library.logged", **fields)


def _message(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001 - a library's broken format string is no reason to fail
        text = safe_text(record.msg)
    return " ".join(text.split())


def loop_exception_handler(
    logger: "FilteringBoundLogger",
) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """For `loop.set_exception_handler`: what no task was there to raise becomes a line, `loop.failed`."""

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        fields = {"error": context["exception"]} if "exception" in context else {}
        logger.error("loop.failed", message=safe_text(context.get("message", "")), **fields)

    return handle


def crash_hook(
    logger: "FilteringBoundLogger",
) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    """For `sys.excepthook`: the exception that ends the process becomes a line, `worker.crashed`."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, Exception):
            logger.critical("worker.crashed", error=error)
        else:  # Ctrl-C is no crash
            sys.__excepthook__(kind, error, trace)

    return hook
