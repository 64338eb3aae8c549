"""From what was logged to a line: how every line begins, errors in words, JSON or plain text."""

import json
import time
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from schemas.timestamp import to_text
from worker.observe.redaction import Redactor, safe_text
from worker.observe.sink import LogSink

Fields = MutableMapping[str, Any]
Processor = Callable[[Any, str, Fields], Fields]
"""A step of a line on its way (structlog calls it a processor): logger, level, fields."""

_ENCODE: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_UNREDACTED_FIELDS: Final = frozenset(("timestamp", "level"))


def add_header(sink: LogSink) -> Processor:
    """Time, level and event come first; then how many lines were lost before this one, if any."""

    def add(_: Any, level: str, fields: Fields) -> Fields:
        first: Fields = {"timestamp": to_text(time.time()), "level": level, "event": fields.pop("event")}
        if sink.lost_lines:
            first["lost"] = sink.lost_lines
        first.update(fields)
        return first

    return add


def describe_errors(with_traceback: bool) -> Processor:
    """An exception under `error` becomes its type and message; with a `traceback` only where that is wanted."""

    def describe(_: Any, __: str, fields: Fields) -> Fields:
        error = fields.get("error")
        if isinstance(error, BaseException):
            fields["error"] = f"{type(error).__name__}: {safe_text(error)}".removesuffix(": ")
            if with_traceback:
                fields["traceback"] = "".join(traceback.format_exception(error))
        return fields

    return describe


def render_json(redactor: Redactor) -> Callable[[Any, str, Fields], str]:
    """One JSON object, all ASCII: no text can end the line, nor be refused by the stream's encoding."""

    def render(_: Any, __: str, fields: Fields) -> str:
        try:
            line = _ENCODE(fields)
        except (TypeError, ValueError, RecursionError):  # not only plain values
            return _ENCODE(_redacted(redactor, fields))
        return _ENCODE(_redacted(redactor, fields)) if redactor.needs_redaction(line) else line

    return render


def make_printable(redactor: Redactor) -> Processor:
    """For terminals: without secrets, and no text can move the cursor or set colours."""

    def step(_: Any, __: str, fields: Fields) -> Fields:
        printed = _redacted(redactor, fields)
        trace = printed.pop("traceback", None)
        printed = {key: _escaped(value) if isinstance(value, str) else value for key, value in printed.items()}
        if trace is not None:
            printed["exception"] = "\n".join(map(_escaped, trace.splitlines()))
        return printed

    return step


def _redacted(redactor: Redactor, fields: Fields) -> dict[str, Any]:
    """The fields without secrets, but for time and level: they are ours, and lines are sorted by them."""
    return {key: value if key in _UNREDACTED_FIELDS else redactor.redact(value) for key, value in fields.items()}


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
