"""Spans of time as people write and read them."""

import re
from typing import Final

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FORM: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)")


def seconds(text: str) -> float:
    """Seconds of `90`, `90s`, `15m`, `2h` or `3d`. Raises ValueError."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no span of time such as 90s, 15m, 2h or 3d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def span(length: float) -> str:
    """`47 s`, `3 min`, `5 h` or `12 d`, rounded down."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if length >= size:
            return f"{int(length // size)} {unit}"
    return f"{int(max(0.0, length))} s"


def exact(length: float) -> str:
    """`0.012 s`, `47.5 s`, `3 min 5 s`, `5 h 2 min` or `12 d`."""
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if length >= size:
            rest = int(length % size // part)
            return f"{int(length // size)} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{round(length, 3) + 0.0:g} s"
