"""The profile file of the official SDK."""

import os
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from tests.fakes.clock import FakeClock
from tests.unit.dcs.fakes import FakeMetadata, a_client, timing_of
from worker.dcs.auth.platform_keys import Profile, platform_signer
from worker.dcs.auth.signing import Keys
from worker.dcs.auth.workload_identity import Federation
from worker.policy.call_result import CallStatus, ErrorKind


def written(folder: Path, text: str) -> Path:
    """A profile file with this text, put there in one step."""
    new = folder / "new"
    new.write_text(text, "utf-8")
    os.replace(new, folder / "credentials")
    return folder / "credentials"


class Replaced(Profile):
    """A profile file that is replaced right after its keys were read."""

    def __init__(self, path: Path, replace: Callable[[], object]) -> None:
        super().__init__(path)
        self._replace = replace

    def keys(self) -> Keys | None:
        """The keys from before."""
        found = super().keys()
        self._replace()
        return found


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("[basic]\nak = A\nsk = S\n", Keys("A", "S")),
        ("\ufeff[basic]\nAK=A\nSK=S%d\nsecurity_token = T==\nproject_id = p\n", Keys("A", "S%d", "T==")),
        ("[global]\nak = G\nsk = S\ndomain_id = d\n", Keys("G", "S")),
        ("[global]\nak = G\nsk = S\n[basic]\nak = B\nsk = S\n", Keys("B", "S")),
        ("[basic]\nidp_id = i\n[global]\nak = G\nsk = S\n", Keys("G", "S")),
        ("[basic]\nidp_id = i\nid_token_file = f\nak = A\nsk = S\n[global]\nak = G\nsk = S\n", None),
    ],
)
def test_keys_are_read(tmp_path: Path, text: str, keys: Keys | None) -> None:
    """Section `basic` goes before `global`, an identity before keys, names in any case, a percent sign is itself."""
    profile = Profile(written(tmp_path, text))

    assert profile.keys() == keys


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ak = SHOWN\n",
        "[basic]\nak = SHOWN\n",
        "[basic]\nak = SHOWN\nsk = a b\n",
        "[other]\nak = A\nsk = SHOWN\n",
        "[basic\n",
    ],
)
def test_a_file_without_keys_is_an_error(tmp_path: Path, text: str) -> None:
    """It names the file and the rule, and shows nothing of what is in it."""
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match="in its section basic or global") as caught:
        Profile(path)
    rule = "ak and sk, or idp_id and id_token_file, in its section basic or global"
    assert str(caught.value) == f"{path} must have usable {rule}"


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """Replaced keys are used at once; a file that is gone or broken leaves the former ones in use."""
    path = written(tmp_path, "[basic]\nak = A\nsk = S\n")
    profile = Profile(path)
    assert profile.keys() == Keys("A", "S")

    written(tmp_path, "[basic]\nak = A2\nsk = S2\n")
    assert profile.keys() == Keys("A2", "S2")
    written(tmp_path, "[basic]\nak =")
    assert profile.keys() == Keys("A2", "S2")
    path.unlink()
    assert profile.keys() == Keys("A2", "S2")
    written(tmp_path, "[basic]\nak = A3\nsk = S3\n")
    assert profile.keys() == Keys("A3", "S3")


def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    """As long as nothing about the file changes, its former content is used."""
    path = written(tmp_path, "[basic]\nak = A\nsk = S\n")
    profile = Profile(path)
    first = profile.keys()
    before = os.stat(path)

    path.write_text("[basic]\nak = B\nsk = S\n", "utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert profile.keys() is first


def test_nothing_is_written(tmp_path: Path) -> None:
    """Reading leaves the folder as it was."""
    path = written(tmp_path, "[basic]\nak = A\nsk = S\n")
    Profile(path).keys()

    assert [entry.name for entry in tmp_path.iterdir()] == ["credentials"]


async def test_a_profile_goes_before_the_metadata_service(tmp_path: Path) -> None:
    """Its keys are used as long as it has any; after a 401 only replaced ones are worth another try."""
    service = FakeMetadata(FakeClock())
    timing = timing_of(service.clock)
    path = written(tmp_path, "[basic]\nak = A\nsk = S\n")
    credentials = platform_signer(Profile(path), lambda timeout: a_client(service, timeout), "http://metadata", timing)
    request = httpx2.Request("GET", "https://dcs/")

    assert await credentials.authorise(request, "p") is None
    assert "Access=A," in request.headers["Authorization"]
    assert not await credentials.renew("p", request)
    written(tmp_path, "[basic]\nak = A\nsk = S2\n")
    assert await credentials.renew("p", request)
    assert service.asked == []
    await credentials.aclose()


async def test_keys_that_come_between_two_readings_are_used_by_the_next_call(tmp_path: Path) -> None:
    """A profile that loses its identity while a call begins: the metadata service is not asked instead."""
    service = FakeMetadata(FakeClock())
    path = written(tmp_path, "[basic]\nidp_id = i\nid_token_file = /f\n")
    profile = Replaced(path, lambda: written(tmp_path, "[basic]\nak = A\nsk = S\n"))
    timing = timing_of(service.clock)
    credentials = platform_signer(profile, lambda timeout: a_client(service, timeout), "http://metadata", timing)
    request = httpx2.Request("GET", "https://dcs/")

    error = await credentials.authorise(request, "p")
    assert error is not None
    assert (error.status, error.kind) == (CallStatus.NO_CREDENTIALS, ErrorKind.RETRY)
    assert await credentials.authorise(request, "p") is None
    assert "Access=A," in request.headers["Authorization"]
    assert service.asked == []
    await credentials.aclose()


def test_identity_is_read(tmp_path: Path) -> None:
    """An identity provider and a token file; the address of IAM is the file's own, else the configured one."""
    text = "[basic]\nidp_id = i\nid_token_file = /f\n"
    configured = Profile(written(tmp_path, text), "https://iam")
    assert configured.identity() == Federation("https://iam", "i", Path("/f"))
    own = Profile(written(tmp_path, f"{text}iam_endpoint = https://own/\n"), "https://iam")
    assert own.identity() == Federation("https://own", "i", Path("/f"))
    written(tmp_path, "[basic]\nak = A\nsk = S\n")
    assert own.identity() is None
