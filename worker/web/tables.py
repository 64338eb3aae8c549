"""Tables of the status page. All values are escaped."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from schemas.timestamp import to_text
from worker.policy.status import NOTHING, Connection, Failure, FaultKind, InHand

MAX_REQUESTS_SHOWN: Final = 10
"""Of the requests in flight."""

_CODE_SPAN: Final = re.compile(r"`([^`]+)`")

Cell = str
"""HTML: made by `text`, `moment` or `duration`."""


def text(value: object) -> Cell:
    """A value as text; a missing value as a dash."""
    if value is None or value == "":
        return NOTHING
    return escape(value if isinstance(value, str) else str(value))


def duration(seconds: float) -> Cell:
    """Seconds in the two largest units."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = int(seconds)
    for unit, size, small, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {small}"
    return f"{whole} s"


def moment(at: float, now: float) -> Cell:
    """The age of a time; the time itself as a tooltip."""
    return f'<time datetime="{to_text(at)}" title="{to_text(at)}">{duration(now - at)} ago</time>'


def table(names: Sequence[str], rows: Iterable[Sequence[Cell]], *, empty: str) -> str:
    """A table, which on a narrow screen becomes a list of cards; the sentence `empty` if there are no rows."""
    body = "\n".join(
        "<tr>" + "".join(f'<td data-name="{escape(name)}">{cell}</td>' for name, cell in zip(names, row, strict=True))
        for row in rows
    )
    if not body:
        return f'<p class="none">{escape(empty)}</p>'
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def in_flight(count: int, shown: Sequence[InHand]) -> str:
    """The requests in flight, oldest first; `count` is their number."""
    rows = [
        (duration(request.seconds), text(request.request_id), text(request.project_id))
        for request in shown[:MAX_REQUESTS_SHOWN]
    ]
    more = f'<p class="none">and {count - len(rows):,} more</p>' if rows and count > len(rows) else ""
    return table(("age", "request", "project"), rows, empty="No request in flight.") + more


def failures(shown: Iterable[Failure], now: float) -> str:
    """The last failures, newest first."""
    rows = (
        (
            moment(failure.at, now),
            text(failure.reason) + (' <span class="tag">parked</span>' if failure.parked else ""),
            text(failure.request_id),
            text(failure.project_id),
            text(failure.region),
            text(failure.attempts),
            text(failure.said),
        )
        for failure in shown
    )
    names = ("when", "reason", "request", "project", "region", "create calls", "last error")
    return table(names, rows, empty="No failed request since start.")


def faults(shown: Iterable[FaultKind], now: float) -> str:
    """Failed DCS calls by status."""
    rows = (
        (text(fault.label), text(fault.evidence), text(fault.count), moment(fault.at, now), text(fault.said))
        for fault in shown
    )
    names = ("status", "result", "calls", "last", "last error")
    return table(names, rows, empty="No failed call since start.")


def outcomes(shown: Mapping[tuple[str, str], int]) -> str:
    """Handled deliveries by outcome and reason, most frequent first."""
    rows = ((text(outcome), text(reason), f"{count:,}") for (outcome, reason), count in shown.items())
    return table(("outcome", "reason", "deliveries"), rows, empty="No delivery handled since start.")


def regions(shown: Mapping[str, Mapping[str, object]]) -> str:
    """The facts of each region: a column for each fact that all regions have, one for the rest."""
    first = next(iter(shown.values()), {})
    names = [name for name in first if all(name in facts for facts in shown.values())]
    rows = (
        (
            text(region),
            *(text(facts[name]) for name in names),
            text("; ".join(f"{_spaced(name)} {value}" for name, value in facts.items() if name not in names)),
        )
        for region, facts in shown.items()
    )
    return table(("region", *map(_spaced, names), "note"), rows, empty="No region is configured.")


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def connections(shown: Iterable[Connection]) -> str:
    """The worker's connections."""
    colours = {True: "good", False: "bad", None: "quiet"}
    rows = ((text(link.name), f'<span class="{colours[link.is_good]}">{text(link.state)}</span>') for link in shown)
    return table(("connection", "state"), rows, empty="No connection.")


def settings(shown: Iterable[tuple[str, str, str]]) -> str:
    """The effective settings."""
    rows = ((f"<code>{text(name)}</code>", text(value), _with_code(meaning)) for name, value, meaning in shown)
    return table(("variable", "value", "meaning"), rows, empty="No settings.")


def _with_code(meaning: str) -> Cell:
    return _CODE_SPAN.sub(r"<code>\1</code>", text(meaning))
