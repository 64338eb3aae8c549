"""The compose file: valid, complete, shut to the outside; what the worker is told there is what it understands."""

import json
import os
import re
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.deploy.compose_file import FILE, LOADED, OURS, ROOT, SERVICES, WORKERS, Placed, beside, secret_files
from tools.bench.sizing import read
from worker.config.load import load
from worker.tools.fake_dcs.state import MAX_CALLS_KEPT, CallRecord, redact_headers
from worker.tools.fake_dcs.tasks import MigrationTask, TaskStore

MIB = 2**20
TWO_DAYS = 2 * 86_400 * 2
"""Requests of the sender in two days."""
SAMPLE = 2_000
GRACE = 10  # seconds after WORKER_DRAIN for the last acknowledgements and the closing of connections


def seconds(text: str) -> int:
    """A duration such as 35s."""
    return int(text.removesuffix("s"))


def schema_complaints(text: str) -> list[str]:
    """What the schema of the compose specification has against a file."""
    schema = json.loads((files("check_jsonschema.builtin_schemas") / "vendor" / "compose-spec.json").read_text())
    return [error.message for error in Draft202012Validator(schema).iter_errors(yaml.safe_load(text))]


def test_file_fits_the_specification() -> None:
    """The specification's own schema accepts it."""
    assert schema_complaints(FILE.read_text()) == []


def test_schema_rejects_a_broken_compose_file() -> None:
    """A misspelt key is refused by the same check."""
    assert "readonly" in schema_complaints(FILE.read_text().replace("read_only: true", "readonly: true"))[0]


def test_ports_are_for_this_machine_alone() -> None:
    """Every published port is bound to loopback, and can be changed by a variable; no two are the same."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    found = [re.fullmatch(r"127\.0\.0\.1:\$\{([A-Z0-9_]+_PORT):-(\d+)\}:(\d+)", port) for port in ports]
    assert len(ports) >= 7
    assert all(match is not None and match[2] == match[3] for match in found)
    assert len({match[1] for match in found if match}) == len({match[2] for match in found if match}) == len(ports)


def test_images_of_others_are_pinned() -> None:
    """By a tag for people, and by digest."""
    images = [service["image"] for name, service in SERVICES.items() if name not in OURS]
    assert len(images) == 4
    assert [it for it in images if not re.fullmatch(r"[a-z/]+:v?\d+\.[\w.-]+@sha256:[0-9a-f]{64}", it)] == []


def test_who_is_waited_for_is_checked() -> None:
    """A service that others wait for to be healthy has a health check: its own, or that of our image."""
    waited = [
        (name, need["condition"])
        for service in SERVICES.values()
        for name, need in service.get("depends_on", {}).items()
    ]
    assert {condition for _, condition in waited} == {"service_healthy"}
    assert [name for name, _ in waited if "healthcheck" not in SERVICES[name] and name not in OURS] == []
    assert [name for name, _ in waited if SERVICES[name].get("healthcheck", {}).get("disable")] == []


def test_every_file_exists() -> None:
    """Mounted folders and files, secrets and configurations are in the repository, and each is used."""
    mounted = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    paths = [beside(path) for path in mounted if path.startswith(".")]
    files = [beside(entry["file"]) for entry in [*LOADED["secrets"].values(), *LOADED["configs"].values()]]
    assert [path for path in {*paths, *files} if not path.exists()] == []
    used = {path for service in SERVICES.values() for path in secret_files(service).values()}
    assert used == {beside(entry["file"]) for entry in LOADED["secrets"].values()}
    assert {path for path in mounted if not path.startswith((".", "/"))} == set(LOADED["volumes"])


def test_no_secret_stands_in_the_file() -> None:
    """What the secret files hold is in no other file, and no variable holds a secret itself."""
    text = FILE.read_text()
    for entry in LOADED["secrets"].values():
        for word in re.findall(r"[^\s:@/=]{12,}", beside(entry["file"]).read_text()):
            assert word not in text
    variables = [name for service in SERVICES.values() for name in service.get("environment", {})]
    assert [
        name for name in variables if re.search("PASS|TOKEN|SECRET|KEY", name) and not name.endswith("__FILE")
    ] == []


@pytest.mark.parametrize("name", OURS)
def test_our_containers_may_do_nothing_else(name: str) -> None:
    """Each runs the image read-only, without capabilities, within the memory that the image is tested with."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"] == ("768m" if name == "fake-dcs" else "256m")


