"""From what was logged to a line: how every line begins, errors in words, JSON or plain text."""

import json
import time
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from schemas.timestamp import to_text
from worker.observe.mask import Mask, in_words
from worker.observe.sink import Sink

Fields = MutableMapping[str, Any]
Step = Callable[[Any, str, Fields], Fields]
"""A step of a line on its way (structlog calls it a processor): logger, level, fields."""

_ENCODE: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_OURS: Final = frozenset(("timestamp", "level"))


def begun(sink: Sink) -> Step:
    """Time, level and event come first; then how many lines were lost before this one, if any."""

    def begin(_: Any, level: str, fields: Fields) -> Fields:
        first: Fields = {"timestamp": to_text(time.time()), "level": level, "event": fields.pop("event")}
        if sink.lost:
            first["lost"] = sink.lost
        first.update(fields)
        return first

    return begin


def explained(with_traceback: bool) -> Step:
    """An exception under `error` becomes its type and message; with a `traceback` only where that is wanted."""

    def explain(_: Any, __: str, fields: Fields) -> Fields:
        error = fields.get("error")
        if isinstance(error, BaseException):
            fields["error"] = f"{type(error).__name__}: {in_words(error)}".removesuffix(": ")
            if with_traceback:
                fields["traceback"] = "".join(traceback.format_exception(error))
        return fields

    return explain


def json_line(mask: Mask) -> Callable[[Any, str, Fields], str]:
    """One JSON object, all ASCII: no text can end the line, nor be refused by the stream's encoding."""

    def render(_: Any, __: str, fields: Fields) -> str:
        try:
            line = _ENCODE(fields)
        except (TypeError, ValueError, RecursionError):  # not only plain values
            return _ENCODE(_cleaned(mask, fields))
        return _ENCODE(_cleaned(mask, fields)) if mask.is_needed(line) else line

    return render


def printable(mask: Mask) -> Step:
    """For terminals: without secrets, and no text can move the cursor or set colours."""

    def step(_: Any, __: str, fields: Fields) -> Fields:
        shown = _cleaned(mask, fields)
        trace = shown.pop("traceback", None)
        shown = {key: _escaped(value) if isinstance(value, str) else value for key, value in shown.items()}
        if trace is not None:
            shown["exception"] = "\n".join(map(_escaped, trace.splitlines()))
        return shown

    return step


def _cleaned(mask: Mask, fields: Fields) -> dict[str, Any]:
    """The fields without secrets, but for time and level: they are ours, and lines are sorted by them."""
    return {key: value if key in _OURS else mask.clean(value) for key, value in fields.items()}


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
