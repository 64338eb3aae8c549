"""Law no-secrets at the client of DCS: whatever an answer repeats, no result of a call holds what authenticated one."""

import json
import re
from collections.abc import Callable, Mapping

import httpx2
import pytest

from tests.unit.dcs.fakes import START, a_client, reply
from tests.unit.dcs.raw_server import client_tls, serving
from tests.unit.dcs.test_client import an_order, go
from worker.dcs.auth.auth_method import AuthMethod, ReadyToken
from worker.dcs.auth.signing import Keys, KeySigner
from worker.dcs.checks import Service, check_service
from worker.dcs.client import DcsClient
from worker.dcs.http_client import HttpClient
from worker.dcs.task_calls import TaskCalls
from worker.dcs.transport import ServiceTransport
from worker.policy.call_result import CallError, TaskCreated, TaskFound
from worker.policy.diagnostics import Check
from worker.policy.freeze_detector import FreezeDetector

ENDPOINTS = {"cn-north-4": "http://127.0.0.1"}
TOKEN = "MII/" + "abc/DEF+" * 300
KEYS = Keys("ACCESSKEY0123456789A", "secret-key-of-forty-characters-000000000", "security/token==")
PIECES = ("MII/abc", "abc/DEF+", "MII\\/", KEYS.access_key, KEYS.secret_key, "security/token")
"""Beginnings of the secrets, and what only they hold."""


def is_clean(result: object) -> bool:
    """Whether no piece of a secret is in a result, and something was replaced."""
    text = repr(result)
    return "***" in text and not any(piece in text for piece in PIECES)


def shown(request: httpx2.Request) -> str:
    """What authenticates a request."""
    names = ("X-Auth-Token", "X-Security-Token", "Authorization")
    return " ".join(request.headers[name] for name in names if name in request.headers)


def client_that_answers(answer: Callable[[str], httpx2.Response], method: AuthMethod) -> DcsClient:
    """A client of a service whose answer is made of what it was shown."""
    return DcsClient(a_client(lambda request: answer(shown(request))), method, ENDPOINTS)


def refusal(code: str = "DCS.4013", message: str = "no", **more: str) -> dict[str, str]:
    """The body of a refusal."""
    return {"error_code": code, "error_msg": message, **more}


REPEATS: Mapping[str, Callable[[str], httpx2.Response]] = {
    "message": lambda text: reply(400, json=refusal(message=f"not {text}")),
    "escaped": lambda text: reply(
        400, content=json.dumps(refusal(message="#")).replace("#", "".join(f"\\u{ord(c):04x}" for c in text)).encode()
    ),
    "quoted by a gateway": lambda text: reply(502, json=refusal(message=json.dumps(json.dumps({"said": text})))),
    "code": lambda text: reply(400, json=refusal(code=text)),
    "extension": lambda text: reply(400, json=refusal(error_ext_msg=text)),
    "id in the body": lambda text: reply(400, json=refusal(request_id=text)),
    "id in the headers": lambda text: reply(400, json=refusal(), headers={"X-Request-Id": text}),
    "server": lambda text: reply(403, text="<html>", headers={"Server": text}),
    "via": lambda text: reply(403, text="<html>", headers={"Via": f"1.1 {text}"}),
    "no UTF-8": lambda text: reply(400, content=b'{"error_code": "", "error_msg": "\xff ' + text.encode() + b'"}'),
    "behind much text": lambda text: reply(400, json=refusal(message="x" * 1010 + text)),
}


@pytest.mark.parametrize("answer", REPEATS.values(), ids=REPEATS)
@pytest.mark.parametrize("method", [ReadyToken(lambda: TOKEN), KeySigner(lambda: KEYS, now=lambda: START)], ids=repr)
async def test_refusal_repeats_no_secret(method: AuthMethod, answer: Callable[[str], httpx2.Response]) -> None:
    """In a create and in a look-up, in every field that an event or a log line takes."""
    client = client_that_answers(answer, method)

    for result in (await client.create(an_order(), go), await client.find(an_order(), START)):
        assert isinstance(result, CallError)
        assert is_clean(result)
        assert re.search(r"Signature=(?!\*)", repr(result)) is None


async def test_success_repeats_no_secret() -> None:
    """Ids and status words go into events as well; a task is still recognised by what came."""
    method, order = ReadyToken(lambda: TOKEN), an_order()
    body = {"instance_id": TOKEN, "job_id": f"job {TOKEN}"}
    created = await client_that_answers(
        lambda text: reply(200, json=body, headers={"X-Request-Id": text}), method
    ).create(order, go)
    row = {"task_id": "t1", "task_name": order.task.name, "description": order.marker, "status": TOKEN}
    found = await client_that_answers(lambda _: reply(200, json={"migration_tasks": [row]}), method).find(order, START)

    assert isinstance(created, TaskCreated)
    assert created == TaskCreated("***", "job ***", "***")
    assert found == TaskFound("t1", task_status="***")


async def test_state_of_task_repeats_no_secret() -> None:
    """Follow-up events take status, address and reason."""
    row = {"task_id": "t1", "status": TOKEN, "error_message": f"not {TOKEN}", "ecs_tenant_private_ip": TOKEN}
    calls = TaskCalls(
        client_that_answers(lambda _: reply(200, json={"migration_tasks": [row]}), ReadyToken(lambda: TOKEN))
    )

    listed = await calls.statuses("p", "cn-north-4", lambda: None)

    assert not isinstance(listed, CallError)
    assert is_clean(listed["t1"])


async def test_rotated_token_is_no_longer_sent_but_still_redacted() -> None:
    """A proxy may repeat what it was shown long ago."""
    tokens = [f"{number}/{TOKEN}" for number in range(5)]
    current, seen = iter(tokens), list[str]()

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers["X-Auth-Token"])
        return reply(400, json=refusal(message=" and ".join(seen)))

    client = DcsClient(a_client(answer), ReadyToken(lambda: next(current)), ENDPOINTS)
    results = [await client.find(an_order(), START) for _ in range(2)]

    assert seen == tokens[:4]
    assert all(map(is_clean, results))


async def test_bytes_that_are_no_answer_repeat_no_secret() -> None:
    """The parser quotes the line that it does not understand."""
    transport = ServiceTransport(client_tls(), 5)
    async with serving(b"HTTP/1.1 400 Bad\r\n" + TOKEN.encode() + b"\r\n\r\n") as service:
        http = HttpClient(transport, deadline=5, freeze_detector=FreezeDetector(lambda: 0.0))
        client = DcsClient(http, ReadyToken(lambda: TOKEN), {"cn-north-4": service.url})
        result = await client.create(an_order(), go)
    await transport.aclose()

    assert isinstance(result, CallError)
    assert not any(piece in repr(result) for piece in PIECES)


@pytest.mark.parametrize("method", [ReadyToken(lambda: TOKEN), KeySigner(lambda: KEYS, now=lambda: START)], ids=repr)
async def test_doctor_repeats_no_secret(method: AuthMethod) -> None:
    """Its findings quote what DCS answers; in every status, cut to a line."""
    for status in (400, 401, 403, 404, 429, 500):

        def answer(request: httpx2.Request, status: int = status) -> httpx2.Response:
            return reply(status, json=refusal(message=f"{'x' * 150} {shown(request)}"))

        http, checks = a_client(answer), list[Check]()
        service = Service("cn-north-4", "http://127.0.0.1", "p", "keys", error_of=http.error_of)
        await check_service(service, http, method, lambda: START, checks.append)

        assert checks
        assert not any(piece in repr(checks) for piece in PIECES)
        assert re.search(r"Signature=(?!\*)", repr(checks)) is None
