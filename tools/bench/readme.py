"""The tables of docs/performance.md, from the results that are kept.

`.venv/bin/python -m tools.bench.readme` writes them again; `make bench` does so at its end.
"""

import json
from pathlib import Path
from typing import Any, Final

from scripts.generated_part import with_part

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "performance.md"
RESULTS: Final = Path(__file__).parent / "results"
VERDICTS: Final = {True: "kept", False: "**missed**", None: "not measured"}


def told(document: dict[str, Any]) -> str:
    """A table of what everybody costs, and one of the promises."""
    machine, left_out = document["machine"], document["left_out"]
    kind = "the full run" if document["is_full"] else "the quick run"
    costs = [
        f"| {one['title']} | {one['cpu_us']:,.0f} | {one['per_second']:,.0f} | {one['rss_mb']:.0f} |"
        f" {one['p50_ms']:.1f} | {one['p99_ms']:.1f} |"
        for one in document["contestants"]
    ]
    promises = [
        f"| {one['what']} | {_figure(one)} | {one['limit']:g} {one['unit']} | {VERDICTS[one['is_met']]} |"
        for one in document["targets"]
    ]
    return "\n".join(
        [
            f"Figures of {kind}, on {machine['cores']} cores that everything shared, RabbitMQ {machine['rabbitmq']},"
            f" Python {machine['python']}:",
            "",
            "| 64 in flight | CPU µs per request | requests per second | RSS MB | p50 ms | p99 ms |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
            *costs,
            "",
            "| at most | found | limit | |",
            "| --- | ---: | ---: | --- |",
            *promises,
            *(f"\n{why[0].upper()}{why[1:]}." for why in left_out.values()),
        ]
    )


def _figure(target: dict[str, Any]) -> str:
    return "" if target["value"] is None else f"{target['value']:.2f}"


def written(text: str, document: dict[str, Any]) -> str:
    """The page `text` with the tables as they must be."""
    return with_part(text, "bench", told(document), PAGE)


def renew() -> None:
    """Write the tables again."""
    document = json.loads((RESULTS / "bench.json").read_text())
    PAGE.write_text(written(PAGE.read_text(), document))


if __name__ == "__main__":
    renew()
