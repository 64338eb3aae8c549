"""The requests that all competitors work on. The standard library alone, since peers import it as well."""

import os
import re
import time
from collections.abc import Iterator
from typing import Any

AMQP_URL = os.environ.get("BENCH_AMQP_URL", "")
SERVICE_URL = os.environ.get("BENCH_SERVICE_URL", "")
REQUESTS = "dcs.migration.requests"
EVENTS = "bench.events"
IN_FLIGHT = 64

PROJECT = "0123456789abcdef0123456789abcdef"
HEADERS = {"X-Auth-Token": "t" * 64}

_SENT_AT = re.compile(rb'"request_id": ?"\d+-(\d+)"')


def request(number: int) -> dict[str, Any]:
    """A good request whose identity says when it was made (monotonic clock of this machine, ns)."""
    task = {
        "name": f"task-{number}",
        "description": "Creating an online data migration task",
        "vpc_id": "5e37b3be-950a-48e1-b498-65b63d336481",
        "subnet_id": "40f15ed6-7f85-49d5-ba0e-65b940d4812c",
        "security_group_id": "9df96622-24b7-4813-84b8-ab74552a21d7",
    }
    request_id = f"{number}-{time.monotonic_ns()}"
    return {"request_id": request_id, "project_id": PROJECT, "region": "cn-north-4", "task": task}


def paced(count: int, rate: float) -> Iterator[dict[str, Any]]:
    """`count` requests, each when it is due: `rate` in a second; 0: at once."""
    started = time.monotonic()
    for number in range(count):
        if rate:
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
        yield request(number)


def age(event: bytes) -> float:
    """Seconds since the request was made that this event answers."""
    found = _SENT_AT.search(event)
    assert found is not None, event
    return (time.monotonic_ns() - int(found[1])) / 1e9


def service_url(project_id: str) -> str:
    """Where a task of this project is created."""
    return f"{SERVICE_URL}/v2/{project_id}/migration/instance"


def event(of: dict[str, Any], created: dict[str, Any]) -> dict[str, Any]:
    """What is told about a request once its task was created."""
    identity = {name: of[name] for name in ("request_id", "project_id", "region")}
    return identity | {"name": of["task"]["name"], "instance_id": created["instance_id"], "resolution": "created"}
