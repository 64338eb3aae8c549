"""The rules as an object of the Prometheus Operator: generated from those of deploy/prometheus, and fresh."""

from pathlib import Path

import yaml

from scripts.prometheusrule import OBJECT, RULES, wrapped
from tests.deploy.kubernetes_manifests import faults


def test_the_object_is_fresh() -> None:
    """Who changes a rule has to run `make rules`."""
    assert OBJECT.read_text() == wrapped(RULES), "run make rules"


def test_rules_are_wrapped_as_they_are(tmp_path: Path) -> None:
    """Groups of all files in order, nothing changed, and valid; long and many-lined texts too."""
    expression = 'sum by (region) (rate(dcs_worker_dcs_calls_total{status=~"5.."}[5m]))\n  > 0.5\n'
    rule = {"alert": "A", "expr": expression, "for": "5m", "annotations": {"summary": "s: " + "long " * 60 + "ü"}}
    (tmp_path / "recording.yml").write_text(yaml.safe_dump({"groups": [{"name": "two", "rules": []}]}))
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [rule]}]}))
    document = yaml.safe_load(wrapped(tmp_path))
    assert document["spec"]["groups"] == [{"name": "one", "rules": [rule]}, {"name": "two", "rules": []}]
    assert faults(document) == []
