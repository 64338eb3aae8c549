"""Tracing that is off costs nothing; tracing that cannot be had is one clear sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.bootstrap.components import tracing
from worker.config import ConfigurationError, load

ROOT = Path(__file__).parents[3]
STARTED = """
import sys
import worker.cli.run
from worker.bootstrap import components
from worker.config import load
assert components.tracing(load({"WORKER_AUTH_TOKEN": "t" * 64}).settings) is None
ours = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.proto", "google.protobuf", "requests")
print(*(name for name in sys.modules if name.startswith((*ours, "worker.observe.trac", "worker.observe.span"))))
"""
WITHOUT = """
import sys
sys.modules["opentelemetry"] = None  # import system: None means "not found"
sys.argv = ["dcs-worker", "run"]
from worker.__main__ import main
main()
"""


def python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own."""
    told = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-c", program], env=told, capture_output=True, text=True, timeout=60, check=False
    )


def test_disabled_tracing_is_not_imported() -> None:
    """Without an endpoint a worker loads nothing of tracing (the Redis library loads metrics itself)."""
    done = python(STARTED)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")


def test_missing_packages_are_one_sentence(tmp_path: Path) -> None:
    """An endpoint without the packages: what to install, exit status 78."""
    done = python(
        WITHOUT,
        WORKER_AUTH_TOKEN="t" * 64,
        WORKER_SECRETS_DIR=str(tmp_path),
        WORKER_LOG_FORMAT="console",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318",
    )
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == (
        "OTEL_EXPORTER_OTLP_ENDPOINT: tracing needs packages that are not installed: "
        "pip install 'dcs-migration-worker[tracing]'\n"
    )


def test_invalid_otel_variable_is_configuration_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A standard variable with an invalid value stops the start, in OpenTelemetry's words."""
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "many")
    settings = load({"WORKER_AUTH_TOKEN": "t" * 64, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}).settings
    with pytest.raises(ConfigurationError, match=r"OpenTelemetry refuses its settings: .*OTEL_SPAN_EVENT_COUNT_LIMIT"):
        tracing(settings)
