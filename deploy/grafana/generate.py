"""Generates the dashboard: `python -m deploy.grafana.generate` writes dashboards/dcs-migration-worker.json."""

import json
import sys
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana import plant, work
from deploy.grafana.health import ALERTS, health
from deploy.grafana.panels import RUNBOOK, SOURCE
from schemas import names

ROWS: Final = (
    ("Is all well?", health),
    ("Traffic", work.traffic),
    ("Outcomes", work.outcomes),
    ("Latency and age", work.latency),
    ("DCS calls", work.calls),
    ("Retries and schedule", work.retries),
    ("Breaker and limits", plant.limits),
    ("Broker and queues", plant.broker),
    ("Replicas", plant.replicas),
    ("Process", plant.process),
)
FILE: Final = Path(__file__).parent / "dashboards" / "dcs-migration-worker.json"


def _variable(name: str, label: str, query: str, text: str) -> boards.QueryVariable:
    every = models.VariableOption(selected=True, text="All", value="$__all")
    variable = boards.QueryVariable(name).label(label).description(text).query(query).datasource(SOURCE)
    variable = variable.multi(True).include_all(True).current(every).sort(models.VariableSort.ALPHABETICAL_ASC)
    return variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)


def _text(name: str, label: str, value: str, text: str) -> boards.TextBoxVariable:
    chosen = models.VariableOption(selected=True, text=value, value=value)
    variable = boards.TextBoxVariable(name).label(label).description(text).default_value(value)
    return variable.current(chosen).options([chosen])


def dashboard() -> models.Dashboard:
    """The dashboard."""
    board = boards.Dashboard("DCS migration worker").uid("dcs-migration-worker").tags(["dcs", "rabbitmq"])
    board = board.description("Requests on RabbitMQ, migration tasks in DCS: exactly one per request.")
    board = board.time("now-1h", "now").refresh("30s").timezone("browser").tooltip(models.DashboardCursorSync.CROSSHAIR)
    runbook = boards.DashboardLink("Runbook").type(models.DashboardLinkType.LINK).icon("doc").url(RUNBOOK)
    board = board.readonly().link(runbook.target_blank(True).tooltip("What each alert means, and what to do"))
    board = board.annotation(_alerts())
    board = board.with_variable(boards.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    board = board.with_variable(
        _variable("region", "Region", "label_values(dcs_worker_breaker_state, region)", "Regions that replicas serve.")
    )
    board = board.with_variable(
        _variable(
            "replica",
            "Replica",
            'label_values(dcs_worker_breaker_state{region=~"$region"}, instance)',
            "Replicas that serve one of these regions.",
        )
    )
    board = board.with_variable(_text("queue", "Queue", names.REQUEST_QUEUE, "WORKER_QUEUE of these replicas."))
    board = board.with_variable(
        _text("runbook", "Runbook", "deploy/runbook.md", "Where deploy/runbook.md is published: links lead there.")
    )
    number = 0
    for title, row in ROWS:
        number += 1
        board = board.with_row(boards.Row(title).id(number))
        for panel in row():
            number += 1
            board = board.with_panel(panel.id(number))  # type: ignore[attr-defined]
    return board.build()


def _alerts() -> boards.AnnotationQuery:
    firing = f'ALERTS{{alertstate="firing", alertname=~"{ALERTS}"}}'
    query = boards.AnnotationQuery().name("Alerts").datasource(SOURCE).enable(True).icon_color("red")
    return query.expr(firing)


def render() -> str:
    """The dashboard as it is committed."""
    board = json.loads(json.dumps(dashboard(), cls=JSONEncoder))
    for variable in board["templating"]["list"]:
        # The builders give every kind of variable what belongs to intervals; Grafana's schema has it nowhere.
        for field in ("auto", "auto_count", "auto_min"):
            del variable[field]
    return json.dumps(board, indent=1, sort_keys=True) + "\n"


def main(file: Path = FILE) -> None:
    """Write it to `file`."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(render(), "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
