"""The profile file of the official SDK."""

import os
from pathlib import Path

import httpx2
import pytest

from tests.fakes.clock import FakeClock
from tests.unit.dcs.fakes import FakeMetadata, a_client, timing_of
from worker.dcs.auth.platform_keys import Profile, platform_signer
from worker.dcs.auth.signing import Keys
from worker.dcs.auth.workload_identity import Federation


def written(folder: Path, text: str) -> Path:
    """A profile file with this text, put there in one step."""
    new = folder / "new"
    new.write_text(text, "utf-8")
    os.replace(new, folder / "credentials")
    return folder / "credentials"


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
def test_a_file_without_keys_has_none(tmp_path: Path, text: str) -> None:
    """It is no error."""
    profile = Profile(written(tmp_path, text))

    assert profile.keys() is None


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


async def test_without_keys_in_the_profile_the_metadata_service_is_asked(tmp_path: Path) -> None:
    """A file without keys is passed over, as in the official SDK."""
    service = FakeMetadata(FakeClock())
    timing = timing_of(service.clock)
    profile = Profile(tmp_path / "absent")
    credentials = platform_signer(profile, lambda timeout: a_client(service, timeout), "http://metadata", timing)
    request = httpx2.Request("GET", "https://dcs/")

    assert await credentials.authorise(request, "p") is None
    assert "Access=ACCESS1," in request.headers["Authorization"]
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
