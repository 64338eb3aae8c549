"""The page for people: one document without external parts. Everything shown is escaped."""

import json
from collections.abc import Mapping
from html import escape
from typing import Final

from worker.policy.readiness import Readiness

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{state} · dcs-worker</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 45rem; margin: 2rem auto; padding: 0 1rem }}
th {{ text-align: left; font-weight: normal; padding-right: 2rem; vertical-align: top }}
td {{ overflow-wrap: anywhere }}
</style>
</head>
<body>
<h1>{state}</h1>
<p>{reason}</p>
<table>
{rows}
</table>
<p><a href="/metrics">metrics</a> · <a href="/readyz">readyz</a> · <a href="/livez">livez</a></p>
</body>
</html>
"""


def page(readiness: Readiness, status: Mapping[str, object]) -> str:
    """The status page as HTML; `status` has whatever is worth a row, by its name."""
    rows = "\n".join(
        f"<tr><th>{escape(name)}</th><td>{escape(_shown(value))}</td></tr>"
        for name, value in {**readiness.details, **status}.items()
    )
    state = "ready" if readiness.is_ready else "not ready"
    return _PAGE.format(state=state, reason=escape(readiness.reason), rows=rows)


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
