"""Status page: one HTML document without external parts. All values are escaped.

Its Content-Security-Policy names style and script by hash (https://www.w3.org/TR/CSP3/): a text that got through
unescaped would not be executed.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from schemas.timestamp import to_text
from worker.policy.health import MEANINGS, Health, HealthStatus
from worker.policy.status import NOTHING, Connection, FailureGroup, FaultKind, InHand, Status, duration

MAX_REQUESTS_SHOWN: Final = 10
"""Of the requests in flight."""
UNKNOWN: Final = "unknown"
TITLES: Final = {HealthStatus.OK: "Healthy", HealthStatus.DISCONNECTED: "Disconnected from RabbitMQ"}
"""Of the statuses whose word is not the title."""
QUEUES: Final = {"requests": "backlog", "retry": "in retry queues", "parked": "parked"}
"""Tiles of the queues."""
WORDS: Final = {
    "ambiguous": "unknown",
    "refused": "rejected",
    "never_sent": "not sent",
    "returned": "requeued",
    "limit": "max parallel calls",
    "calls": "calls running",
    "waiting": "requests queued for a call",
}
"""What the page says for names that programs use."""

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
<h1 class="{status}">{title}</h1>
<span class="quiet">replica {replica} (one page per replica) · dcs-worker {version}, up {up}</span>
<p>{reason}</p>
<p class="quiet">runbook (deploy/runbook.md): chapter Status {status}</p>
{more}
</header>
<main>
<p id="lost">The worker does not answer. This is its last answer.</p>
{parts}
</main>
<footer><a href="/metrics">metrics</a> · <a href="/readyz">readyz</a> · <a href="/livez">livez</a></footer>
"""
_TAIL: Final = f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"


def render_page(health: Health, status: Status) -> str:
    """The status page as HTML."""
    others = {name: why for name, why in health.conditions.items() if name != health.status}
    modes = {name: why for name, why in health.details.items() if isinstance(why, str)}
    body = _BODY.format(
        title=escape(_title(health.status)),
        status=health.status.value,
        replica=text(status.replica),
        version=text(status.version),
        up=duration(status.now - status.started),
        reason=text(health.reason),
        more="\n".join(
            f'<p class="quiet">{text(name)}: {text(why)}</p>' for name, why in (*others.items(), *modes.items())
        ),
        parts="\n".join(_parts(status)),
    )
    return _HEAD + body + _TAIL


def _title(status: HealthStatus) -> str:
    return TITLES.get(status, status.value.capitalize())


def _parts(status: Status) -> tuple[str, ...]:
    activity = status.activity
    settings = f"<details><summary>Effective settings</summary>\n{settings_table(status.settings)}</details>"
    meanings = table(("state", "meaning"), ((_title(name), text(said)) for name, said in MEANINGS.items()), empty="")
    return (
        f'<section id="figures" class="tiles" data-part>{_tiles(status)}</section>',
        _section("failures", "Failed requests since start", failures_table(activity.failures, status.now)),
        _section("regions", "Regions", regions_table(status.regions)),
        _section("in-flight", "In flight, oldest first", in_flight_table(status.in_flight, status.in_hand)),
        _section("faults", "Failed DCS calls", faults_table(activity.faults, status.now)),
        '<div class="pair">',
        _section("outcomes", "Deliveries since start", outcomes_table(activity.outcomes)),
        _section("connections", "Connections", connections_table(status.connections)),
        "</div>",
        _section("states", "", f"<details><summary>What the states mean</summary>\n{meanings}</details>"),
        _section("settings", "", settings),
    )


def _section(name: str, title: str, content: str) -> str:
    heading = f"<h2>{escape(title)}</h2>\n" if title else ""
    return f'<section id="{name}" data-part>\n{heading}{content}\n</section>'


