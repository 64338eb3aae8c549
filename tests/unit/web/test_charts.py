"""The charts: values at their places, gaps, and an upper edge that is easy to read."""

import re
from typing import Any

import pytest

from worker.policy.status import Chart, Series
from worker.web.charts import HEIGHT_UNITS, WIDTH_UNITS, axis_maximum, render_chart


def chart(*values: tuple[float | None, ...], **more: Any) -> Chart:
    """A chart of these series."""
    kinds = ("good", "bad", "busy")
    series = tuple(Series(f"s{place}", kinds[place], row) for place, row in enumerate(values))
    return Chart("Title", "ms", series, **more)


def paths(drawn: str) -> dict[str, str]:
    """The path of each series by the class of its colour."""
    return dict(re.findall(r'<path class="(?:line|bars) (\w+)"[^>]* d="([^"]*)"/>', drawn))


@pytest.mark.parametrize(
    ("values", "is_stacked", "top"),
    [
        (((0.0, None),), False, 0.1),
        (((0.05, 0.1),), False, 0.1),
        (((3.0, 4.0),), False, 5.0),
        (((3.0, 4.0), (1.0, 2.0)), False, 5.0),
        (((3.0, 4.0), (1.0, 2.0)), True, 10.0),
        (((0.0, 1_000.1),), False, 2_000.0),
        ((), False, 0.1),
    ],
)
def test_axis_maximum_is_round_number(values: Any, is_stacked: bool, top: float) -> None:
    """The next of 1, 2, 5 times a power of ten; stacked bars are added."""
    assert axis_maximum(chart(*values, is_stacked=is_stacked)) == pytest.approx(top)


def test_bars_are_stacked() -> None:
    """Each bar is as high as its value, on top of the series before; no value is no bar."""
    drawn = paths(render_chart(chart((1.0, 0.0), (3.0, 5.0), (0.0, 0.0), is_stacked=True), 5.0))
    half, wide = WIDTH_UNITS / 2, WIDTH_UNITS / 2 * 0.8

    assert drawn["good"] == f"M0 80h{wide:g}v20h-{wide:g}z"
    assert drawn["bad"] == f"M0 20h{wide:g}v60h-{wide:g}zM{half:g} 0h{wide:g}v{HEIGHT_UNITS}h-{wide:g}z"
    assert "busy" not in drawn


def test_lines_have_gaps() -> None:
    """A slot without a value ends the line; a value alone is a dot."""
    drawn = paths(render_chart(chart((None, 10.0, 5.0, None, 0.0, None)), 5.0))
    assert drawn["good"] == "M150 0h2L250 50M450 100h2"
    assert paths(render_chart(chart((None, None)), 5.0)) == {}


def test_caption_shows_numbers() -> None:
    """Title, unit, last value of each series, upper edge, and time range."""
    drawn = render_chart(chart((1.0, 1234.5, None), (None, None, None)), 20.0)
    assert '<span class="key good">s0 <b>1,234</b></span>' in drawn
    assert '<span class="key bad">s1 <b>–</b></span>' in drawn  # noqa: RUF001 - as it is shown
    assert '<span class="top">2,000</span>' in drawn
    assert 'aria-label="Title, ms, 1 min ago"' in drawn
    assert render_chart(chart(), 5.0).count("<path") == 1
