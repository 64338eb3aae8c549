"""Status page: one HTML document without external parts. All values are escaped.

Its Content-Security-Policy names style and script by hash (https://www.w3.org/TR/CSP3/): a text that got through
unescaped would not be executed.
"""

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from typing import Final

from worker.policy.status import Readiness, Status
from worker.web import tables
from worker.web.tables import duration, text

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
    settings = f"<details><summary>Effective settings</summary>\n{tables.settings(status.settings)}</details>"
    return (
        f'<section id="figures" class="tiles" data-part>{_tiles(status)}</section>',
        _section("regions", "Regions", tables.regions(status.regions)),
        _section("in-flight", "In flight, oldest first", tables.in_flight(status.in_flight, status.in_hand)),
        _section("faults", "Failed DCS calls", tables.faults(activity.faults, status.now)),
        _section("failures", "Recent failures", tables.failures(activity.failures, status.now)),
        '<div class="pair">',
        _section("outcomes", "Deliveries since start", tables.outcomes(activity.outcomes)),
        _section("connections", "Connections", tables.connections(status.connections)),
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
