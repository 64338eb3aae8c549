"""`settings`: each setting with its value, default and source, and without any secret."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from worker.cli.app import app
from worker.config import Settings

SECRETS = ("token-in-a-file", "hunter2", "hunter3", "hunter4")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Settings from every source; `.env` is read from the working directory."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "worker_auth_token").write_text("token-in-a-file\n")
    (tmp_path / ".env").write_text("WORKER_TRIES=5\nWORKER_QUEUE=from.dotenv\n")
    return {
        "WORKER_AMQP_URL": "amqp://worker:hunter2@broker-1/,amqp://worker:hunter2@broker-2/",
        "WORKER_QUEUE": "from.environment",
        "WORKER_DCS_REGION": "cn-south-1",
        "WORKER_PREFETCH": "64",
        "WORKER_SECRETS_DIR": str(folder),
        "WORKER_CLAIMS_URL": "redis://:hunter3@redis/0",
        "HTTPS_PROXY": "http://user:hunter4@proxy:3128",
    }


def _run(environment: dict[str, str], *options: str) -> Result:
    return CliRunner().invoke(app, ["settings", *options], env=environment)


def _rows(environment: dict[str, str]) -> dict[str, dict[str, Any]]:
    rows = {row["variable"]: row for row in json.loads(_run(environment, "--json").stdout)}
    assert {row["default"] for row in rows.values()} != {""}
    return rows


def test_every_setting_has_value_default_and_source(environment: dict[str, str], tmp_path: Path) -> None:
    """The environment goes before `.env`; what a region implies is derived, not a default."""
    rows = _rows(environment)

    assert len(rows) == len(Settings.model_fields)
    expected = {
        "WORKER_QUEUE": ("from.environment", "dcs.migration.requests", "environment"),
        "WORKER_TRIES": ("5", "3", ".env file"),
        "WORKER_AUTH_TOKEN": ("***", "", f"secret file {tmp_path}/secrets/worker_auth_token"),
        "WORKER_PREFETCH": ("64", "64", "environment"),
        "WORKER_SETTLE": ("45", "45", "default"),
        "WORKER_DCS_ENDPOINTS": (
            '{"cn-south-1": "https://dcs.cn-south-1.myhuaweicloud.com"}',
            "",
            "derived from WORKER_DCS_REGION",
        ),
        "HTTPS_PROXY": ("http://user:***@proxy:3128", "", "environment"),
    }
    found = {name: (row["value"], row["default"], row["source"]) for name, row in rows.items() if name in expected}
    assert found == expected


def test_keys_under_the_names_of_the_sdk_are_named() -> None:
    """Their settings have another name."""
    keys = {"HUAWEICLOUD_SDK_AK": "hunter2", "HUAWEICLOUD_SDK_SK": "hunter3"}
    row = _rows(keys)["WORKER_ACCESS_KEY"]

    assert (row["value"], row["source"]) == ("***", "environment, HUAWEICLOUD_SDK_AK")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_no_secret_is_printed(environment: dict[str, str], options: tuple[str, ...]) -> None:
    """Neither from the environment nor from a file, and no password of a URL."""
    done = _run(environment, *options)

    assert (done.exit_code, done.stderr) == (0, "")
    assert not any(secret in done.output for secret in SECRETS)


def test_lines_of_80_columns_mark_what_is_not_default(environment: dict[str, str]) -> None:
    """The source and the default are below the value."""
    lines = _run({**environment, "COLUMNS": "80"}).stdout.splitlines()

    (at,) = [number for number, line in enumerate(lines) if line.startswith("* WORKER_QUEUE ")]
    assert lines[at].endswith("  from.environment")
    below = " ".join(line.strip() for line in lines[at + 1 : at + 3])
    assert below == "environment; default: dcs.migration.requests"
    assert any(line.startswith("  WORKER_SETTLE ") and line.endswith("  45") for line in lines)
    assert [line for line in lines if len(line) > 80 and " " in line[40:]] == []


def test_invalid_setting_exits_with_78() -> None:
    """Missing credentials are no obstacle, a wrong value is."""
    done = _run({"WORKER_TRIES": "many"})

    assert (done.exit_code, done.stdout) == (78, "")
    assert done.stderr.startswith("WORKER_TRIES: ")


@pytest.mark.parametrize("url", ['"http://u:x@p:1"', "http://u:x@p:x1", "http://u:s/x@p:1", "http://u:%x@p:1"])
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_invalid_proxy_exits_with_78(name: str, url: str) -> None:
    """As `run` does, and not as if none were set."""
    done = _run({name: url})

    assert (done.exit_code, done.stdout) == (78, "")
    assert done.stderr.startswith(f"{name}: ")