@pytest.mark.parametrize("name", WORKERS)
def test_worker_accepts_its_settings_in_the_compose_file(name: str, tmp_path: Path) -> None:
    """Settings and secret files load without a complaint, and it gets time to drain."""
    loaded = load(Placed({}, tmp_path).environment(name), folder=tmp_path)
    assert loaded.warnings == ()
    assert loaded.settings.claims_url is not None
    assert seconds(SERVICES[name]["stop_grace_period"]) >= loaded.settings.drain + GRACE


def test_broker_and_worker_agree_on_the_user() -> None:
    """The AMQP URL holds the user and the password that the broker is started with."""
    secrets = FILE.parent / "compose" / "secrets"
    lines = (secrets / "rabbitmq_user.conf").read_text().splitlines()
    user = dict(line.split(" = ") for line in lines)
    told = f"amqp://{user['default_user']}:{user['default_pass']}@rabbitmq:5672"
    assert (secrets / "worker_amqp_url").read_text().strip() == told


def test_redis_never_evicts_a_claim() -> None:
    """Redis refuses what it has no room for, and has room for two days of the sender."""
    command = SERVICES["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    limit = int(command[command.index("--maxmemory") + 1].removesuffix("mb")) * MIB
    assert TWO_DAYS * read().outcome_bytes < 0.9 * limit


def test_fake_dcs_has_memory_for_two_days() -> None:
    """It keeps all tasks and many calls: the longest bodies of the sender, looked for and created by a worker."""
    task = dict.fromkeys(("vpc_id", "subnet_id", "security_group_id"), "0" * 36)
    headers = {f"Header-{number}": "constant" for number in range(8)}

    def used_by(make: Callable[[int], object]) -> float:
        tracemalloc.start()
        kept = [make(number) for number in range(SAMPLE)]
        used = tracemalloc.get_traced_memory()[0] / len(kept)
        tracemalloc.stop()
        return used

    store = TaskStore()

    def create(number: int) -> MigrationTask:
        body = task | {"name": f"demo-{number:020}", "description": f"[dcs-worker {number:016x}]"}
        return store.create("0" * 32, json.loads(json.dumps(body)), time.time())

    def call(number: int) -> CallRecord:
        body, request_id = json.dumps(task) + "0" * 300, f"{number:032x}"
        told = redact_headers(headers) | {"X-Request-Id": request_id}
        return CallRecord(time.time(), "create", "POST", f"/v2/{number:032}", "0" * 32, request_id, told, body=body)

    needed = 60 * MIB + used_by(create) * TWO_DAYS + used_by(call) * MAX_CALLS_KEPT
    assert needed < 0.9 * int(SERVICES["fake-dcs"]["mem_limit"].removesuffix("m")) * MIB


def test_prometheus_scrapes_every_worker() -> None:
    """The targets are the services at the ports where they listen."""
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    jobs: dict[str, Any] = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    listening = [f"{name}:{SERVICES[name]['environment']['WORKER_HTTP_PORT']}" for name in WORKERS]
    assert jobs == {"dcs-worker": listening, "rabbitmq": ["rabbitmq:15692"], "rabbitmq-queues": ["rabbitmq:15692"]}
    assert SERVICES["fake-dcs"]["networks"]["default"]["aliases"] == WORKERS


def test_grafana_finds_data_and_dashboards() -> None:
    """Its provisioning names Prometheus as the compose file does, and the folder that is mounted."""
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    scrape = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["global"]
    assert source["jsonData"]["timeInterval"] == scrape["scrape_interval"]
    (provider,) = yaml.safe_load((folder / "dashboards" / "files.yml").read_text())["providers"]
    targets = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert provider["options"]["path"] in targets
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert os.path.dirname(home) in targets


def test_sender_sends_good_requests(tmp_path: Path) -> None:
    """Two minutes' worth of its requests pass every rule, and no two of them are the same."""
    caught = tmp_path / "dcs-worker"
    caught.write_text(f'#!/bin/sh\ncat >>{tmp_path}/sent\necho "$@" >>{tmp_path}/told\nkill "$PPID"\n')
    caught.chmod(0o755)
    script = beside("./compose/sender.sh")
    subprocess.run(["sh", script], env={"PATH": f"{tmp_path}:{os.defpath}"}, timeout=20, check=False)
    sent = (tmp_path / "sent").read_text()
    assert (tmp_path / "told").read_text() == "submit --rate 2 -\n"
    assert len({json.loads(line)["task"]["name"] for line in sent.splitlines()}) == 120
    command = [sys.executable, "-m", "worker", "submit", "--check", "-"]
    done = subprocess.run(
        command, input=sent, cwd=ROOT, env={"PATH": os.defpath}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
