"""Small charts as inline SVG, stretched to the available width; all text is HTML beside them."""

from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import Final

from worker.policy.status import NOTHING, Chart, Series

WIDTH_UNITS: Final = 600
HEIGHT_UNITS: Final = 100
_LINE_PATH: Final = '<path class="line {kind}" vector-effect="non-scaling-stroke" d="{path}"/>'
_BARS_PATH: Final = '<path class="bars {kind}" d="{path}"/>'
_FIGURE: Final = """<figure>
<figcaption><b>{title}</b> <small>{unit}</small><span class="legend">{legend}</span></figcaption>
<div class="plot"><span class="top">{top}</span>
<svg viewBox="0 0 600 100" preserveAspectRatio="none" role="img" aria-label="{title}, {unit}, {since}">
<path class="grid" vector-effect="non-scaling-stroke" d="M0 .5H600M0 50H600M0 99.5H600"/>
{paths}
</svg></div>
<div class="axis"><span>{since}</span><span>now</span></div>
</figure>"""


def render_chart(chart: Chart, slot: float) -> str:
    """The chart with its caption as HTML; one value represents `slot` seconds."""
    top = axis_maximum(chart)
    draw = _bars if chart.is_stacked else _lines
    minutes = slot * max((len(series.values) for series in chart.series), default=0) / 60
    return _FIGURE.format(
        title=escape(chart.title),
        unit=escape(chart.unit),
        legend="".join(map(_legend_entry, chart.series)),
        top=_short_number(top),
        since=f"{minutes:g} min ago",
        paths="\n".join(draw(chart.series, top)),
    )


def axis_maximum(chart: Chart) -> float:
    """The value at the upper edge: 1, 2 or 5 times a power of ten, not below any value."""
    columns = zip(*(series.values for series in chart.series), strict=True)
    fold = sum if chart.is_stacked else max
    highest = max((fold([value or 0.0 for value in column]) for column in columns), default=0.0)
    power = 0.1
    while True:
        for step in (1.0, 2.0, 5.0):
            if highest <= step * power:
                return step * power
        power *= 10


def _bars(all_series: Sequence[Series], top: float) -> Iterator[str]:
    base = [0.0] * len(all_series[0].values)
    slot_width = WIDTH_UNITS / max(1, len(base))
    for series in all_series:
        segments = []
        for index, value in enumerate(series.values):
            if value:
                low, base[index] = base[index], base[index] + value
                y, high = HEIGHT_UNITS * (1 - base[index] / top), HEIGHT_UNITS * (base[index] - low) / top
                segments.append(
                    f"M{index * slot_width:.6g} {y:.5g}h{slot_width * 0.8:.6g}v{high:.5g}h-{slot_width * 0.8:.6g}z"
                )
        if segments:
            yield _BARS_PATH.format(kind=escape(series.kind), path="".join(segments))


def _lines(all_series: Sequence[Series], top: float) -> Iterator[str]:
    for series in all_series:
        slot_width = WIDTH_UNITS / max(1, len(series.values))
        points = [
            None if value is None else f"{(index + 0.5) * slot_width:.6g} {HEIGHT_UNITS * (1 - value / top):.5g}"
            for index, value in enumerate(series.values)
        ]
        segments = []
        for previous, point in pairwise([None, *points]):
            if point is not None:
                # A value between two gaps would be a line without length: it is drawn as a dot.
                segments.append(f"L{point}" if previous is not None else f"M{point}h2")
        if segments:
            yield _LINE_PATH.format(kind=escape(series.kind), path="".join(segments))


def _legend_entry(series: Series) -> str:
    last = next((value for value in reversed(series.values) if value is not None), None)
    shown = NOTHING if last is None else _short_number(last)
    return f'<span class="key {escape(series.kind)}">{escape(series.name)} <b>{shown}</b></span>'


def _short_number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
