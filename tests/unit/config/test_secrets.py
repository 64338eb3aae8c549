"""Secrets: never shown, and followed when their files change."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from worker.config import Configuration, ConfigurationError, RotatingSecrets, Settings, describe, load
from worker.config.sources import FoundValue

VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60)
ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
IN_URL = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=40)
NOWHERE = Path("/nonexistent")
KEYS = {"WORKER_ACCESS_KEY": "AK", "WORKER_SECRET_KEY": "SK"}
IAM = {"WORKER_IAM_USER": "user", "WORKER_IAM_DOMAIN": "domain"}
OTHERS: dict[str, dict[str, str]] = {
    "WORKER_AUTH_TOKEN": {},
    "WORKER_ACCESS_KEY": {"WORKER_SECRET_KEY": "SK"},
    "WORKER_SECRET_KEY": {"WORKER_ACCESS_KEY": "AK"},
    "HUAWEICLOUD_SDK_SK": {"HUAWEICLOUD_SDK_AK": "AK"},
    "WORKER_SECURITY_TOKEN": KEYS,
    "WORKER_IAM_PASSWORD": IAM,
}
URLS = {
    "WORKER_AMQP_URL": "amqp://user:{}@host:5672/v",
    "WORKER_CLAIMS_URL": "redis://:{}@host/1",
}


def everything_said(environ: dict[str, str]) -> str:
    """Return all that loading says of itself, right or wrong."""
    try:
        read = load(environ, folder=NOWHERE)
    except ConfigurationError as error:
        return f"{error} {error!r} {error.problems}"
    settings = read.settings
    dumps = f"{settings.model_dump()} {settings.model_dump_json()}"
    return f"{read} {settings} {settings!r} {dumps} {describe(settings)} {read.secrets.current()}"


@given(name=st.sampled_from(sorted(OTHERS)), secret=st.one_of(VISIBLE, ANYTHING))
def test_no_secret_in_any_output(name: str, secret: str) -> None:
    """Whatever a secret's value, the output is one of four: set, invalid, in quotes or not set."""
    said = everything_said(OTHERS[name] | {name: secret})
    texts = [everything_said(OTHERS[name] | {name: value}) for value in ("right", "wr\x00ng", "'q'", " ")]
    assert said in texts


@given(name=st.sampled_from(sorted(URLS)), secret=IN_URL)
def test_url_password_is_not_shown(name: str, secret: str) -> None:
    """A URL with any password is shown like one with any other."""
    token = {"WORKER_AUTH_TOKEN": "t"}
    said = everything_said(token | {name: URLS[name].format(secret)})
    assert said == everything_said(token | {name: URLS[name].format("other")})


@given(name=st.sampled_from(sorted(URLS)), secret=st.text(st.sampled_from("pw7/:@?#,%\\ []\n"), max_size=12))
def test_invalid_url_is_not_shown(name: str, secret: str) -> None:
    """An unencoded password is not shown either, wherever it breaks the URL."""
    said = everything_said({"WORKER_AUTH_TOKEN": "t", name: URLS[name].format(f"Geheim{secret}Geheim")})
    assert "Geheim" not in said


def test_rejected_value_is_not_shown() -> None:
    """The error of the settings does not repeat the value."""
    with pytest.raises(ValidationError) as caught:
        Settings(auth_token="Geheim Geheim", amqp_url="amqp://user:Geheim")
    assert "Geheim" not in f"{caught.value} {caught.value!r}"


class Place:
    """A folder of secret files whose time of last change is always long ago, unless a test says otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changes = 0

    def write(self, name: str, text: str) -> Path:
        """Rewrite a file in place."""
        path = self.folder / name
        path.write_text(text)
        self.changes += 1
        os.utime(path, (self.changes, self.changes))
        return path

    def load(self, **values: str) -> Configuration:
        """Load with this folder of secret files."""
        return load({"WORKER_SECRETS_DIR": str(self.folder)} | values, folder=NOWHERE)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty place for secret files."""
    return Place(tmp_path)


def token(secrets: RotatingSecrets[SecretStr]) -> str:
    """Return the current token in the clear."""
    return secrets.current()["auth_token"].get_secret_value()


def in_place(place: Place) -> None:
    """Rewrite the file itself."""
    place.write("worker_auth_token", "new")


def by_rename(place: Place) -> None:
    """Rename another file over it, of the same size and time."""
    os.rename(place.write("other", "new\n"), place.folder / "worker_auth_token")
    os.utime(place.folder / "worker_auth_token", (1, 1))


@pytest.mark.parametrize("change", [in_place, by_rename])
def test_changed_secret_file_is_read(place: Place, change: Callable[[Place], None]) -> None:
    """A secret file that is rewritten or replaced is read again."""
    place.write("worker_auth_token", "old\n")
    secrets = place.load().secrets
    assert (token(secrets), token(secrets)) == ("old", "old")
    change(place)
    assert (token(secrets), secrets.problem) == ("new", None)


