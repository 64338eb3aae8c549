"""The vocabulary of the dashboard: queries and panels as it uses them, over Grafana's own builders."""

from collections.abc import Mapping, Sequence
from typing import Final

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as settings
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
REPLICA: Final = 'namespace=~"$namespace", job=~"$job", pod=~"$pod"'
RUNBOOK: Final = "${runbook}"
GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE, GREY = "green", "yellow", "orange", "red", "blue", "purple", "text"
NAMES: Final = "ABCDEFG"

Row = Sequence[Builder[models.Panel]]
Steps = Sequence[tuple[float, str]]
"""From this value on, this colour; what is below the first is green."""
States = Mapping[str, tuple[str, str]]
"""Text and colour of values."""
REASONS: Final = {  # green: a task exists; purple: an operator must look; red: any other failure
    "^created$": GREEN,
    "^adopted$": "dark-green",
    "^rejected$": RED,
    "^not_found$": "light-red",
    "^forbidden$": "dark-red",
    "^unauthenticated$": "semi-dark-red",
    "^exhausted$": "dark-orange",
    "^expired$": "super-light-red",
    "^invalid_request$": "super-light-purple",
    "^conflict$": "light-purple",
    "^unresolved$": PURPLE,
    "^poison$": "dark-purple",
}
"""Colours of reasons, the same in every panel."""
BREAKER: Final[States] = {"0": ("closed", GREEN), "1": ("half-open", YELLOW), "2": ("open", RED)}


def own(metric: str, **labels: str) -> str:
    """A metric of the worker, of the chosen replicas; a label's value that begins with ~ or !~ is a pattern."""
    conditions = (f'{name}{_operator(value)}"{value.lstrip("!~")}"' for name, value in labels.items())
    return f"dcs_worker_{metric}{{{','.join((REPLICA, *conditions))}}}"


def _operator(value: str) -> str:
    return "!~" if value.startswith("!~") else "=~" if value.startswith("~") else "="


def of_process(metric: str, window: str = "") -> str:
    """A metric of the worker's process; its rate over `window`, if one is given."""
    series = f"{metric}{{{REPLICA}}}{window}"
    return f"{f'rate({series})' if window else series} and on (job, instance) dcs_worker_build_info"


def queue(metric: str, rest: str = "") -> str:
    """A metric of the broker about the chosen queue, or about those whose names go on with `rest`, a pattern."""
    return f'rabbitmq_detailed_queue_{metric}{{queue=~"${{queue:regex}}{rest}"}}'


def by_place(series: str) -> str:
    """Queues as `requests`, `retry.10s`, `parked`, in the label `place`."""
    pattern = "(?:.*?[.])?(retry[.][0-9.]+s?|parked|[^.]+)"
    return f'label_replace(max by (queue) ({series}), "place", "$1", "queue", "{pattern}")'


def rate(series: str, by: str = "") -> str:
    """Per second, summed up `by` labels."""
    return f"sum{f' by ({by})' if by else ''} (rate({series}[$__rate_interval]))"


def share(part: str, whole: str) -> str:
    """What part it is; no value, instead of NaN, where there is no whole."""
    return f"({part} / {whole}) >= 0"


def quantile(rank: float, histogram: str, **labels: str) -> str:
    """A quantile of a histogram of the worker."""
    return f"histogram_quantile({rank}, {rate(own(f'{histogram}_bucket', **labels), 'le')})"


def quantiles(histogram: str, **labels: str) -> list[tuple[str, str]]:
    """The median and what the slowest meet."""
    return [(quantile(rank, histogram, **labels), f"p{rank * 100:.0f}") for rank in (0.5, 0.95, 0.99)]


def thresholds(steps: Steps) -> boards.ThresholdsConfig:
    """Absolute ones."""
    first = models.Threshold(value=None, color=GREEN)
    rest = [models.Threshold(value=value, color=colour) for value, colour in steps]
    return boards.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps([first, *rest])


def mappings(states: States) -> list[models.ValueMapping]:
    """Values that are words."""
    options = {
        value: models.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(states.items())
    }
    return [models.ValueMap(options=options)]


