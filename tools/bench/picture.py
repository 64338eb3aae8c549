"""The figures as a picture (SVG): bars of what a request costs, on a ground of its own, light or dark as the viewer is.

A page that shows it may be dark where the viewer's system is light: only what brings its ground along is readable
on every one.
"""

from collections.abc import Sequence
from html import escape

from tools.bench.figures import Entry

WIDTH, LEFT, RIGHT = 760, 250, 120
ROW, BAR, TOP = 30, 18, 62

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.ground { fill: #ffffff; stroke: #d1d9e0 }
.title { font-size: 15px; font-weight: 600 }
.ours { fill: #1a7f64 } .other { fill: #8a94a0 } .strong { font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .ground { fill: #0d1117; stroke: #3d444d } .ours { fill: #3fb68b } .other { fill: #6e7781 }
}
"""


def picture(entries: Sequence[Entry], subtitle: str) -> str:
    """An SVG document: a bar per competitor, cheapest first, as long as its CPU time per request."""
    ordered = sorted(entries, key=lambda entry: entry.cpu_us)
    scale = (WIDTH - LEFT - RIGHT) / max(entry.cpu_us for entry in ordered)
    height = TOP + ROW * len(ordered) + 8
    bars = "\n".join(_bar(entry, TOP + ROW * place, scale) for place, entry in enumerate(ordered))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">
<title>CPU time per request</title>
<style>{STYLE}</style>
<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>
<text class="title" x="16" y="24">CPU time per request, µs</text>
<text x="16" y="44">{escape(subtitle)}</text>
{bars}
</svg>
"""


def _bar(entry: Entry, top: float, scale: float) -> str:
    is_ours = entry.name.startswith("worker")
    kind, text = ("ours", ' class="strong"') if is_ours else ("other", "")
    length = entry.cpu_us * scale
    line = top + BAR / 2 + 4.5
    return (
        f'<text{text} x="{LEFT - 8}" y="{line:g}" text-anchor="end">{escape(entry.title)}</text>'
        f'<rect class="{kind}" x="{LEFT}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2"/>'
        f'<text{text} x="{LEFT + length + 8:.1f}" y="{line:g}">{entry.cpu_us:,.0f}</text>'
    )
