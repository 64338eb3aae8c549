"""The figures as text tables."""

from collections.abc import Sequence

from tools.bench.figures import Entry, Series, Target

MARKS = {True: "ok", False: "MISSED", None: "not measured"}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns below their heads: the first to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]

    def row(line: Sequence[str]) -> str:
        cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        return "  ".join([line[0].ljust(widths[0]), *cells]).rstrip()

    return "\n".join([row(head), "  ".join("-" * width for width in widths), *map(row, rows)])


def competitors(entries: Sequence[Entry]) -> str:
    """What everybody costs."""
    rows = [
        (
            entry.title,
            f"{entry.cpu_us:,.0f}",
            f"{entry.per_second:,.0f}",
            f"{entry.rss_mb:.0f}",
            f"{entry.p50_ms:.1f}",
            f"{entry.p99_ms:.1f}",
        )
        for entry in entries
    ]
    return table(("64 in flight", "CPU µs/request", "requests/s", "RSS MB", "p50 ms", "p99 ms"), rows)


def growth(series: Series) -> str:
    """How the cost grows."""
    rows = [
        (
            step.label,
            f"{step.cpu_us:,.0f}",
            f"{series.growth(step):+.0%}",
            f"{step.per_second:,.0f}",
            f"{series.rate(step):.2f}",
            f"{step.rss_mb:.0f}",
        )
        for step in series.steps
    ]
    return table((series.title, "CPU µs/request", "growth", "requests/s", "x rate", "RSS MB"), rows)


def promises(targets: Sequence[Target]) -> str:
    """What must be reached, and whether it is."""
    rows = [
        (
            target.what,
            "-" if target.value is None else f"{target.value:.2f}",
            f"≤ {target.limit:g} {target.unit}",
            MARKS[target.is_met],
        )
        for target in targets
    ]
    return table(("target", "found", "limit", ""), rows)