def _query(expression: str, legend: str, name: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(name).range().datasource(SOURCE)


def see(anchor: str) -> list[Builder[models.DashboardLink]]:
    """A link to a chapter of the runbook."""
    link = boards.DashboardLink(f"Runbook: {anchor}").type(models.DashboardLinkType.LINK)
    return [link.url(f"{RUNBOOK}#{anchor}").target_blank(True)]


def light(  # noqa: PLR0913 - each is one thing that a panel says
    title: str,
    text: str,
    expression: str,
    anchor: str,
    *,
    unit: str = "short",
    steps: Steps = ((1, RED),),
    states: States | None = None,
    decimals: int = 0,
    line: bool = False,
    none: str = "none",
) -> stat.Panel:
    """One value that is green when all is well, and leads to the runbook when it is not; `none`: without a value."""
    reduced = common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
    panel = stat.Panel().title(title).description(text).links(see(anchor)).span(4).height(4).datasource(SOURCE)
    query = _query(expression, "", "A")
    panel = (
        panel.with_target(query if line else query.instant())
        .unit(unit)
        .decimals(decimals)
        .thresholds(thresholds(steps))
    )
    graph = settings.BigValueGraphMode.AREA if line else settings.BigValueGraphMode.NONE
    panel = panel.graph_mode(graph).color_mode(settings.BigValueColorMode.BACKGROUND).reduce_options(reduced)
    panel = panel.no_value(none).color_scheme(boards.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    return panel.mappings(mappings(states)) if states else panel


def graph(  # noqa: PLR0913 - as above
    title: str,
    text: str,
    *queries: tuple[str, str],
    unit: str = "short",
    span: int = 8,
    stacked: bool = False,
    colours: Mapping[str, str] | None = None,
    steps: Steps = (),
    room: float | None = None,
    anchor: str | None = None,
) -> timeseries.Panel:
    """Lines over time from (query, legend); stacked ones are areas. `colours` are by regular expression of names.

    `room`: the axis goes up to there at least.
    """
    legend = common.VizLegendOptions().display_mode(settings.LegendDisplayMode.LIST).show_legend(True)
    legend = legend.placement(settings.LegendPlacement.BOTTOM).calcs([])
    hints = common.VizTooltipOptions().mode(settings.TooltipDisplayMode.MULTI).sort(settings.SortOrder.DESCENDING)
    panel = timeseries.Panel().title(title).description(text).span(span).height(7).datasource(SOURCE)
    panel = panel.unit(unit).min(0).legend(legend).tooltip(hints)
    panel = (
        panel.show_points(settings.VisibilityMode.NEVER)
        .fill_opacity(70 if stacked else 8)
        .line_width(0 if stacked else 1)
    )
    panel = panel.color_scheme(boards.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
    for name, (expression, label) in zip(NAMES, queries, strict=False):
        panel = panel.with_target(_query(expression, label, name))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(settings.StackingMode.NORMAL).group("A"))
    for pattern, colour in (colours or {}).items():
        fixed = models.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})
        panel = panel.override_by_regexp(f"/{pattern}/", [fixed])
    if steps:
        style = common.GraphThresholdsStyleConfig().mode(settings.GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds(thresholds(steps)).thresholds_style(style)
    if room is not None:
        panel = panel.axis_soft_max(room)
    return panel.links(see(anchor)) if anchor else panel


def heat(title: str, text: str, histogram: str, *, span: int = 8, **labels: str) -> heatmap.Panel:
    """How many of a histogram's observations fell into which bucket, over time."""
    series = own(f"{histogram}_bucket", **labels)
    query = _query(f"sum by (le) (increase({series}[$__rate_interval]))", "{{le}}", "A")
    colour = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(64).exponent(0.5)
    panel = heatmap.Panel().title(title).description(text).span(span).height(7).datasource(SOURCE)
    panel = panel.with_target(query.format(PromQueryFormat.HEATMAP)).calculate(False).color(colour)
    axis = heatmap.YAxisConfig().unit("s").axis_placement(settings.AxisPlacement.LEFT)
    return panel.y_axis(axis).show_legend().cell_gap(1).unit("short")


def track(title: str, text: str, *queries: tuple[str, str], states: States, span: int = 8) -> statetimeline.Panel:
    """States over time, a line for each series."""
    legend = common.VizLegendOptions().display_mode(settings.LegendDisplayMode.LIST).show_legend(True)
    legend = legend.placement(settings.LegendPlacement.BOTTOM).calcs([])
    panel = statetimeline.Panel().title(title).description(text).span(span).height(7).datasource(SOURCE)
    for name, (expression, label) in zip(NAMES, queries, strict=False):
        panel = panel.with_target(_query(expression, label, name))
    panel = panel.mappings(mappings(states)).legend(legend).merge_values(True).row_height(0.85).fill_opacity(80)
    return panel.show_value(settings.VisibilityMode.NEVER).line_width(0).thresholds(thresholds(()))
