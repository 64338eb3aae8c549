"""Writes the address of the runbook into the rules, and wraps them for the Prometheus Operator: `make rules`.

kustomize reads nothing outside its folder, so the object is generated and committed; a test says when it is stale.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
RULES = ROOT / "deploy" / "prometheus" / "rules"
RULE_TESTS = ROOT / "tests" / "deploy" / "rules"
OBJECT = ROOT / "deploy" / "kubernetes" / "components" / "monitoring" / "prometheusrule.yaml"
HEAD = "# Generated from deploy/prometheus/rules: make rules\n"


class _Dumper(yaml.SafeDumper):
    """Texts of several lines stay readable, and lists are indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def wrapped(folder: Path = RULES) -> str:
    """The object with the groups of every file of `folder`, in the order of the files' names."""
    groups = [group for path in sorted(folder.glob("*.yml")) for group in yaml.safe_load(path.read_text())["groups"]]
    document: dict[str, Any] = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "dcs-worker", "labels": {"release": "kube-prometheus-stack"}},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def with_runbook(text: str, url: str) -> str:
    """Rules, or their tests, whose alerts lead to chapters of the runbook at `url`."""
    return re.sub(r"(?<=runbook_url: )[^#\s]+(?=#)", lambda _: url, text)


def runbook_url(text: str) -> str:
    """Address, http or https, without the anchor of a chapter. Raises ValueError."""
    if not re.fullmatch(r"https?://[^\s#]+", text):
        raise ValueError(f"no address: {text}")
    return text


def main() -> None:
    """Write the address into the rules and their tests if one is given; then the object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runbook", type=runbook_url, help="where deploy/runbook.md is published, https://…")
    if url := parser.parse_args().runbook:
        for path in (*RULES.glob("*.yml"), *RULE_TESTS.glob("*.yml")):
            path.write_text(with_runbook(path.read_text(), url))
    OBJECT.write_text(wrapped())
    sys.stdout.write(f"{OBJECT.relative_to(ROOT)} is fresh\n")


if __name__ == "__main__":
    main()
