"""What `explain` finds of a request that is not parked, and which sources it says that it asked."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from schemas import identity
from tests.fakes.faulty_dcs import FaultyDcs
from worker.cli.explain import _explain_request
from worker.cli.request_sources import Answer, Sought, Source, other_sources
from worker.config import load
from worker.tools.servers import free_port

PROJECT = "0123456789abcdef"
REGION = "cn-north-4"
ID = "request-1"
TASK = {"name": "some task", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}


@pytest.fixture
async def fake_dcs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FaultyDcs]:
    """A fake DCS that the configuration of this process names."""
    for name in [name for name in os.environ if name.startswith("WORKER_")]:
        monkeypatch.delenv(name)
    async with FaultyDcs(auth={"mode": "token"}) as service:
        monkeypatch.setenv("WORKER_DCS_ENDPOINTS", json.dumps({REGION: service.url}))
        monkeypatch.setenv("WORKER_AUTH_TOKEN", "stand-in-token")
        monkeypatch.setenv("WORKER_SECRETS_DIR", str(tmp_path))
        yield service
        assert {call.method for call in service.calls} <= {"GET"}


async def _answers(sought_id: str = ID, project: str | None = PROJECT) -> dict[str, Answer]:
    settings = load(os.environ, credentials=False).settings
    found = [answer async for answer in other_sources(Sought(settings, sought_id, project, REGION))]
    return {source.name: (source, timeline) for source, timeline in found}


def _add_task(service: FaultyDcs, **changes: Any) -> str:
    """A task with the marker of ID; its id."""
    description = f"text {identity.marker(ID)}"
    return service.state.tasks.create(PROJECT, {**TASK, "description": description, **changes}, 0.0).task_id


@pytest.mark.parametrize(("name", "status"), [("some task", ""), (ID, "; its status is RUNNING")])
async def test_task_with_the_marker_is_found_by_any_name(fake_dcs: FaultyDcs, name: str, status: str) -> None:
    """Nothing is created."""
    task_id = _add_task(fake_dcs, name=name)
    _add_task(fake_dcs, description="text without a marker")

    source, timeline = (await _answers())[f"tasks in DCS, {REGION}"]

    said = f"task {task_id} has the marker of the request{status}"
    assert source == Source(f"tasks in DCS, {REGION}", "found", said)
    assert timeline is not None
    assert timeline.state == "a task exists"


async def test_no_task_is_no_proof_and_says_what_was_read(fake_dcs: FaultyDcs) -> None:
    """Redis is not configured, and no queue can be searched: both are said not to have been asked."""
    answers = await _answers()

    assert {name: source.state for name, (source, _) in answers.items()} == {
        "claims in Redis": "not asked",
        f"tasks in DCS, {REGION}": "not found",
        "requests and retry queues": "not asked",
    }
    assert "among the first 4,000" in answers[f"tasks in DCS, {REGION}"][0].text
    assert fake_dcs.calls


async def test_failed_lookup_is_not_absence(fake_dcs: FaultyDcs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of DCS is printed."""
    monkeypatch.setenv("WORKER_AUTH_TOKEN", "another-token")

    source, timeline = (await _answers())[f"tasks in DCS, {REGION}"]

    assert (source.state, timeline) == ("failed", None)
    assert source.text.startswith("lookup failed: ")
    assert fake_dcs.calls


async def test_task_is_found_while_broker_and_redis_are_away(
    fake_dcs: FaultyDcs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are sources that failed; what answers decides the exit status."""
    _add_task(fake_dcs)
    monkeypatch.setenv("WORKER_AMQP_URL", f"amqp://guest:guest@127.0.0.1:{free_port()}/")
    monkeypatch.setenv("WORKER_CLAIMS_URL", f"redis://127.0.0.1:{free_port()}/0")
    sought = Sought(load(os.environ, credentials=False).settings, ID, PROJECT, REGION)

    assert await _explain_request(sought, as_json=True) == 0

    (found,) = json.loads(capsys.readouterr().out)
    assert found["state"] == "a task exists"
    assert [source["state"] for source in found["sources"]] == ["failed", "failed", "found", "not asked"]
    assert "it cannot be reached: Connection refused" in found["sources"][0]["text"]


@pytest.mark.parametrize(
    ("project", "sought_id", "variables", "reason"),
    [
        (None, ID, {}, "needs --project"),
        (PROJECT, "no request id", {}, "cannot be one of a request"),
        (PROJECT, ID, {"WORKER_MARKER": "false"}, "WORKER_MARKER is false"),
        (PROJECT, ID, {"WORKER_AUTH_TOKEN": ""}, "credentials: none"),
    ],
)
async def test_what_cannot_be_asked_has_a_reason(
    fake_dcs: FaultyDcs,
    monkeypatch: pytest.MonkeyPatch,
    project: str | None,
    sought_id: str,
    variables: dict[str, str],
    reason: str,
) -> None:
    """And DCS gets no call."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    answers = await _answers(sought_id, project)

    (text,) = [source.text for name, (source, _) in answers.items() if name.startswith("tasks in DCS")]
    assert reason in text
    assert {source.state for source, _ in answers.values()} == {"not asked"}
    assert fake_dcs.calls == []
