"""Checks of DCS, IAM and credentials against the fake DCS."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.faulty_dcs import FaultyDcs
from tests.unit.dcs.raw_server import AUTHORITY, EMPTY_PAGE, http, server_tls, serving
from tests.unit.dcs.test_transport_proxies import tunnelling
from worker.cli.doctor.configuration import DoctorOptions
from worker.cli.doctor.services import check_dcs
from worker.config import load
from worker.dcs.checks import SET_CLOCK
from worker.policy.call_result import Condition
from worker.policy.diagnostics import Check, CheckResult, FailureKind
from worker.policy.health import REMEDIES
from worker.tools.fake_dcs import Auth
from worker.tools.fake_dcs import platform as platform_services
from worker.tools.servers import free_port

PROJECT = "0123456789abcdef0123456789abcdef"
REGION = "cn-north-4"
REFUSED = "not-the-right-secret"
TOKEN = {"WORKER_AUTH_TOKEN": "stand-in-token"}
KEYS = {
    "WORKER_ACCESS_KEY": "STANDINACCESSKEY0001",
    "WORKER_SECRET_KEY": "stand-in-secret-key-of-forty-characters0",
}
IAM = {
    "WORKER_IAM_USER": "stand-in-user",
    "WORKER_IAM_DOMAIN": "stand-in-domain",
    "WORKER_IAM_PASSWORD": "stand-in-password",
}
WAYS = [("token", TOKEN), ("aksk", KEYS), ("iam", IAM)]


@asynccontextmanager
async def _fake_dcs(**settings: Any) -> AsyncIterator[FaultyDcs]:
    async with FaultyDcs(**settings) as fake_dcs:
        yield fake_dcs
        assert fake_dcs.tasks == []
        assert {call.method for call in fake_dcs.calls if call.operation not in ("token", "identity")} <= {"GET"}


async def _checked(
    fake_dcs: FaultyDcs, folder: Path, environment: dict[str, str], *, project: str | None = PROJECT, **more: str
) -> dict[str, Check]:
    """The findings by name; the last of each name."""
    variables = {
        "WORKER_DCS_ENDPOINTS": json.dumps({REGION: fake_dcs.url}),
        "WORKER_IAM_ENDPOINT": fake_dcs.url,
        "WORKER_SECRETS_DIR": str(folder),
    }
    loaded = load({**variables, **environment, **more}, folder=folder)
    checks: list[Check] = []
    async with asyncio.timeout(20):
        await check_dcs(loaded, DoctorOptions(project, REGION, True, None), checks.append)
    assert all(check.remedy for check in checks if check.result in (CheckResult.FAILED, CheckResult.WARNING))
    return {check.name: check for check in checks}


@pytest.mark.parametrize(("mode", "environment"), WAYS)
async def test_valid_credentials_are_ok_after_one_list_call(
    mode: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """One list and one detail call, for IAM one token call too; no task is created."""
    async with _fake_dcs(auth={"mode": mode}) as fake_dcs:
        found = await _checked(fake_dcs, tmp_path, environment)

        assert {check.result for check in found.values()} == {CheckResult.OK}
        assert {"DCS", "clock", "credentials", "permission to list", "permission to show"} <= found.keys()
        operations = [call.operation for call in fake_dcs.calls]
        assert operations == [*(["token"] if mode == "iam" else []), "list", "show"]


@pytest.mark.parametrize(
    ("mode", "environment", "variable"),
    [
        ("token", {"WORKER_AUTH_TOKEN": REFUSED}, "WORKER_AUTH_TOKEN"),
        ("aksk", KEYS | {"WORKER_SECRET_KEY": REFUSED}, "WORKER_SECRET_KEY"),
        ("iam", IAM | {"WORKER_IAM_PASSWORD": REFUSED}, "WORKER_IAM_PASSWORD"),
    ],
)
async def test_rejected_credentials_are_tried_once(
    mode: str, environment: dict[str, str], variable: str, tmp_path: Path
) -> None:
    """The remedy names the variable; the permissions are not checked."""
    async with _fake_dcs(auth={"mode": mode, "lock_after": 2}) as fake_dcs:
        found = await _checked(fake_dcs, tmp_path, environment)

        assert found["DCS"].result is CheckResult.OK
        assert (found["credentials"].result, found["credentials"].failure_kind) == (
            CheckResult.FAILED,
            FailureKind.WRONG,
        )
        assert variable in (found["credentials"].remedy or "")
        assert REFUSED not in f"{found}"
        assert found["permission to list"].result is CheckResult.NOT_CHECKED
        assert sum(call.status == 401 for call in fake_dcs.calls) == 1


async def test_without_project_no_call_has_credentials(tmp_path: Path) -> None:
    """The finding says what was not checked, and how to check it."""
    async with _fake_dcs(auth={"mode": "token"}) as fake_dcs:
        found = await _checked(fake_dcs, tmp_path, TOKEN, project=None)

        assert (found["DCS"].result, found["clock"].result) == (CheckResult.OK, CheckResult.OK)
        assert found["credentials"].result is CheckResult.NOT_CHECKED
        assert "--project" in (found["credentials"].remedy or "")
        assert [call.operation for call in fake_dcs.calls] == ["other"]


@pytest.mark.parametrize(
    ("forbidden", "settings", "check", "result"),
    [
        ("list", {}, "permission to list", CheckResult.FAILED),
        ("list", {"WORKER_RECONCILE": "off"}, "permission to list", CheckResult.WARNING),
        ("show", {}, "permission to show", CheckResult.WARNING),
        ("show", {"WORKER_MARKER": "false"}, "permission to show", CheckResult.FAILED),
    ],
)
async def test_missing_permission_of_a_lookup_is_named(
    forbidden: str, settings: dict[str, str], check: str, result: CheckResult, tmp_path: Path
) -> None:
    """It is a failure if tasks cannot be recognised without it, else a warning; the remedy names the action."""
    async with _fake_dcs(auth={"mode": "token"}, forbidden=[forbidden]) as fake_dcs:
        found = await _checked(fake_dcs, tmp_path, TOKEN, **settings)

        assert found["credentials"].result is CheckResult.OK
        assert found[check].result is result
        assert "dcs:migrationTask:" in (found[check].remedy or "")


async def test_wrong_clock_is_the_failure_of_rejected_signatures(tmp_path: Path) -> None:
    """The remedy of both findings sets the clock."""
    async with _fake_dcs(auth={"mode": "aksk"}, clock_offset=1200) as fake_dcs:
        found = await _checked(fake_dcs, tmp_path, KEYS)

        assert (found["clock"].result, found["credentials"].result) == (CheckResult.FAILED, CheckResult.FAILED)
        assert "20 min behind" in found["clock"].found
        assert found["clock"].remedy == found["credentials"].remedy == SET_CLOCK


@pytest.mark.parametrize(
    ("fault", "condition"), [("stale signature", Condition.CLOCK_SKEW), ("locked key", Condition.KEY_LOCKED)]
)
async def test_refusal_that_says_why_has_the_remedy_of_health(fault: str, condition: Condition, tmp_path: Path) -> None:
    """Another pair of keys helps neither against a wrong clock nor against a lock."""
    async with _fake_dcs(auth={"mode": "aksk"}, operation_scripts={"list": [fault]}) as fake_dcs:
        found = await _checked(fake_dcs, tmp_path, KEYS)

        assert found["credentials"].result is CheckResult.FAILED
        assert (found["credentials"].remedy or "")[1:] == REMEDIES[condition][1:].rstrip(".")


async def test_wrong_clock_is_a_warning_without_signatures(tmp_path: Path) -> None:
    """A token is valid with any clock; only times in events are wrong."""
    async with _fake_dcs(auth={"mode": "token"}, clock_offset=-1200) as fake_dcs:
        found = await _checked(fake_dcs, tmp_path, TOKEN)

        assert (found["clock"].result, found["credentials"].result) == (CheckResult.WARNING, CheckResult.OK)
        assert "20 min ahead" in found["clock"].found


@pytest.mark.parametrize(
    ("script", "check", "failure_kind"),
    [
        ("error 503 APIGW.0601", "DCS", FailureKind.UNREACHABLE),
        ("drop", "DCS", FailureKind.UNREACHABLE),
        ("hang", "DCS", FailureKind.UNREACHABLE),
        ("html", "permission to list", FailureKind.WRONG),
        ("error 404 APIGW.0101", "endpoint", FailureKind.WRONG),
    ],
)
async def test_failed_list_call_has_the_finding_of_its_cause(
    script: str, check: str, failure_kind: FailureKind, tmp_path: Path
) -> None:
    """Outages, other services at the address and wrong projects have different findings."""
    async with _fake_dcs(auth={"mode": "token"}, operation_scripts={"list": [script]}) as fake_dcs:
        found = await _checked(fake_dcs, tmp_path, TOKEN, WORKER_DCS_TIMEOUT="0.5")

        assert (found[check].result, found[check].failure_kind) == (CheckResult.FAILED, failure_kind)
        assert {name for name, other in found.items() if other.result is CheckResult.FAILED} == {check}
        assert {"credentials", "permission to list", "permission to show"} <= found.keys()


async def test_throttled_list_call_is_a_warning(tmp_path: Path) -> None:
    """It says nothing about the credentials."""
    async with _fake_dcs(auth={"mode": "token"}, operation_scripts={"list": ["throttle"]}) as fake_dcs:
        found = await _checked(fake_dcs, tmp_path, TOKEN)

        assert found["credentials"].result is CheckResult.WARNING


async def test_unreachable_iam_is_a_failure_and_dcs_is_checked(tmp_path: Path) -> None:
    """DCS is checked without credentials."""
    async with _fake_dcs(auth={"mode": "iam"}) as fake_dcs:
        found = await _checked(fake_dcs, tmp_path, IAM, WORKER_IAM_ENDPOINT=f"http://127.0.0.1:{free_port()}")

        assert (found["IAM"].result, found["DCS"].result) == (CheckResult.FAILED, CheckResult.OK)
        assert found["credentials"].failure_kind is FailureKind.UNREACHABLE


async def test_every_region_is_checked(tmp_path: Path) -> None:
    """The project belongs to one region; the other regions are only called without credentials."""
    async with _fake_dcs(auth={"mode": "token"}) as fake_dcs:
        away = f"http://127.0.0.1:{free_port()}"
        endpoints = json.dumps({REGION: fake_dcs.url, "cn-south-1": fake_dcs.url, "away": away})
        loaded = load(
            {**TOKEN, "WORKER_DCS_ENDPOINTS": endpoints, "WORKER_SECRETS_DIR": str(tmp_path)}, folder=tmp_path
        )
        checks: list[Check] = []
        await check_dcs(loaded, DoctorOptions(PROJECT, REGION, True, None), checks.append)

        results = {check.subject: check.result for check in checks if check.name == "DCS"}
        assert results == {REGION: CheckResult.OK, "cn-south-1": CheckResult.OK, "away": CheckResult.FAILED}
        assert [check.subject for check in checks if check.name == "credentials"] == [REGION]


async def test_service_is_asked_through_the_proxy(tmp_path: Path) -> None:
    """Its name need not be known on this machine: what bars the direct way does not matter."""
    page = http(200, EMPTY_PAGE, b"Date: " + formatdate(usegmt=True).encode())
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with tunnelling() as proxy, serving(page, tls=server_tls("dcs.invalid")) as service:
        environment = TOKEN | {
            "WORKER_DCS_ENDPOINTS": json.dumps({REGION: f"https://dcs.invalid:{service.port}"}),
            "WORKER_DCS_CA_FILE": str(tmp_path / "ca.pem"),
            "HTTPS_PROXY": proxy.url,
        }
        async with _fake_dcs() as fake_dcs:
            found = await _checked(fake_dcs, tmp_path, {}, **environment)
    assert {found[name].result for name in ("DCS", "credentials", "permission to list")} == {CheckResult.OK}
    assert proxy.heads[0].startswith(b"CONNECT dcs.invalid:")


async def test_proxy_that_is_away_is_named(tmp_path: Path) -> None:
    """With the variable that names it, and without its password."""
    environment = TOKEN | {
        "WORKER_DCS_ENDPOINTS": json.dumps({REGION: "https://dcs.invalid"}),
        "HTTPS_PROXY": "http://user:secret@127.0.0.1:1",
    }
    async with _fake_dcs() as fake_dcs:
        found = await _checked(fake_dcs, tmp_path, {}, **environment)
    assert (found["DCS"].result, found["DCS"].failure_kind) == (CheckResult.FAILED, FailureKind.UNREACHABLE)
    assert "127.0.0.1:1" in found["DCS"].found
    assert "HTTPS_PROXY" in (found["DCS"].remedy or "")
    assert "secret" not in f"{found}"


@pytest.mark.parametrize(
    ("way", "name", "variable"),
    [
        ("pod identity", "pod identity agent", "HC_CONTAINER_CREDENTIALS_FULL_URI"),
        ("OIDC", "STS", "HUAWEICLOUD_SDK_STS_ENDPOINT"),
        ("OIDC of the old IAM", "IAM", "WORKER_IAM_ENDPOINT"),
    ],
)
async def test_service_that_gives_keys_is_checked(way: str, name: str, variable: str, tmp_path: Path) -> None:
    """It is reachable and its keys are accepted; out of reach, the variable with its address is named."""
    token = tmp_path / "token"
    token.write_text(Auth().workload_token.get_secret_value())
    async with _fake_dcs(auth={"mode": "platform"}) as fake_dcs:
        variables = {
            key: text.format(url=fake_dcs.url, token_file=token) for key, text in platform_services.WAYS[way].items()
        }
        environment = {"WORKER_CREDENTIALS": "platform", "WORKER_SECRETS_DIR": str(tmp_path), **variables}
        found = await _checked(fake_dcs, tmp_path, environment)
        away = variables[variable].replace(fake_dcs.url, f"http://127.0.0.1:{free_port()}")
        lost = await _checked(fake_dcs, tmp_path, environment | {variable: away})

    assert (found[name].result, found["credentials"].result) == (CheckResult.OK, CheckResult.OK)
    assert (lost[name].result, variable in (lost[name].remedy or "")) == (CheckResult.FAILED, True)


async def test_profile_without_keys_is_named(tmp_path: Path) -> None:
    """No call has credentials of another way."""
    profile = tmp_path / "profile"
    profile.write_text("[default]\nak = A\nsk = S\n")
    async with _fake_dcs(auth={"mode": "platform"}) as fake_dcs:
        found = await _checked(fake_dcs, tmp_path, {"HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(profile)})
        assert fake_dcs.calls == []
    assert (found["DCS"].failure_kind, str(profile) in found["DCS"].found) == (FailureKind.CONFIGURATION, True)
    assert found["DCS"].remedy == "correct HUAWEICLOUD_SDK_CREDENTIALS_FILE"
