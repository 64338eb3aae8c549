"""deploy/runbook.md: a chapter for each alert and each health status, in one form, that names only what exists.

tests/live/test_runbook_commands.py runs its commands.
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from typer.main import get_command

from schemas.event import Reason
from tests.deploy.kubernetes_manifests import COMPONENTS, KUBERNETES, built
from tests.deploy.test_rules import ALERTS, RUNBOOK, chapters
from tools.harness.runbook import commands
from worker.cli.app import app
from worker.config import Settings
from worker.config.settings import variable
from worker.policy.health import HealthStatus

START: Final = "start-here"
"""The chapter that leads to the others."""
PARTS: Final = ("**What it means.**", "**What to look at.**", "**What to do.**", "**What not to do.**")
TEXT: Final = RUNBOOK.read_text()
ELSEWHERE: Final = {"WORKER_SECRETS_DIR"}
"""Variables that are no field of the settings."""


def test_every_alert_and_every_status_has_its_chapter() -> None:
    """The anchor of an alert is its name in lower case; no chapter is left of an alert or a status that is gone."""
    alerts = {alert["alert"].lower() for alert in ALERTS}
    statuses = {f"status-{status}" for status in HealthStatus}
    found = {anchor for anchor in chapters() if anchor.startswith(("dcsworker", "status-"))}
    assert found == alerts | statuses


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: "-".join((alert["alert"], *alert["labels"].values())))
def test_chapter_explains_each_form_of_its_alert(alert: dict[str, Any]) -> None:
    """An alert of several causes, or of several paces, has them in its labels; its chapter says what each means."""
    forms = {value for name, value in alert["labels"].items() if name in ("cause", "burn")}
    chapter = chapters()[alert["alert"].lower()]
    assert {form for form in forms if f"`{form}`" not in chapter} == set()


@pytest.mark.parametrize("anchor", [anchor for anchor in chapters() if anchor != START])
def test_chapter_has_its_four_parts(anchor: str) -> None:
    """In this order, once each, and none of them empty."""
    chapter = chapters()[anchor]
    pieces = re.split("|".join(map(re.escape, PARTS)), chapter)
    assert re.findall("|".join(map(re.escape, PARTS)), chapter) == list(PARTS)
    assert all(piece.strip() for piece in pieces[1:])


def test_first_table_lists_every_status_as_it_is() -> None:
    """With the HTTP status of `/readyz`, and a link to its chapter."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| \[Status (\w+)\]\(#status-(\w+)\) \|$", chapters()[START], re.MULTILINE)
    expected = {(status, "200" if status.is_ready else "503") for status in HealthStatus}
    assert {(status, code) for status, code, *_ in rows} == expected
    assert all(status == title == anchor for status, _, title, anchor in rows)


def test_every_command_exists_with_its_options() -> None:
    """Each `dcs-worker …` in a block or a sentence; the reasons that it asks for are reasons."""
    group: Any = get_command(app)
    inline = re.findall(r"`dcs-worker ([a-z][^`]*)`", TEXT)
    printed = [line.partition(" ")[2] for line in commands(TEXT) if line.startswith("dcs-worker ")]
    assert printed
    for line in inline + printed:
        words = shlex.split(line)
        command = group
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert command is not group, line
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line
        asked = [words[place + 1] for place, word in enumerate(words) if word == "--reason"]
        assert set(asked) <= set(Reason), line


def test_every_setting_exists() -> None:
    """Variables of the worker, in whatever form they are written."""
    known = {variable(field) for field in Settings.model_fields} | ELSEWHERE
    assert set(re.findall(r"\bWORKER_[A-Z_]*[A-Z]\b", TEXT)) <= known


def test_kubectl_commands_are_about_what_is_shipped(tmp_path: Path) -> None:
    """Kinds and names are those of the manifests; kubectl accepts each annotation, and its removal."""
    shipped = {(one["kind"].lower(), one["metadata"]["name"]) for one in built(COMPONENTS)}
    lines = [shlex.split(line)[1:] for line in commands(TEXT) if line.startswith("kubectl ")]
    named = {(words[1], words[2]) for words in lines if words[0] in ("scale", "annotate")}
    named |= {(words[2], words[3]) for words in lines if words[:2] == ["rollout", "restart"]}
    assert named == {("deployment", "dcs-worker"), ("scaledobject", "dcs-worker")}
    assert named <= shipped
    kubectl = shutil.which("kubectl")
    assert kubectl is not None
    scaled = yaml.safe_load((KUBERNETES / "components" / "autoscaling" / "scaledobject.yaml").read_text())
    path = tmp_path / "scaledobject.yaml"
    seen = []
    for words in lines:
        if words[0] == "annotate":
            path.write_text(yaml.safe_dump(scaled))
            options = ("--local", f"--filename={path}", "--output=yaml")
            done = subprocess.run(
                [kubectl, "annotate", *words[3:], *options], capture_output=True, text=True, check=True
            )
            scaled = yaml.safe_load(done.stdout)
            seen.append(scaled["metadata"].get("annotations") or {})
    assert seen == [{"autoscaling.keda.sh/paused-replicas": "0"}, {}]
