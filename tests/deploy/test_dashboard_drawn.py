"""An hour in small under a real Prometheus: every query asked, the dashboard held to Grafana's types and drawn."""

import asyncio
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft7Validator

from tests.deploy.test_rules import ALERTS, rules
from tools.deploy.dashboard_hour import REGIONS, Hour, play
from tools.deploy.draw_dashboard import ACT, draw
from tools.deploy.grafana_packages import schemas
from tools.deploy.promql_queries import DASHBOARD, panels, placed, queries, substituted

pytestmark = [pytest.mark.dashboard, pytest.mark.timeout(900)]
BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
FIRED = {"DcsWorkerUnresolved", "DcsWorkerCredentialsRefused"}
"""Alerts that what happens in the hour calls for, and that do not wait for minutes."""


@pytest.fixture(scope="session")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hour]:
    """The hour, which is over, and Prometheus, which remembers it."""
    with ExitStack() as stack:
        yield asyncio.run(play(tmp_path_factory.mktemp("hour"), ACT, stack))


def values(answer: dict[str, Any]) -> list[float]:
    """All values in an answer that are numbers; an AssertionError for an error."""
    assert answer["status"] == "success", answer
    found = [float(value) for series in answer["data"]["result"] for _, value in series["values"]]
    return [value for value in found if not math.isnan(value)]


@pytest.mark.parametrize(("title", "query"), queries(), ids=lambda text: text[:40])
def test_every_query_of_the_dashboard_has_an_answer(hour: Hour, title: str, query: str) -> None:
    """None is in error, and none is empty."""
    assert values(hour.range(substituted(query))), title


@pytest.mark.parametrize("rule", [*rules("recording.yml"), *ALERTS], ids=lambda rule: rule["expr"][:60])
def test_every_rule_can_be_evaluated(hour: Hour, rule: dict[str, Any]) -> None:
    """None is in error; what is recorded has values."""
    found = values(hour.range(rule["expr"]))
    if "record" in rule:
        assert found
        assert values(hour.range(rule["record"]))


def test_prometheus_is_content_with_the_rules(hour: Hour) -> None:
    """It has evaluated all of them, without an error."""
    groups = hour.prometheus.ask("rules")["data"]["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    assert sum(len(group["rules"]) for group in groups) == len(ALERTS) + len(rules("recording.yml"))


def test_the_alerts_fire_that_the_hour_calls_for(hour: Hour) -> None:
    """Requests were parked, refused and left unresolved; nothing else lasted long enough."""
    fired = hour.range('ALERTS{alertstate="firing"}')["data"]["result"]
    assert {series["metric"]["alertname"] for series in fired} == FIRED


def test_variables_offer_what_there_is(hour: Hour) -> None:
    """Both regions, both replicas."""
    asked = {"query": "dcs_worker_breaker_state", "time": hour.ended}
    found = [series["metric"] for series in hour.prometheus.ask("query", **asked)["data"]["result"]]
    assert {labels["region"] for labels in found} == set(REGIONS)
    assert len({labels["instance"] for labels in found}) == 2


@pytest.fixture(scope="session")
def types() -> dict[str, Draft7Validator]:
    """Validators made from Grafana's own types."""
    return {name: Draft7Validator(schema) for name, schema in schemas().items()}


def faults(types: dict[str, Draft7Validator], board: dict[str, Any]) -> list[str]:
    """What Grafana's types find wrong with a dashboard."""
    found = [error.message for error in types["dashboard"].iter_errors(board)]
    for panel in panels(board):
        for kind, value in (
            ("options", panel.get("options", {})),
            ("custom", panel["fieldConfig"]["defaults"].get("custom")),
        ):
            if value is not None:
                found += [error.message for error in types[f"{panel['type']} {kind}"].iter_errors(value)]
    return found


def test_the_dashboard_is_of_grafanas_types(types: dict[str, Draft7Validator]) -> None:
    """No field that they do not know, none of another type; options and custom fields of panels as well."""
    assert faults(types, BOARD) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("titel",), "misspelt"),
        (("panels", 1, "gridPos", "w"), "wide"),
        (("panels", 4, "options", "colourMode"), "value"),
        (("panels", 4, "options", "graphMode"), "curve"),
        (("templating", "list", 0, "refresh"), "always"),
    ],
    ids=str,
)
def test_grafanas_types_reject_a_broken_dashboard(
    types: dict[str, Draft7Validator], path: tuple[str | int, ...], value: str
) -> None:
    """A dashboard that is wrong in one place is refused."""
    broken = deepcopy(BOARD)
    place: Any = broken
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert faults(types, broken)


def test_the_dashboard_is_drawn(hour: Hour, tmp_path: Path) -> None:
    """By Grafana's own front-end packages, without an error, without an empty panel, from this machine alone."""
    drawing = asyncio.run(draw(hour, tmp_path / "dashboard.png", rows=len(placed())))
    assert not drawing.complaints
    assert {urlsplit(url).hostname for url in drawing.requested if not url.startswith("data:")} == {"127.0.0.1"}
    assert "No data" not in drawing.words
    assert all(panel["title"] in drawing.words for panel in panels())
    assert (tmp_path / "dashboard.png").stat().st_size > 50_000
