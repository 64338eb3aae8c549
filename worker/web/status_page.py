"""Status page: one HTML document without external parts. All values are escaped.

Its Content-Security-Policy names style and script by hash (https://www.w3.org/TR/CSP3/): a text that got through
unescaped would not be executed.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from schemas.timestamp import to_text
from worker.policy.status import NOTHING, Connection, Failure, FaultKind, InHand, Readiness, Status

MAX_REQUESTS_SHOWN: Final = 10
"""Of the requests in flight."""

_CODE_SPAN: Final = re.compile(r"`([^`]+)`")
_HERE: Final = Path(__file__).parent
_STYLE: Final = (_HERE / "status_page.css").read_text("utf-8")
_SCRIPT: Final = (_HERE / "status_page.js").read_text("utf-8")


def _csp_hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"style-src {_csp_hash(_STYLE)}",
        f"script-src {_csp_hash(_SCRIPT)}",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The page's Content-Security-Policy."""

_HEAD: Final = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<noscript><meta http-equiv="refresh" content="5"></noscript>
<style>{_STYLE}</style>
"""
_BODY: Final = """<title>{title} · dcs-worker</title>
</head>
<body>
<header id="head" data-part>
<h1 class="{state}">{title}</h1> <span class="quiet">dcs-worker {version}, up {up}</span>
<p>{reason}</p>
</header>
<main>
<p id="lost">The worker does not answer. This is its last answer.</p>
{parts}
</main>
<footer><a href="/metrics">metrics</a> · <a href="/readyz">readyz</a> · <a href="/livez">livez</a></footer>
"""
_TAIL: Final = f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"


def render_page(readiness: Readiness, status: Status) -> str:
    """The status page as HTML."""
    # Regions have a separate table.
    facts = {name: value for name, value in readiness.details.items() if name != "regions"}
    details = "".join(f" · {text(name)}: {text(_json_or_text(value))}" for name, value in facts.items())
    body = _BODY.format(
        title=escape(status.state.capitalize()),
        state=escape(status.state),
        version=text(status.version),
        up=duration(status.now - status.started),
        reason=("" if readiness.reason == status.state else text(readiness.reason)) + details,
        parts="\n".join(_parts(status)),
    )
    return _HEAD + body + _TAIL


def _parts(status: Status) -> tuple[str, ...]:
    activity = status.activity
    settings = f"<details><summary>Effective settings</summary>\n{settings_table(status.settings)}</details>"
    return (
        f'<section id="figures" class="tiles" data-part>{_tiles(status)}</section>',
        _section("regions", "Regions", regions_table(status.regions)),
        _section("in-flight", "In flight, oldest first", in_flight_table(status.in_flight, status.in_hand)),
        _section("faults", "Failed DCS calls", faults_table(activity.faults, status.now)),
        _section("failures", "Recent failures", failures_table(activity.failures, status.now)),
        '<div class="pair">',
        _section("outcomes", "Deliveries since start", outcomes_table(activity.outcomes)),
        _section("connections", "Connections", connections_table(status.connections)),
        "</div>",
        _section("settings", "", settings),
    )


def _section(name: str, title: str, content: str) -> str:
    heading = f"<h2>{escape(title)}</h2>\n" if title else ""
    return f'<section id="{name}" data-part>\n{heading}{content}\n</section>'


def _tiles(status: Status) -> str:
    figures = {
        "waiting in the queue": f"{status.backlog:,}",
        "in flight": f"{status.in_flight:,} of {status.prefetch:,}",
        **{f"{name}, last minute": value for name, value in status.activity.figures.items()},
    }
    return "".join(f"<div><b>{text(value)}</b>{text(name)}</div>" for name, value in figures.items())


def _json_or_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


# Cells and tables.

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


def in_flight_table(count: int, shown: Sequence[InHand]) -> str:
    """The requests in flight, oldest first; `count` is their number."""
    rows = [
        (duration(request.seconds), text(request.request_id), text(request.project_id))
        for request in shown[:MAX_REQUESTS_SHOWN]
    ]
    more = f'<p class="none">and {count - len(rows):,} more</p>' if rows and count > len(rows) else ""
    return table(("age", "request", "project"), rows, empty="No request in flight.") + more


def failures_table(shown: Iterable[Failure], now: float) -> str:
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


def faults_table(shown: Iterable[FaultKind], now: float) -> str:
    """Failed DCS calls by status."""
    rows = (
        (text(fault.label), text(fault.evidence), text(fault.count), moment(fault.at, now), text(fault.said))
        for fault in shown
    )
    names = ("status", "result", "calls", "last", "last error")
    return table(names, rows, empty="No failed call since start.")


def outcomes_table(shown: Mapping[tuple[str, str], int]) -> str:
    """Handled deliveries by outcome and reason, most frequent first."""
    rows = ((text(outcome), text(reason), f"{count:,}") for (outcome, reason), count in shown.items())
    return table(("outcome", "reason", "deliveries"), rows, empty="No delivery handled since start.")


def regions_table(shown: Mapping[str, Mapping[str, object]]) -> str:
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


def connections_table(shown: Iterable[Connection]) -> str:
    """The worker's connections."""
    colours = {True: "good", False: "bad", None: "quiet"}
    rows = ((text(link.name), f'<span class="{colours[link.is_good]}">{text(link.state)}</span>') for link in shown)
    return table(("connection", "state"), rows, empty="No connection.")


def settings_table(shown: Iterable[tuple[str, str, str]]) -> str:
    """The effective settings."""
    rows = ((f"<code>{text(name)}</code>", text(value), _with_code(meaning)) for name, value, meaning in shown)
    return table(("variable", "value", "meaning"), rows, empty="No settings.")


def _with_code(meaning: str) -> Cell:
    return _CODE_SPAN.sub(r"<code>\1</code>", text(meaning))
