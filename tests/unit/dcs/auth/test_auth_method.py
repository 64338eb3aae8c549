"""What the service repeats of the proof that a call carried ends at the client."""

import httpx2
import pytest

from tests.unit.dcs.fakes import START, a_client, reply
from tests.unit.dcs.test_client import an_order, go
from worker.dcs.auth.auth_method import AuthMethod, ReadyToken
from worker.dcs.auth.signing import Keys, KeySigner
from worker.dcs.client import DcsClient
from worker.policy.call_result import CallError, TaskNotFound

TOKEN = "MII/" + "abc/DEF+" * 300
KEYS = Keys("ACCESSKEY0123456789A", "secret-key-of-forty-characters-000000000", "security/token==")


class Echo:
    """Refuses every call, and says what it was shown."""

    def __init__(self, slash: str) -> None:
        self._slash = slash

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Answer with 401 and every header of the request."""
        shown = str(dict(request.headers)).replace("/", self._slash).replace('"', "")
        body = f'{{"error_code":"APIGW.0301","error_msg":"no: {shown}","error_ext_msg":"{shown}"}}'
        return reply(401, content=body.encode())


@pytest.mark.parametrize("slash", ["/", "\\/"])
@pytest.mark.parametrize("credentials", [ReadyToken(lambda: TOKEN), KeySigner(lambda: KEYS, now=lambda: START)])
async def test_no_proof_comes_back_in_an_error(credentials: AuthMethod, slash: str) -> None:
    """Tokens, longer ones than an error text may be too, access key and signature are masked in create and find."""
    client = DcsClient(a_client(Echo(slash)), credentials, {"cn-north-4": "http://127.0.0.1"})
    for ending in (await client.create(an_order(), go), await client.find(an_order(), START)):
        assert isinstance(ending, CallError)
        text = repr(ending)
        assert "***" in text
        for secret in ("abc/DEF+", KEYS.access_key, KEYS.security_token or "", "Signature=0", "Signature=f"):
            assert secret not in text


async def test_a_success_is_read_as_it_came() -> None:
    """A task whose description holds what is the token too is found: only refusals are cleaned."""

    class Listed:
        async def __call__(self, request: httpx2.Request) -> httpx2.Response:
            assert request.headers["X-Auth-Token"] == "name"
            return reply(200, json={"count": 0, "migration_tasks": []})

    client = DcsClient(a_client(Listed()), ReadyToken(lambda: "name"), {"cn-north-4": "http://127.0.0.1"})
    assert await client.find(an_order("name"), START) == TaskNotFound()
