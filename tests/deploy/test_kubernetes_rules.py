"""The rules as an object of the Prometheus Operator: generated from those of deploy/prometheus, and fresh."""

import re
from pathlib import Path

import pytest
import yaml

from scripts.prometheusrule import OBJECT, RULE_TESTS, RULES, runbook_url, with_runbook, wrapped
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


def test_address_of_runbook_is_written_into_every_alert() -> None:
    """Into rules and their tests alike, which fit each other then too; nothing else changes, also the second time."""
    for path in (*RULES.glob("*.yml"), *RULE_TESTS.glob("*.yml")):
        text, url = path.read_text(), "https://wiki.example.org/ops/dcs"
        changed = with_runbook(with_runbook(text, "http://old.example.org/x"), url)
        found = re.findall(r"runbook_url: (\S+)", changed)
        assert all(re.fullmatch(re.escape(url) + r"#dcsworker[a-z]+", address) for address in found), path
        assert re.sub(r"runbook_url: .*", "", changed) == re.sub(r"runbook_url: .*", "", text)
    assert found or path.name != "alerts.yml"


@pytest.mark.parametrize(
    "text", ["deploy/runbook.md", "https://wiki/page#chapter", "https://", "ftp://host/x", "https://a b"]
)
def test_runbook_needs_an_address(text: str) -> None:
    """A path cannot be followed from an alert, and the anchor is the chapter's."""
    with pytest.raises(ValueError, match="no address"):
        runbook_url(text)
