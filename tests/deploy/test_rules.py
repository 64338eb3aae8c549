"""Alerts and recording rules: sound, tried by promtool, each with its chapter in the runbook, and of real metrics."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tools.deploy.promql_queries import DEPLOY, FOREIGN, documents, exposed, named, promised

RULES = DEPLOY / "prometheus" / "rules"
TESTS = Path(__file__).parent / "rules"
RUNBOOK = DEPLOY / "runbook.md"
PARTS = ("**What it means.**", "**What to look at.**", "**What to do.**", "**What not to do.**")
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool: apt-get install prometheus")


def rules(file: str) -> list[dict[str, Any]]:
    """The rules of a file."""
    return [rule for group in yaml.safe_load((RULES / file).read_text())["groups"] for rule in group["rules"]]


ALERTS = rules("alerts.yml")


def chapters() -> dict[str, str]:
    """The chapters of the runbook by their anchor."""
    _, *found = re.split(r"^## ", RUNBOOK.read_text(), flags=re.MULTILINE)
    return {chapter.splitlines()[0].lower().replace(" ", "-"): chapter for chapter in found}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What promtool makes of it."""
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=100, check=False)


@needs_promtool
def test_rules_are_sound() -> None:
    """promtool accepts every file of rules."""
    done = promtool("check", "rules", *RULES.glob("*.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("file", sorted(TESTS.glob("*.yml")), ids=lambda path: path.stem)
def test_rules_do_what_their_tests_say(file: Path) -> None:
    """promtool runs the rules over made-up series."""
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_seen_firing_and_quiet() -> None:
    """For every alert, and for each of its causes, there is a case in which it fires, and one in which it does not."""
    cases = [
        case
        for file in TESTS.glob("*.yml")
        for test in yaml.safe_load(file.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    quiet = {case["alertname"] for case in cases if not case["exp_alerts"]}
    fired = [(case["alertname"], fired["exp_labels"]) for case in cases for fired in case["exp_alerts"]]
    for alert in ALERTS:
        assert alert["alert"] in quiet
        assert any(name == alert["alert"] and alert["labels"].items() <= labels.items() for name, labels in fired), (
            alert
        )


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: "-".join((alert["alert"], *alert["labels"].values())))
def test_an_alert_tells_a_person_what_to_do(alert: dict[str, Any]) -> None:
    """Severity, a summary, and a chapter of the runbook with its four parts, in this order."""
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"]["summary"]
    assert alert["labels"]["service"] == "dcs-worker"
    assert alert["alert"].startswith("DcsWorker")
    address, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert urlsplit(address).scheme in {"http", "https"}
    assert anchor == alert["alert"].lower()
    places = [chapters()[anchor].find(part) for part in PARTS]
    assert min(places) >= 0
    assert places == sorted(places)


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_every_metric_that_is_named_exists(path: Path) -> None:
    """In rules, panels and documents: the worker's come from the code, others from a list of known ones."""
    known = promised() if path.suffix == ".md" else exposed()
    assert named(path) <= known | FOREIGN


def test_recorded_series_are_the_ones_that_alerts_use() -> None:
    """None is recorded for nobody, none is missing."""
    recorded = {rule["record"] for rule in rules("recording.yml")}
    used = {name for alert in ALERTS for name in re.findall(r"\w+:\w+:\w+", alert["expr"])}
    assert recorded == used


def test_label_values_of_rules_and_panels_exist() -> None:
    """A reason or outcome that is asked for is one that the worker tells."""
    from worker.observe import metrics

    values = {
        *metrics.OUTCOME_REASONS,
        *metrics.PARKED_REASON_VALUES,
        *metrics.PAUSE_REASONS,
        *metrics.OUTCOMES,
        *metrics.OPERATIONS,
    }
    texts = [json.dumps([rule["expr"] for rule in ALERTS])]
    texts += [(DEPLOY / "grafana" / "dashboards" / "dcs-migration-worker.json").read_text()]
    asked = re.findall(r'\b(?:reason|outcome|operation)(?:=|!=|=~|!~)\\"([^\\"]+)', "".join(texts))
    assert asked
    assert {value for pattern in asked for value in pattern.split("|")} <= values
