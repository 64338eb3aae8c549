"""Logging: one line per event, as JSON or for terminals, without secrets, from the worker and its libraries alike.

Law no-secrets: every line passes through the `Redactor`. A log reader that is gone or stuck costs lines, never the
worker: `LogSink` waits for it once and then drops lines until it reads again.
"""

import asyncio
import json
import logging
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable, MutableMapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

import structlog

from schemas.timestamp import to_text
from worker.policy.redaction import Redactor, safe_text

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    Logger = FilteringBoundLogger

Level = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["json", "console"]
Fields = MutableMapping[str, Any]
Processor = Callable[[Any, str, Fields], Fields]
"""A structlog processor: logger, level, fields."""

AMQP_LOGGERS: Final = ("aio_pika", "aiormq")
"""Loggers whose lines are of level `debug`: the worker itself reports each lost connection, once and in words."""
HTTP_LOGGERS: Final = ("httpcore2", "httpx2")
"""Loggers that stay at `warning` at every level: at `debug` they log the tokens in answers of IAM."""
READER_WAIT_SECONDS: Final = 1.0
"""How long a line waits for a stuck reader. After one lost line nothing waits until the reader reads again."""
WRITE_SIZE_BYTES: Final = select.PIPE_BUF
"""What a descriptor that is ready takes without blocking (POSIX, write)."""
_UNREDACTED_FIELDS: Final = frozenset(("timestamp", "level"))
_ENCODE: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def configure_logging(
    level: Level,
    format_: LogFormat,
    stream: TextIO | None,
    *,
    redactor: Redactor | None = None,
    colours: bool = False,
) -> "Logger":
    """Make the worker's logger, and route the standard library's loggers into the same lines from `warning` on.

    Lines of at least `level` go to `stream` (None: nowhere), as JSON objects or, with `console`, for terminals.
    What `redactor` knows is redacted wherever it appears. May be called again: the last call holds for libraries.
    """
    sink, redactor, level_number = (
        LogSink(stream),
        redactor or Redactor(()),
        logging.getLevelNamesMapping()[level.upper()],
    )
    console = structlog.dev.ConsoleRenderer(
        colors=colours, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )
    logger: Logger = structlog.wrap_logger(
        sink,
        processors=[
            prepare_fields(sink, with_traceback=level == "debug"),
            *([make_printable(redactor), console] if format_ == "console" else [render_json(redactor)]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level_number),
        context_class=dict,
    ).bind()
    route_library_logs(logger, level_number)
    return logger


# From fields to a line.


def prepare_fields(sink: "LogSink", with_traceback: bool) -> Processor:
    """Put time, level and event first, then the number of lines lost before this one, if any.

    An exception under `error` becomes its type and message, and has its `traceback` if asked for.
    """

    def prepare(_: Any, level: str, fields: Fields) -> Fields:
        prepared: Fields = {"timestamp": to_text(time.time()), "level": level, "event": fields.pop("event")}
        if sink.lost_lines:
            prepared["lost"] = sink.lost_lines
        prepared.update(fields)
        error = fields.get("error")
        if isinstance(error, BaseException):
            prepared["error"] = f"{type(error).__name__}: {safe_text(error)}".removesuffix(": ")
            if with_traceback:
                prepared["traceback"] = "".join(traceback.format_exception(error))
        return prepared

    return prepare


def render_json(redactor: Redactor) -> Callable[[Any, str, Fields], str]:
    """Render one JSON object in ASCII: no text can end the line, and every stream's encoding accepts it."""

    def render(_: Any, __: str, fields: Fields) -> str:
        try:
            line = _ENCODE(fields)
        except (TypeError, ValueError, RecursionError):  # a value that JSON does not have
            return _ENCODE(_redacted(redactor, fields))
        return _ENCODE(_redacted(redactor, fields)) if redactor.needs_redaction(line) else line

    return render


def make_printable(redactor: Redactor) -> Processor:
    """Prepare fields for a terminal: without secrets, and no text can move the cursor or set colours."""

    def step(_: Any, __: str, fields: Fields) -> Fields:
        printed = _redacted(redactor, fields)
        trace = printed.pop("traceback", None)
        printed = {key: _escaped(value) if isinstance(value, str) else value for key, value in printed.items()}
        if trace is not None:
            printed["exception"] = "\n".join(map(_escaped, trace.splitlines()))
        return printed

    return step


def _redacted(redactor: Redactor, fields: Fields) -> dict[str, Any]:
    """The fields without secrets. Time and level are ours and lines are sorted by them: they stay as they are."""
    return {key: value if key in _UNREDACTED_FIELDS else redactor.redact(value) for key, value in fields.items()}


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


# Where lines go.


class LogSink:
    """Writes lines to the descriptor of `stream`, past its buffer, so that a closed pipe cannot fail again at exit.

    A stream without a descriptor is written to by its own methods; None drops every line.
    """

    def __init__(self, stream: TextIO | None, *, reader_wait_seconds: float = READER_WAIT_SECONDS) -> None:
        self.lost_lines = 0
        """Lines lost since the last one that was written."""
        self._stream = stream
        self._descriptor = _descriptor(stream)
        self._reader_wait_seconds = reader_wait_seconds
        self._has_partial_line = False
        self._one_at_a_time = threading.RLock()  # the trace exporter logs in another thread
        if self._descriptor is not None:
            self._poll = select.poll()
            self._poll.register(self._descriptor, select.POLLOUT)

    def __repr__(self) -> str:
        return f"<LogSink: {self.lost_lines} lines lost>"

    def write(self, line: str) -> None:
        """Write a line, given without its end. An error of the stream costs the line and is not raised."""
        with self._one_at_a_time:
            try:
                is_written = self._write(line + "\n")
            except (OSError, ValueError):  # closed by us or by its reader
                is_written = False
            self.lost_lines = 0 if is_written else self.lost_lines + 1

    # A logger calls the method of the level.
    debug = info = warning = error = critical = write

    def _write(self, text: str) -> bool:
        if self._stream is None or self._stream.closed:
            return False
        if self._descriptor is not None:
            return self._write_bytes(self._descriptor, text.encode(errors="backslashreplace"))
        self._stream.write(text)
        self._stream.flush()
        return True

    def _write_bytes(self, descriptor: int, line: bytes) -> bool:
        # A partial line is ended first, so that only one line is spoilt.
        remaining = b"\n" + line if self._has_partial_line else line
        while remaining:
            if not self._poll.poll(0 if self.lost_lines else self._reader_wait_seconds * 1000):
                return False
            remaining = remaining[os.write(descriptor, remaining[:WRITE_SIZE_BYTES]) :]
            self._has_partial_line = bool(remaining)
        return True


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None


# Lines from outside the worker's own code.


def route_library_logs(logger: "Logger", level: int) -> None:
    """Route records of the standard library's loggers into `logger`: from `warning` on, and at least `level`."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _LibraryLogHandler)]:
        root.removeHandler(handler)
    root.addHandler(_LibraryLogHandler(logger))
    root.setLevel(max(level, logging.WARNING))
    for name in HTTP_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


class _LibraryLogHandler(logging.Handler):
    """Logs a library's record like our own lines; its exception is a field, without a traceback."""

    def __init__(self, logger: "Logger") -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as `library.logged`."""
        fields: dict[str, Any] = {"logger": record.name, "message": _message(record)}
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = record.exc_info[1]
        # A library may use numbers between the levels; a line has one of the five.
        level = min(record.levelno // 10 * 10, logging.CRITICAL)
        if record.name.startswith(AMQP_LOGGERS):
            level = logging.DEBUG
        self._logger.log(level, "library.logged", **fields)


def _message(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001 - a library's broken format string must not fail the worker
        text = safe_text(record.msg)
    return " ".join(text.split())


def loop_exception_handler(logger: "Logger") -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """A handler for `loop.set_exception_handler`: an exception that no task raises is logged as `loop.failed`."""

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        fields = {"error": context["exception"]} if "exception" in context else {}
        logger.error("loop.failed", message=safe_text(context.get("message", "")), **fields)

    return handle


def crash_hook(logger: "Logger") -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    """A hook for `sys.excepthook`: the exception that ends the process is logged as `worker.crashed`."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, Exception):
            logger.critical("worker.crashed", message="An unexpected exception ends the process", error=error)
        else:  # Ctrl-C is no crash
            sys.__excepthook__(kind, error, trace)

    return hook


def thread_hook(logger: "Logger") -> Callable[[threading.ExceptHookArgs], None]:
    """A hook for `threading.excepthook`: an exception that ends a library's thread is logged, and not printed."""

    def hook(failure: threading.ExceptHookArgs) -> None:
        thread = failure.thread.name if failure.thread is not None else "unknown"
        logger.error("library.logged", logger="threading", message=f"thread {thread} ended", error=failure.exc_value)

    return hook
