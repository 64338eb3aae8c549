"""Credentials that sign, and those that carry a ready token."""

import httpx2
import pytest

from tests.fakes.clock import FakeClock
from worker.dcs.auth.auth_method import ReadyToken
from worker.dcs.auth.signing import Keys, KeySigner

START = 1_700_000_000.0


class Ring:
    """Keys that can be replaced."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    def __call__(self) -> Keys:
        """The present keys."""
        return self.keys


def a_request() -> httpx2.Request:
    """A create call."""
    return httpx2.Request("POST", "https://h/v2/p/x", headers={"Content-Type": "application/json"}, content=b"{}")


async def test_every_try_is_signed_afresh() -> None:
    """The same request, authorised a minute later, has that minute's date and another signature."""
    clock = FakeClock()
    signer = KeySigner(lambda: Keys("AK", "SK"), now=clock)
    request = a_request()

    await signer.authorise(request, "p")
    first = request.headers.copy()
    clock.now += 60
    await signer.authorise(request, "p")

    assert (first["x-sdk-date"], request.headers["X-Sdk-Date"]) == ("20231114T221320Z", "20231114T221420Z")
    assert first["authorization"] != request.headers["Authorization"]
    assert request.headers["X-Project-Id"] == "p"


async def test_a_replaced_key_is_used_at_once() -> None:
    """Keys are asked for at every call, and a security token that is gone is not sent any more."""
    ring = Ring(Keys("OLD", "SK", "STS"))
    signer = KeySigner(ring, now=FakeClock())
    request = a_request()
    await signer.authorise(request, "p")
    assert request.headers["X-Security-Token"] == "STS"

    ring.keys = Keys("NEW", "SK")
    await signer.authorise(request, "p")

    assert "Access=NEW," in request.headers["Authorization"]
    assert "X-Security-Token" not in request.headers


@pytest.mark.parametrize("new", [Keys("AK2", "SK"), Keys("AK", "SK2"), Keys("AK", "SK", "STS")])
async def test_another_try_is_worth_it_with_other_keys_only(new: Keys) -> None:
    """After a 401 it is tried again if, and only if, a key was replaced since the request was signed."""
    ring, clock = Ring(Keys("AK", "SK")), FakeClock()
    signer = KeySigner(ring, now=clock)
    request = a_request()
    await signer.authorise(request, "p")
    clock.now += 5

    assert not await signer.renew("p", request)
    ring.keys = new
    assert await signer.renew("p", request)


async def test_a_wrong_clock_is_said() -> None:
    """The date of the refusal shows that this clock is wrong; a right one explains nothing."""
    signer = KeySigner(lambda: Keys("AK", "SK"), now=FakeClock())

    assert signer.explain(0.0) is None
    assert signer.explain(1200.0) == (
        "the clock of this machine is 20 min ahead of the service's; signatures are valid for 15 minutes"
    )


async def test_a_ready_token_follows_its_source() -> None:
    """It is sent as it is now, and after a 401 it is tried again only if it was replaced."""
    tokens = ["old"]
    credentials = ReadyToken(lambda: tokens[-1])
    request = a_request()

    assert await credentials.authorise(request, "p") is None
    assert not await credentials.renew("p", request)
    tokens.append("new")
    assert await credentials.renew("p", request)
    await credentials.authorise(request, "p")
    assert request.headers["X-Auth-Token"] == "new"


def test_no_secret_is_shown() -> None:
    """The repr of credentials has none."""
    assert (
        repr([KeySigner(lambda: Keys("AK", "SK")), ReadyToken(lambda: "t")])
        == "[<KeySigner: stored keys>, <ReadyToken>]"
    )
