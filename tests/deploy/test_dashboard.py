"""The dashboard as committed: fresh, sound in itself, and leading to the runbook."""

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.grafana.generate import CONFIG_MAP, main
from scripts.grafana.health import FIRING, HEALTH, LATE, OBJECTIVE
from scripts.grafana.panels import REASONS
from tests.deploy.kubernetes_manifests import faults
from tests.deploy.test_rules import ALERTS, chapters, needs_promtool, promtool
from tools.deploy.grafana_packages import SOURCES
from tools.deploy.promql_queries import DASHBOARD, DEPLOY, panels, placed, queries, substituted

BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
ROWS = {
    *("Is all well?", "Traffic", "Outcomes", "Latency and age", "DCS calls", "Retries"),
    *("Breaker and limits", "Broker and queues", "Replicas", "Process"),
}


def test_the_committed_dashboard_is_fresh(tmp_path: Path) -> None:
    """The file says what its generator says now; if not, run `make dashboard`."""
    main(tmp_path / "new.json", tmp_path / "new.yaml")
    assert DASHBOARD.read_text("utf-8") == (tmp_path / "new.json").read_text("utf-8")
    assert CONFIG_MAP.read_text("utf-8") == (tmp_path / "new.yaml").read_text("utf-8")


def test_config_map_has_the_dashboard() -> None:
    """With the label that Grafana's sidecar looks for, and small enough for `kubectl apply`, which keeps a copy."""
    document = yaml.safe_load(CONFIG_MAP.read_text())
    assert faults(document) == []
    assert document["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert json.loads(document["data"]["dcs-migration-worker.json"]) == BOARD
    assert CONFIG_MAP.stat().st_size < 256 * 1024


def test_opening_asks_few_queries() -> None:
    """The rows below the first are collapsed, so that only its panels and the variables are asked for."""
    first, *others = (panel for panel in BOARD["panels"] if panel["type"] == "row")
    assert not first["collapsed"]
    assert all(row["collapsed"] and row["panels"] for row in others)
    shown = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
    asked = [target for panel in shown for target in panel["targets"]]
    variables = [variable for variable in BOARD["templating"]["list"] if variable["type"] == "query"]
    assert not BOARD.get("annotations", {}).get("list")
    assert len(asked) + len(variables) <= 12


def test_colours_have_one_meaning() -> None:
    """Green is a task or good health, in every panel; a reason of an event has the same colour everywhere."""
    from schemas.event import Reason

    matching = {reason: [c for pattern, c in REASONS.items() if re.search(pattern, reason)] for reason in Reason}
    assert {len(colours) for colours in matching.values()} == {1}
    assert not [colours for colours in matching.values() if "green" in colours[0]]
    assert {state for state, colour in HEALTH.values() if colour == "green"} == {"ok"}
    by_reason = [panel for panel in panels() if "by reason" in panel["title"] and "etries" not in panel["title"]]
    assert len(by_reason) > 1
    for panel in by_reason:
        fixed = {
            override["matcher"]["options"].strip("/"): override["properties"][0]["value"]["fixedColor"]
            for override in panel["fieldConfig"]["overrides"]
        }
        assert fixed == REASONS, panel["title"]


def test_health_shows_every_status() -> None:
    """Each has its number, so that the worst replica is not averaged away."""
    from worker.observe.metrics import HEALTH_STATUSES

    assert {state for state, _ in HEALTH.values()} == set(HEALTH_STATUSES)


def test_it_begins_with_whether_all_is_well() -> None:
    """The first row has health, alerts, outcomes and lights, each green unless something is wrong, on one screen."""
    titles = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert titles[0] == "Is all well?"
    assert set(titles) == ROWS
    end = next(panel["gridPos"]["y"] for panel in BOARD["panels"] if panel["title"] == titles[1])
    first = [panel for panel in panels() if panel["gridPos"]["y"] < end]
    assert [panel["title"] for panel in first[:3]] == ["Health of replicas", "Alerts", "Finished, by reason"]
    assert end <= 13
    for light in first[3:]:
        assert light["type"] == "stat"
        defaults = light["fieldConfig"]["defaults"]
        said = defaults.get("mappings", [{"options": {}}])[0]["options"].values()
        colours = {step["color"] for step in defaults["thresholds"]["steps"]} | {one["color"] for one in said}
        assert "green" in colours, light["title"]
        assert colours & {"red", "orange"}, light["title"]
        assert light["links"], light["title"]


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_explains_itself(panel: dict[str, Any]) -> None:
    """Title, description, a unit or words for its values, and the data source that is chosen."""
    assert panel["title"]
    assert panel["description"].endswith(".")
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults.get("unit") or defaults.get("mappings")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    assert all(target["expr"] for target in panel["targets"])


def test_panels_have_different_titles() -> None:
    """Each has an id and a title of its own, and room of its own within 24 columns."""
    everything = placed()
    assert Counter(panel["id"] for panel in everything).most_common(1)[0][1] == 1
    assert Counter(panel["title"] for panel in everything).most_common(1)[0][1] == 1
    places = [panel["gridPos"] for panel in everything]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_links_lead_into_the_runbook() -> None:
    """To chapters that exist; the dashboard as a whole, to its beginning."""
    urls = [link["url"] for panel in panels() for link in panel.get("links", ())]
    assert all(url.startswith("${runbook}#") for url in urls)
    assert {url.partition("#")[2] for url in urls} <= {*chapters(), "runbook"}
    assert [link["url"] for link in BOARD["links"]] == ["${runbook}"]


def test_variables_are_defined_and_used() -> None:
    """What a query or link stands on can be chosen; nothing can be chosen to no effect."""
    defined = {variable["name"] for variable in BOARD["templating"]["list"]}
    text = json.dumps(BOARD["panels"]) + "".join(str(one.get("query")) for one in BOARD["templating"]["list"])
    used = set(re.findall(r"\$\{?([a-z]+)\b", text.replace("$__rate_interval", "").replace("$__all", "")))
    assert used == defined
    assert {"namespace", "job", "pod"} <= defined
    assert all(one["allValue"] == ".*" for one in BOARD["templating"]["list"] if one["type"] == "query")


def test_the_worker_is_always_filtered_by_replica() -> None:
    """No query tells of replicas that were not chosen."""
    for title, query in queries():
        chosen = query.replace("and on (job, instance) dcs_worker_build_info", "")
        selectors = re.findall(r"\b(?:dcs_worker|process)_\w+(\{[^}]*\})?", chosen)
        chosen_by = 'namespace=~"$namespace", job=~"$job", pod=~"$pod"'
        assert all(chosen_by in selector for selector in selectors), title


def test_it_has_the_objective_and_the_alerts_of_the_rules() -> None:
    """The same bound, the same share, the same names as in the files of Prometheus."""
    rules = (DEPLOY / "prometheus" / "rules" / "alerts.yml").read_text()
    assert all(f'service="{alert["labels"]["service"]}"' in FIRING for alert in ALERTS)
    recording = (DEPLOY / "prometheus" / "rules" / "recording.yml").read_text()
    assert set(re.findall(r'le="([^"]+)"', recording)) == {OBJECTIVE}
    assert f"14.4 * {LATE}" in rules


@needs_promtool
def test_promtool_reads_every_query(tmp_path: Path) -> None:
    """With variables in place, each is PromQL."""
    asked = [
        {"record": "panel", "expr": substituted(query), "labels": {"number": str(number)}}
        for number, (_, query) in enumerate(queries())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": asked}]}))
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_picture_is_small_and_shown() -> None:
    """It is what `make picture` drew, and deploy/README.md shows it."""
    picture = DEPLOY.parent / "docs" / "dashboard.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 300_000
    assert "(../docs/dashboard.png)" in (DEPLOY / "README.md").read_text()


def test_the_lock_file_names_no_registry() -> None:
    """It works with any mirror, and pins everything by hash."""
    lock = json.loads((SOURCES / "package-lock.json").read_text())
    packages = [one for name, one in lock["packages"].items() if name]
    assert all(one["integrity"].startswith("sha512-") and "resolved" not in one for one in packages)
    assert "omit-lockfile-registry-resolved=true" in (SOURCES / ".npmrc").read_text().split()
