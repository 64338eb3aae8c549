"""Settings as text: the list of the status page and the table of the documentation."""

from pathlib import Path

from worker.config import Settings, describe, load, settings_table
from worker.config.settings import variable

NOWHERE = Path("/nonexistent")


def test_settings_are_described() -> None:
    """Every setting is described by variable, value and meaning; secrets are redacted, missing values empty."""
    environ = {
        "WORKER_ACCESS_KEY": "AK",
        "WORKER_SECRET_KEY": "SK",
        "WORKER_AMQP_URL": "amqp://a:secret@one,amqp://b",
        "WORKER_DCS_TIMEOUT": "2.50",
    }
    rows = describe(load(environ, folder=NOWHERE).settings)
    assert all(meaning for _, _, meaning in rows)
    shown = {name: value for name, value, _ in rows}
    assert set(shown) == {variable(field) for field in Settings.model_fields}
    expected = {
        "WORKER_SECRET_KEY": "***",
        "WORKER_AUTH_TOKEN": "",
        "WORKER_AMQP_URL": "amqp://a:***@one,amqp://b",
        "WORKER_DCS_TIMEOUT": "2.5",
        "WORKER_DRAIN": "25",
        "WORKER_MARKER": "true",
        "WORKER_RETRY_DELAYS": "10,60,300,1800",
        "WORKER_DCS_ENDPOINTS": '{"cn-north-4": "https://dcs.cn-north-4.myhuaweicloud.com"}',
        "WORKER_SECRETS_DIR": "/run/secrets",
    }
    assert shown | expected == shown


def test_table_has_one_row_per_variable() -> None:
    """The table has one row of three cells per variable, with the default as an operator writes it."""
    head, rule, *rows = settings_table().splitlines()
    assert (head, rule) == ("| variable | default | meaning |", "| --- | --- | --- |")
    assert all(row.count(" | ") == 2 for row in rows)
    assert len(rows) == len(Settings.model_fields)
    assert rows[0].startswith("| `WORKER_AMQP_URL` | `amqp://guest:guest@127.0.0.1:5672` | broker")
    assert "| `WORKER_DCS_ENDPOINTS` | empty | JSON map" in settings_table()


def test_defaults_in_table_are_effective_defaults() -> None:
    """Setting every variable to the default in the table changes nothing."""
    cells = [row.split(" | ") for row in settings_table().splitlines()[2:]]
    environ = {name.strip("| `"): default.strip("`") for name, default, _ in cells if default != "empty"}
    environ.pop("WORKER_SECRETS_DIR")  # a folder that is named must exist, the default need not
    written = load(environ, folder=NOWHERE, credentials=False).settings
    assert written == load({}, folder=NOWHERE, credentials=False).settings