def _tiles(status: Status) -> str:
    watched = {"tasks followed up": (f"{status.queued['follow_up']:,}", "")} if "follow_up" in status.queued else {}
    queued = {name: f"{status.queued[name]:,}" if name in status.queued else UNKNOWN for name in QUEUES}
    figures = {
        **{name: (queued[queue], "") for queue, name in QUEUES.items()},
        **watched,
        "in flight": (f"{status.in_flight:,} of {status.prefetch:,}", ""),
        **{f"{name}, last minute": (value, "") for name, value in status.activity.figures.items()},
    }
    for name, colour in (("parked", "busy"), ("failed, last minute", "bad")):
        if name in figures and figures[name][0] not in ("0", UNKNOWN):
            figures[name] = figures[name][0], colour
    return "".join(
        f'<div><b class="{colour}">{text(value)}</b>{text(name)}</div>' for name, (value, colour) in figures.items()
    )


# Cells and tables.

Cell = str
"""HTML: made by `text`, `moment` or `duration`."""


def text(value: object) -> Cell:
    """A value as text; a missing value as a dash."""
    if value is None or value == "":
        return NOTHING
    return escape(value if isinstance(value, str) else str(value))


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


def failures_table(shown: Iterable[FailureGroup], now: float) -> str:
    """The failures by reason and code, latest first, each with the last request and a command that shows more."""
    rows = (
        (
            text(group.reason) + (' <span class="tag">parked</span>' if group.is_parked else ""),
            text(group.code),
            f'<span class="bad">{group.count:,}</span>',
            moment(group.first, now),
            moment(group.last, now),
            text(group.request_id),
            text(group.project_id),
            text(group.region),
            text(group.said),
            f"<code>{text(group.command)}</code>",
        )
        for group in shown
    )
    who = ("last request", "project", "region")
    names = ("reason", "code", "requests", "first", "last", *who, "last error", "command")
    return table(names, rows, empty="No failed request since start.")


def faults_table(shown: Iterable[FaultKind], now: float) -> str:
    """Failed DCS calls by status."""
    rows = (
        (text(fault.label), _word(fault.evidence), f"{fault.count:,}", moment(fault.at, now), text(fault.said))
        for fault in shown
    )
    names = ("status", "result", "calls", "last", "last error")
    return table(names, rows, empty="No failed call since start.")


def outcomes_table(shown: Mapping[tuple[str, str], int]) -> str:
    """Handled deliveries by outcome and reason, most frequent first."""
    rows = ((_word(outcome), text(reason), f"{count:,}") for (outcome, reason), count in shown.items())
    return table(("outcome", "reason", "deliveries"), rows, empty="No delivery handled since start.")


def regions_table(shown: Mapping[str, Mapping[str, object]]) -> str:
    """The facts of each region, stopped ones first: a column for each fact that all regions have, one for the rest."""
    first = next(iter(shown.values()), {})
    names = [name for name in first if all(name in facts for facts in shown.values())]
    stopped = {region for region, facts in shown.items() if "next_probe_in" in facts}
    rows = (
        (
            f'<span class="bad">{text(region)}</span>' if region in stopped else text(region),
            *(text(_worded(facts).get(name)) for name in names),
            text("; ".join(f"{_spaced(name)} {said}" for name, said in _worded(facts).items() if name not in names)),
        )
        for region, facts in sorted(shown.items(), key=lambda item: item[0] not in stopped)
    )
    return table(("region", *map(_word, names), "note"), rows, empty="No region is configured.")


def _word(name: str) -> str:
    return text(WORDS.get(name, _spaced(name)))


def _worded(facts: Mapping[str, object]) -> dict[str, str]:
    """The facts that are known: durations are the floats that are no rates."""
    rates = {name: f"{facts[name]:g} calls/s" for name in ("pace", "quota") if facts.get(name) is not None}
    known = {name: value for name, value in facts.items() if value is not None}
    return {name: duration(value) if isinstance(value, float) else str(value) for name, value in known.items()} | rates


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