def test_swapped_kubernetes_link_is_read(place: Place) -> None:
    """When a Kubernetes volume swaps its `..data` link, all files are read again together."""
    for version in ("one", "two"):
        (place.folder / version).mkdir()
        for name in ("access", "secret"):
            place.write(f"{version}/worker_{name}_key", f"{name}-{version}")
    os.symlink("one", place.folder / "..data")
    for name in ("access", "secret"):
        os.symlink(f"..data/worker_{name}_key", place.folder / f"worker_{name}_key")
    secrets = place.load().secrets
    before = secrets.current()
    os.symlink("two", place.folder / "..next")
    os.rename(place.folder / "..next", place.folder / "..data")
    after = secrets.current()
    pairs = [[it[name].get_secret_value() for name in ("access_key", "secret_key")] for it in (before, after)]
    assert pairs == [["access-one", "secret-one"], ["access-two", "secret-two"]]


def test_unchanged_file_is_not_read_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing changes the same secrets are returned, and no file is opened."""
    place.write("worker_auth_token", "old")
    secrets = place.load().secrets
    first = secrets.current()
    monkeypatch.setattr("worker.config.secrets.read_secret_file", None)
    assert secrets.current() is first


def test_second_change_within_clock_resolution_is_read(place: Place) -> None:
    """A second change with the same size and time is read, because the first was made a moment ago."""
    path = place.write("worker_auth_token", "old")
    read = place.load()
    now = os.stat(path).st_mtime_ns + 5
    secrets = RotatingSecrets[SecretStr](
        read.settings, {"auth_token": FoundValue("WORKER_AUTH_TOKEN", "", path)}, clock=lambda: now
    )
    assert token(secrets) == "old"
    path.write_text("new")
    os.utime(path, (1, 1))
    assert token(secrets) == "new"


def test_half_changed_set_is_not_used(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set that changes while it is read is not used; the next call reads it whole."""
    place.write("worker_access_key", "ak-old")
    place.write("worker_secret_key", "sk-old")
    secrets = place.load().secrets
    former = secrets.current()
    place.write("worker_access_key", "ak-new")

    def read_then_change(path: Path) -> str:
        text = path.read_text()
        if path.name == "worker_access_key":
            place.write("worker_secret_key", "sk-new")
        return text

    with monkeypatch.context() as patch:
        patch.setattr("worker.config.secrets.read_secret_file", read_then_change)
        assert secrets.current() == former
    after = secrets.current()
    assert (after["access_key"].get_secret_value(), after["secret_key"].get_secret_value()) == ("ak-new", "sk-new")


PAIR_FIELDS = ("access_key", "secret_key")


