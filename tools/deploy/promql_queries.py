"""What the shipped files ask of Prometheus, and which metrics there are."""

import json
import re
from pathlib import Path
from typing import Any, Final

from worker.observe.metrics import Metrics

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
RULE_TESTS: Final = ROOT / "tests" / "deploy" / "rules"
DASHBOARD: Final = DEPLOY / "grafana" / "dashboards" / "dcs-migration-worker.json"

FOREIGN: Final = {  # names that are not the worker's: of RabbitMQ's plugin, and of Prometheus itself
    "rabbitmq_detailed_queue_messages",
    "rabbitmq_detailed_queue_messages_ready",
    "rabbitmq_detailed_queue_messages_unacked",
    "rabbitmq_detailed_queue_consumers",
    "rabbitmq_alarms_memory_used_watermark",
    "rabbitmq_alarms_free_disk_space_watermark",
    "rabbitmq_process_resident_memory_bytes",
    "rabbitmq_resident_memory_limit_bytes",
    "rabbitmq_global_messages_dead_lettered_expired_total",
    "rabbitmq_global_messages_dead_lettered_delivery_limit_total",
    "up",
}
PLUGINS: Final = {"rabbitmq_prometheus", "rabbitmq_management", "rabbitmq_auth_mechanism_ssl", "rabbitmq_shovel"}
"""Names that only look like a metric's."""
VALUES: Final = {
    "namespace": ".*",
    "job": ".*",
    "pod": ".*",
    "queue": "dcs.migration.requests",
    "__rate_interval": "10s",
}
NAME: Final = re.compile(r"\b(?:dcs_worker|rabbitmq|process)_[a-z0-9_]+\b|\bup\b(?=\{| ==)")
OWN: Final = re.compile(r"\bdcs_worker_[a-z0-9_]+\b")
RECORDED: Final = re.compile(r"\b\w+:dcs_worker_\w+:\w+")


def exposed() -> set[str]:
    """The names of all series that a worker exposes."""
    metrics = Metrics("1.2.3", ("cn-north-4",), True)
    metrics.dcs_calls["cn-north-4", "create", "200"].inc()
    metrics.marker_kept.labels("cn-north-4").set(1)
    metrics.set_waiting({"requests": 1}, parked_seconds=0.0, oldest_seconds=1.0)
    metrics.claims_memory_used.value = 0.5
    lines = metrics.render("")[0].decode().splitlines()
    return {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}


def promised() -> set[str]:
    """Those, and histograms without what they end with, as documents name them."""
    return exposed() | {name.removesuffix("_bucket") for name in exposed()}


def named(path: Path) -> set[str]:
    """The metrics that a file names; of files that are neither text nor asked of Prometheus, only the worker's."""
    text = RECORDED.sub("", path.read_text("utf-8"))
    is_asked = path.suffix == ".md" or {DEPLOY / "prometheus", RULE_TESTS} & set(path.parents) or path == DASHBOARD
    return set((NAME if is_asked else OWN).findall(text)) - PLUGINS


def panels(board: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The panels of a dashboard, of the committed one if none is given, without its rows."""
    return [panel for panel in placed(board) if panel["type"] != "row"]


def placed(board: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Rows and panels of a dashboard, with the panels of rows that are collapsed."""
    found = (board or json.loads(DASHBOARD.read_text("utf-8")))["panels"]
    return [one for panel in found for one in (panel, *panel.get("panels", ()))]


def queries() -> list[tuple[str, str]]:
    """Every query of every panel, with its panel's title."""
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def substituted(query: str) -> str:
    """A query with the dashboard's variables in place, all replicas chosen."""
    for name, value in VALUES.items():
        query = query.replace(f"${{{name}:regex}}", value).replace(f"${name}", value)
    return query


def documents() -> list[Path]:
    """Everything in which metrics are named."""
    texts = [path for kind in ("md", "yml", "yaml", "json") for path in DEPLOY.rglob(f"*.{kind}")]
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(texts), *RULE_TESTS.glob("*.yml")]
