"""`deploy/rabbitmq/` stays what the commands print, its table what the files say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from worker.cli.app import app

DEPLOY = Path(__file__).parents[2] / "deploy" / "rabbitmq"
FORMATS = ("definitions", "permissions")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads a `.env` that lies about."""
    monkeypatch.chdir(tmp_path)


def printed(format_: str, **environment: str) -> str:
    """What the command prints."""
    result = CliRunner().invoke(app, ["topology", "--format", f"rabbitmq-{format_}"], env=environment)
    assert result.exit_code == 0, result.output
    return result.output


def kept(format_: str) -> dict[str, list[dict[str, Any]]]:
    """What the file says."""
    found: dict[str, list[dict[str, Any]]] = json.loads((DEPLOY / f"{format_}.json").read_text())
    return found


@pytest.mark.parametrize("format_", FORMATS)
def test_the_files_are_the_printed_ones(format_: str) -> None:
    """Whoever changes the topology changes the files too."""
    assert (DEPLOY / f"{format_}.json").read_text() == printed(format_)


@pytest.mark.parametrize("format_", FORMATS)
def test_settings_and_vhost_are_followed(format_: str) -> None:
    """Names and vhost are those of the settings, everywhere."""
    url = "amqp://u:hunter2@127.0.0.1/a%2Fb"
    text = printed(format_, WORKER_AMQP_URL=url, WORKER_QUEUE="moves", WORKER_REQUEST_EXCHANGE="in")
    one = json.loads(text)
    assert {entry.get("vhost", "a/b") for entries in one.values() for entry in entries} == {"a/b"}
    assert "moves" in text
    assert "dcs.migration.requests" not in text
    assert "hunter2" not in text


def test_no_user_password_or_hash_is_in_them() -> None:
    """Importing a user would set its password; there is none to be found here either."""
    assert kept("definitions").keys() == {"vhosts", "exchanges", "queues", "bindings", "policies"}
    assert kept("permissions").keys() == {"permissions"}
    assert {key for entry in kept("permissions")["permissions"] for key in entry} == {
        "user", "vhost", "configure", "write", "read",
    }  # fmt: skip


def test_the_table_is_what_the_file_says() -> None:
    """A row per user, with the patterns that it is given."""
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| `(.+?)` \| `(.+?)` \|$", (DEPLOY / "README.md").read_text(), re.M)
    told = [tuple(cell.replace("\\|", "|") for cell in row) for row in rows]
    given = kept("permissions")["permissions"]
    assert told == [(one["user"], one["configure"], one["write"], one["read"]) for one in given]


@pytest.mark.parametrize("name", ["dcs.migration.requests", "dcs.migration.requests.retry.10s", "another"])
def test_no_user_may_declare_objects_of_another(name: str) -> None:
    """No pattern is wider than it looks: each has both ends, and every dot is a dot."""
    for one in kept("permissions")["permissions"]:
        assert not re.search(one["configure"], name)
        for right in ("configure", "write", "read"):
            assert (one[right][0], one[right][-1]) == ("^", "$")
            assert not re.search(one[right], "dcsXmigrationXrequests")


def test_apply_has_no_format() -> None:
    """A format is that of what is printed."""
    result = CliRunner().invoke(app, ["topology", "apply", "--format", "rabbitmq-definitions"])
    assert result.exit_code == 2