class Rotation:
    """A pair of keys in two files, read by a clock that the test moves."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.seconds = 1_000.0
        self.write(access_key="ak-old", secret_key="sk-old")
        found = {it: FoundValue(it.upper(), "", place.folder / f"worker_{it}") for it in PAIR_FIELDS}
        self.secrets = RotatingSecrets[SecretStr](place.load().settings, found, clock=lambda: int(self.seconds * 1e9))
        self.secrets.current()

    def write(self, **values: str) -> None:
        """Rewrite some of the files."""
        for name, text in values.items():
            self.place.write(f"worker_{name}", text)

    def pair_after(self, seconds: float) -> tuple[str, ...]:
        """The pair in use so many seconds later."""
        self.seconds += seconds
        current = self.secrets.current()
        return tuple(current[name].get_secret_value() for name in PAIR_FIELDS)


@pytest.fixture
def rotation(place: Place) -> Rotation:
    """A pair that was read once."""
    return Rotation(place)


@pytest.mark.parametrize("names", [PAIR_FIELDS, PAIR_FIELDS[::-1]])
def test_files_that_change_one_after_the_other_are_used_as_one_pair(rotation: Rotation, names: tuple[str, str]) -> None:
    """Until the second file is changed too, whichever it is, the former pair stays in use."""
    new = {"access_key": "ak-new", "secret_key": "sk-new"}
    rotation.write(**{names[0]: new[names[0]]})
    assert [rotation.pair_after(seconds) for seconds in (0.0, 2.5, 7.0)] == [("ak-old", "sk-old")] * 3
    rotation.write(**{names[1]: new[names[1]]})
    assert rotation.pair_after(0.0) == ("ak-new", "sk-new")


def test_pair_that_changed_while_settings_were_read_is_used_at_once(place: Place) -> None:
    """At the start the files are read apart, and the settings may have half of each pair: the first reading counts."""
    place.write("worker_access_key", "ak-old")
    place.write("worker_secret_key", "sk-new")
    secrets = place.load().secrets
    place.write("worker_access_key", "ak-new")
    assert [secrets.current()[name].get_secret_value() for name in PAIR_FIELDS] == ["ak-new", "sk-new"]


def test_file_that_changes_alone_is_used_after_a_while(rotation: Rotation) -> None:
    """A corrected secret key comes alone. Each change starts the wait anew, and a clock that is set back ends it."""
    rotation.write(secret_key="sk-typo")
    assert rotation.pair_after(0.0) == ("ak-old", "sk-old")
    rotation.write(secret_key="sk-right")
    assert [rotation.pair_after(seconds) for seconds in (9.9, 9.9)] == [("ak-old", "sk-old")] * 2
    assert rotation.pair_after(0.2) == ("ak-old", "sk-right")
    rotation.write(access_key="ak-new")
    assert rotation.pair_after(0.0) == ("ak-old", "sk-right")
    assert rotation.pair_after(-60.0) == ("ak-new", "sk-right")


def test_file_that_is_changed_back_leaves_the_pair_as_it_was(rotation: Rotation) -> None:
    """The wait of an earlier change does not shorten that of a later one."""
    rotation.write(access_key="ak-new")
    assert rotation.pair_after(0.0) == ("ak-old", "sk-old")
    rotation.write(access_key="ak-old")
    assert rotation.pair_after(9.0) == ("ak-old", "sk-old")
    rotation.write(access_key="ak-new")
    assert [rotation.pair_after(seconds) for seconds in (2.0, 7.0)] == [("ak-old", "sk-old")] * 2


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lambda path: path.unlink(), "has a secret file that is missing or empty: {}"),
        (lambda path: path.write_text("\n"), "has a secret file that is missing or empty: {}"),
        (lambda path: path.write_bytes(b"\xff"), "has a secret file that is not UTF-8 text: {}"),
        (lambda path: path.write_text("a b"),
         "must consist of visible ASCII characters without spaces (the value is not shown)"),
    ],
)  # fmt: skip
def test_former_secret_stays_while_file_is_invalid(place: Place, harm: Callable[[Path], object], fault: str) -> None:
    """While a file is missing, empty or invalid the former secret stays in use, and the reason is reported."""
    path = place.write("worker_auth_token", "old")
    secrets = place.load().secrets
    assert token(secrets) == "old"
    harm(path)
    assert token(secrets) == "old"
    assert (
        repr(secrets)
        == f"RotatingSecrets(files=['auth_token'], problem={f'WORKER_AUTH_TOKEN: {fault.format(path)}'!r})"
    )
    place.write("worker_auth_token", "new")
    assert (token(secrets), secrets.problem) == ("new", None)


def test_file_that_appears_while_reading_is_used_later(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that appears between check and reading is used at the next call."""
    path = place.write("worker_auth_token", "old")
    secrets = place.load().secrets
    path.unlink()

    def appear(at: Path) -> str:
        place.write("worker_auth_token", "new")
        return at.read_text()

    with monkeypatch.context() as patch:
        patch.setattr("worker.config.secrets.read_secret_file", appear)
        assert token(secrets) == "old"
    assert token(secrets) == "new"


def test_secret_from_environment_does_not_rotate(place: Place) -> None:
    """A secret from the environment stays, whatever files appear later."""
    secrets = place.load(WORKER_AUTH_TOKEN="fixed").secrets
    place.write("worker_auth_token", "later")
    assert token(secrets) == "fixed"


def test_unreadable_secret_file_is_a_problem(place: Place) -> None:
    """A secret file that is not regular, too large, in another encoding or unreadable is a problem."""
    os.mkfifo(place.folder / "worker_auth_token")
    (place.folder / "worker_queue").write_bytes(b"x" * 65_537)
    (place.folder / "worker_tries").write_bytes(b"\xff")
    os.symlink("worker_prefetch", place.folder / "worker_prefetch")
    with pytest.raises(ConfigurationError) as caught:
        place.load()
    assert caught.value.problems == (
        f"WORKER_QUEUE: has a secret file of more than 65536 bytes: {place.folder}/worker_queue",
        "WORKER_PREFETCH: has a secret file that cannot be read (Too many levels of symbolic links): "
        f"{place.folder}/worker_prefetch",
        f"WORKER_AUTH_TOKEN: has a secret file that is no regular file: {place.folder}/worker_auth_token",
        f"WORKER_TRIES: has a secret file that is not UTF-8 text: {place.folder}/worker_tries",
    )


@pytest.mark.parametrize("wrong", ["redis://:new@h/zz", "redis://:new%zz@h/0"])
def test_claims_url_that_breaks_a_rule_is_not_rotated_to(wrong: str, tmp_path: Path) -> None:
    """The former one stays in use, and the problem does not repeat the new one."""
    file = tmp_path / "worker_claims_url"
    file.write_text("redis://:old@h/3")
    loaded = load({"WORKER_SECRETS_DIR": str(tmp_path), "WORKER_AUTH_TOKEN": "t"}, folder=NOWHERE)
    file.write_text(wrong)
    url = loaded.current.claims_url
    assert url is not None
    assert url.get_secret_value() == "redis://:old@h/3"
    (problem,) = [one.problem for one in loaded.urls if one.problem]
    assert problem.startswith("WORKER_CLAIMS_URL: must ")
    assert "new" not in problem
