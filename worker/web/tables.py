"""The tables of the status page. Everything shown is escaped."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from schemas.timestamp import to_text
from worker.policy.status import NOTHING, Connection, Failure, FaultKind, InHand

MAX_REQUESTS_SHOWN: Final = 10
"""Requests in hand at most."""

_CODE_SPAN: Final = re.compile(r"`([^`]+)`")

Cell = str
"""HTML: made by `text`, `moment` or `duration`."""


def text(value: object) -> Cell:
    """Anything as text; an absent value as a dash."""
    if value is None or value == "":
        return NOTHING
    return escape(value if isinstance(value, str) else str(value))


def duration(seconds: float) -> Cell:
    """Seconds in the two largest units that matter."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = int(seconds)
    for unit, size, small, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {small}"
    return f"{whole} s"


def moment(at: float, now: float) -> Cell:
    """How long ago; the time itself on pointing at it."""
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
    """The requests that are being worked on, the longest first; `count` are in flight altogether."""
    rows = [(duration(one.seconds), text(one.request_id), text(one.project_id)) for one in shown[:MAX_REQUESTS_SHOWN]]
    more = f'<p class="none">and {count - len(rows):,} more</p>' if rows and count > len(rows) else ""
    return table(("for", "request", "project"), rows, empty="Nothing is being worked on.") + more


def failures(shown: Iterable[Failure], now: float) -> str:
    """The last failures, the newest first."""
    rows = (
        (
            moment(one.at, now),
            text(one.reason) + (' <span class="tag">parked</span>' if one.parked else ""),
            text(one.request_id),
            text(one.project_id),
            text(one.region),
            text(one.attempts),
            text(one.said),
        )
        for one in shown
    )
    names = ("when", "reason", "request", "project", "region", "creates", "last said")
    return table(names, rows, empty="No request has failed since the start.")


def faults(shown: Iterable[FaultKind], now: float) -> str:
    """Calls without success, by how they ended."""
    rows = ((text(f.label), text(f.evidence), text(f.count), moment(f.at, now), text(f.said)) for f in shown)
    names = ("ended", "evidence", "calls", "last", "last said")
    return table(names, rows, empty="Every call has succeeded since the start.")


def outcomes(shown: Mapping[tuple[str, str], int]) -> str:
    """Deliveries that are over, the most frequent first."""
    rows = ((text(outcome), text(reason), f"{count:,}") for (outcome, reason), count in shown.items())
    return table(("outcome", "reason", "deliveries"), rows, empty="Nothing has ended since the start.")


def regions(shown: Mapping[str, Mapping[str, object]]) -> str:
    """What is known of each region: a column for what is known of all, one for the rest."""
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
    return table(("region", *map(_spaced, names), "besides"), rows, empty="No region is configured.")


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def connections(shown: Iterable[Connection]) -> str:
    """What the worker lives on."""
    colours = {True: "good", False: "bad", None: "quiet"}
    rows = ((text(one.name), f'<span class="{colours[one.is_good]}">{text(one.state)}</span>') for one in shown)
    return table(("connection", "state"), rows, empty="There is none.")


def settings(shown: Iterable[tuple[str, str, str]]) -> str:
    """The settings in force."""
    rows = ((f"<code>{text(name)}</code>", text(value), _with_code(meaning)) for name, value, meaning in shown)
    return table(("variable", "value", "meaning"), rows, empty="None are known.")


def _with_code(meaning: str) -> Cell:
    return _CODE_SPAN.sub(r"<code>\1</code>", text(meaning))
