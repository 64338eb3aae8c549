"""The four authentication methods, made from plain values."""

from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from tests.fakes.clock import FakeClock
from tests.unit.dcs.fakes import FakeIam, FakeMetadata, a_client, timing_of
from worker.config.secrets import Secrets
from worker.dcs.auth.auth_method import AuthMethod
from worker.dcs.auth.iam_login import Account
from worker.dcs.auth.methods import AuthMethodName, auth_method
from worker.dcs.auth.platform_keys import Profile
from worker.dcs.http_client import HttpClient


class Router:
    """IAM and metadata service behind their addresses."""

    def __init__(self, clock: FakeClock) -> None:
        self.iam = FakeIam(clock)
        self.metadata = FakeMetadata(clock)

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Hand over."""
        return await (self.iam if request.url.host == "iam" else self.metadata)(request)


def secrets(**values: str) -> Secrets:
    """Secrets by their names."""
    return {name: SecretStr(value) for name, value in values.items()}


class Drawer:
    """Secrets that can be replaced."""

    def __init__(self, secrets: Secrets) -> None:
        self.secrets = secrets

    def __call__(self) -> Secrets:
        """The present ones."""
        return self.secrets


def made(
    name: AuthMethodName, drawer: Drawer, account: Account | None = None, profile: Profile | None = None
) -> AuthMethod:
    """An authentication method over fakes."""
    clock = FakeClock()
    router = Router(clock)

    def http_client(deadline: float) -> HttpClient:
        return a_client(router, deadline)

    return auth_method(name, drawer, http_client, account=account, platform=profile, timing=timing_of(clock))


async def headers_of(credentials: AuthMethod) -> Mapping[str, str]:
    """What a request carries now."""
    request = httpx2.Request("GET", "https://dcs/")
    assert await credentials.authorise(request, "p") is None
    return request.headers


async def test_a_token_follows_the_secrets() -> None:
    """The present token."""
    drawer = Drawer(secrets(auth_token="one"))
    credentials = made("token", drawer)
    assert (await headers_of(credentials))["X-Auth-Token"] == "one"

    drawer.secrets = secrets(auth_token="two")
    assert (await headers_of(credentials))["X-Auth-Token"] == "two"
    await credentials.aclose()


async def test_keys_follow_the_secrets() -> None:
    """The present keys, with or without a security token."""
    drawer = Drawer(secrets(access_key="A", secret_key="S"))
    credentials = made("keys", drawer)
    headers = await headers_of(credentials)
    assert ("Access=A," in headers["Authorization"], headers.get("X-Security-Token")) == (True, None)

    drawer.secrets = secrets(auth_token="t", access_key="B", secret_key="S", security_token="T")
    headers = await headers_of(credentials)
    assert ("Access=B," in headers["Authorization"], headers.get("X-Security-Token")) == (True, "T")
    assert credentials.explain(7200.0) is not None
    await credentials.aclose()


async def test_a_password_brings_tokens() -> None:
    """A token of IAM for the present password."""
    drawer = Drawer(secrets(iam_password="right"))
    credentials = made("iam", drawer, Account("https://iam", "user", "domain"))

    assert (await headers_of(credentials))["X-Auth-Token"] == "token-p-1"
    await credentials.aclose()


@pytest.mark.parametrize(("profile", "key"), [(True, "PROFILE"), (False, "ACCESS1")])
async def test_the_platform_brings_keys(tmp_path: Path, profile: bool, key: str) -> None:
    """The profile file if there is one, else the metadata service."""
    path = tmp_path / "credentials"
    path.write_text("[basic]\nak = PROFILE\nsk = S\n")
    credentials = made("platform", Drawer(secrets()), profile=Profile(path) if profile else None)

    assert f"Access={key}," in (await headers_of(credentials))["Authorization"]
    await credentials.aclose()
