"""The configuration: defaults, refusals, precedence of the places, and names that are not known."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from pamqp.constants import DOMAIN_REGEX

from worker.config import Configuration, ConfigurationError, Settings, load, load_from_process
from worker.config.settings import variable

TOKEN = {"WORKER_AUTH_TOKEN": "token-of-the-tests"}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """An empty folder of secret files."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder


def loaded(secrets: Path, values: Mapping[str, str]) -> Configuration:
    """Load with a token and the test's own folders, so that nothing of the machine is read."""
    return load(TOKEN | {"WORKER_SECRETS_DIR": str(secrets)} | dict(values), folder=secrets.parent)


def problems(secrets: Path, values: Mapping[str, str]) -> tuple[str, ...]:
    """Return the problems that loading ends with."""
    with pytest.raises(ConfigurationError) as caught:
        loaded(secrets, values)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_defaults_are_as_promised() -> None:
    """With a token and nothing else every setting has the promised default."""
    settings = load(TOKEN, folder=Path("/nonexistent")).settings
    assert [url.get_secret_value() for url in settings.amqp_url] == ["amqp://guest:guest@127.0.0.1:5672/"]
    assert dict(settings.dcs_endpoints) == {"cn-north-4": "https://dcs.cn-north-4.myhuaweicloud.com"}
    assert settings.secrets_dir == Path("/run/secrets")
    plain = settings.model_dump(exclude={"amqp_url", "dcs_endpoints", "auth_token", "secrets_dir"}, exclude_none=True)
    assert plain == {
        "broker_timeout": 300,
        "queue": "dcs.migration.requests",
        "request_exchange": "dcs.migration",
        "event_exchange": "dcs.migration.events",
        "prefetch": 64,
        "max_message_bytes": 65536,
        "delivery_limit": 10,
        "dcs_region": "cn-north-4",
        "dcs_timeout": 30,
        "tries": 3,
        "retry_delays": (10, 60, 300, 1800),
        "reconcile": "always",
        "claims_away": "look",
        "settle": 45,
        "marker": True,
        "follow_up": False,
        "follow_up_timeout": 1800.0,
        "drain": 25,
        "http_host": "::",
        "http_port": 8000,
        "no_proxy": (),
        "log_level": "info",
    }


RIGHT = [
    ("WORKER_PREFETCH", " 65535 ", 65535),
    ("WORKER_MAX_MESSAGE_BYTES", "1024", 1024),
    ("WORKER_DELIVERY_LIMIT", "40", 40),
    ("WORKER_TRIES", "1", 1),
    ("WORKER_HTTP_PORT", "0", 0),
    ("WORKER_HTTP_HOST", "::1", "::1"),
    ("WORKER_DRAIN", "0", 0.0),
    ("WORKER_DCS_TIMEOUT", "0.5", 0.5),
    ("WORKER_DCS_TIMEOUT", ".5", 0.5),
    ("WORKER_DCS_TIMEOUT", "7.", 7.0),
    ("WORKER_DCS_RATE", "2.5", 2.5),
    ("WORKER_DCS_RATE", "", None),
    ("WORKER_BROKER_PATIENCE", "1", 1.0),
    ("WORKER_RETRY_DELAYS", "45", (45.0,)),
    ("WORKER_RETRY_DELAYS", "0.001,45", (0.001, 45.0)),
    ("WORKER_RETRY_DELAYS", "1, 1,2.5 ,86400", (1.0, 1.0, 2.5, 86400.0)),
    ("WORKER_RETRY_DELAYS", ",".join(["50"] * 16), (50.0,) * 16),
    ("WORKER_RECONCILE", "ALWAYS", "always"),
    ("WORKER_LOG_LEVEL", "Debug", "debug"),
    ("WORKER_LOG_FORMAT", "console", "console"),
    ("WORKER_LOG_FORMAT", "", None),
    ("WORKER_QUEUE", "q" * 200, "q" * 200),
    ("WORKER_IAM_ENDPOINT", "https://iam.example.com/", "https://iam.example.com"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318", "http://collector:4318"),
    *(("WORKER_MARKER", word, True) for word in ("true", "1", "YES", "on")),
    *(("WORKER_MARKER", word, False) for word in ("False", "0", "no", "OFF")),
]


@pytest.mark.parametrize(("name", "text", "value"), RIGHT)
def test_valid_values_are_parsed(secrets: Path, name: str, text: str, value: object) -> None:
    """A valid value is parsed into its meaning."""
    settings = loaded(secrets, {name: text}).settings
    field = next(field for field in Settings.model_fields if variable(field) == name)
    assert getattr(settings, field) == value


REGION = "must be the name of a region like cn-north-4, in lower case letters, digits and -"
WRONG = [
    *(
        ("WORKER_PREFETCH", text, "must be a whole number from 1 to 65535")
        for text in ("abc", "0", "65536", "1.5", "٣")
    ),
    *(("WORKER_MAX_MESSAGE_BYTES", text, "must be a whole number from 1024 to 134217728") for text in ("1023", "-1")),
    *(("WORKER_DELIVERY_LIMIT", text, "must be a whole number from 2 to 40") for text in ("1", "41")),
    *(("WORKER_TRIES", text, "must be a whole number from 1 to 20") for text in ("0", "21", "9" * 5)),
    *(("WORKER_HTTP_PORT", text, "must be a whole number from 0 to 65535") for text in ("65536", "+1")),
    ("WORKER_HTTP_HOST", "not a host", "must be a host name or an IP address"),
    *(
        (name, text, "must be a plain decimal number of seconds above 0 and at most 86400")
        for name in ("WORKER_DCS_TIMEOUT", "WORKER_SETTLE", "WORKER_BROKER_PATIENCE")
        for text in ("0", "0.0", "-1", "5s", "1e3", "nan", "inf", "86401", ".", "1_0")
    ),
    ("WORKER_DRAIN", "-0.1", "must be a plain decimal number of seconds from 0 to 86400"),
    *(
        ("WORKER_DCS_RATE", text, "must be a plain decimal number of calls per second above 0 and at most 1000000")
        for text in ("0", "inf", "fast")
    ),
    ("WORKER_RETRY_DELAYS", "60,50", "must not become shorter from one delay to the next"),
    *(("WORKER_RECONCILE", text, "must be always, ambiguous or off") for text in ("never", "true")),
    ("WORKER_MARKER", "maybe", "must be one of true, 1, yes, on, false, 0, no, off"),
    ("WORKER_LOG_LEVEL", "loud", "must be debug, info, warning, error or critical"),
    ("WORKER_LOG_FORMAT", "xml", "must be json or console"),
    ("WORKER_CREDENTIALS", "magic", "must be platform or empty"),
    ("WORKER_DCS_REGION", "https://dcs", REGION),
    *(("WORKER_DCS_REGION", text, REGION) for text in ("CN-North-4", "my_region")),
    ("WORKER_IAM_USER", "a\x07b", "must be text without control characters"),
    *(
        (
            name,
            text,
            f"must be at most {longest} of the characters A-Z a-z 0-9 -_.:@#,/+ and blanks, and not begin with amq.",
        )
        for name, longest in (("WORKER_QUEUE", 200), ("WORKER_REQUEST_EXCHANGE", 127), ("WORKER_EVENT_EXCHANGE", 127))
        for text in ("amq.direct", "a\nb", "umzüge.anfragen", "tenant|a", "x" * (longest + 1))
    ),
    *(
        (name, "/nonexistent", "must be a file that exists and can be read")
        for name in (
            *("WORKER_AMQP_CA_FILE", "WORKER_AMQP_CERT_FILE", "WORKER_AMQP_KEY_FILE", "WORKER_DCS_CA_FILE"),
            "HUAWEICLOUD_SDK_CREDENTIALS_FILE",
        )
    ),
    ("WORKER_SECRETS_DIR", "/nonexistent", "must be a folder that exists"),
]


@pytest.mark.parametrize(("name", "text", "expected"), WRONG)
def test_invalid_values_are_rejected(secrets: Path, name: str, text: str, expected: str) -> None:
    """An invalid value is rejected in one line that names variable, rule and value."""
    shown = repr(text if len(text) <= 60 else text[:57] + "...")
    own = [line for line in problems(secrets, {name: text}) if line.startswith(f"{name}: ")]
    assert own == [f"{name}: {expected}, not {shown}"]


def test_invalid_retry_schedule_is_rejected(secrets: Path) -> None:
    """A schedule with an invalid delay, or with too many delays, is rejected."""
    rule = "must be delays in plain decimal seconds, separated by commas, each from 0.001 to 86400"
    for delay in ("", "x", "0", "0.0009"):  # a queue has its TTL in whole milliseconds
        invalid = {"WORKER_RETRY_DELAYS": f"{delay},60"}
        assert problems(secrets, invalid) == (f"WORKER_RETRY_DELAYS: {rule}, not {delay!r}",)
    many = ",".join(["60"] * 17)
    assert problems(secrets, {"WORKER_RETRY_DELAYS": many}) == (
        "WORKER_RETRY_DELAYS: must have at most 16 delays, not 17",
    )


def test_all_problems_at_once(secrets: Path) -> None:
    """Several wrong values are reported together, in the order of the settings; relations come last."""
    values = {
        "WORKER_SETTLE": "20",
        "WORKER_PREFETCH": "abc",
        "WORKER_TRIES": "99",
        "WORKER_RETRY_DELAYS": "5",
        "WORKER_EVENT_EXCHANGE": "dcs.migration",
    }
    assert problems(secrets, values) == (
        "WORKER_PREFETCH: must be a whole number from 1 to 65535, not 'abc'",
        "WORKER_TRIES: must be a whole number from 1 to 20, not '99'",
        "WORKER_SETTLE: must be greater than WORKER_DCS_TIMEOUT (30), not 20",
        "WORKER_RETRY_DELAYS: the longest delay must be at least WORKER_SETTLE (20), not 5",
        "WORKER_EVENT_EXCHANGE: must differ from WORKER_REQUEST_EXCHANGE, which is of another kind",
    )


def test_invalid_json_hides_no_other_problem(secrets: Path) -> None:
    """Validators decode JSON: invalid JSON is one problem among others, and shows no secret."""
    values = {"WORKER_DCS_ENDPOINTS": "{", "WORKER_AMQP_URL": "amqp://u:Geheim", "WORKER_TRIES": "0"}
    (secrets / "worker_auth_token").write_text("two words")
    found = problems(secrets, values | {"WORKER_AUTH_TOKEN": ""})
    assert [line.partition(":")[0] for line in found] == [
        *("WORKER_AMQP_URL", "WORKER_DCS_ENDPOINTS", "WORKER_AUTH_TOKEN", "WORKER_TRIES")
    ]
    assert not [line for line in found if "Geheim" in line or "two words" in line]


def test_settings_do_not_read_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `load` reads the environment; other settings have what they are given."""
    monkeypatch.setenv("WORKER_TRIES", "7")
    monkeypatch.setenv("TRIES", "7")
    assert Settings().tries == 3
    assert Settings(tries="5").tries == 5


def test_relation_with_invalid_setting_is_not_checked(secrets: Path) -> None:
    """A relation is not checked when one of its settings is invalid."""
    values = {"WORKER_SETTLE": "soon", "WORKER_RETRY_DELAYS": "1", "WORKER_DCS_TIMEOUT": "80000"}
    assert len(problems(secrets, values)) == 1


def test_settle_must_exceed_call_timeout(secrets: Path) -> None:
    """WORKER_SETTLE equal to WORKER_DCS_TIMEOUT is too short; a little more is enough."""
    assert problems(secrets, {"WORKER_SETTLE": "30"})
    assert loaded(secrets, {"WORKER_SETTLE": "30.1"}).settings.settle == 30.1


def test_longest_delay_must_reach_settle(secrets: Path) -> None:
    """The longest delay may equal WORKER_SETTLE, as in short schedules with short calls."""
    values = {"WORKER_SETTLE": "3", "WORKER_DCS_TIMEOUT": "2", "WORKER_RETRY_DELAYS": "1,2,3"}
    assert loaded(secrets, values).settings.retry_delays == (1, 2, 3)
    assert problems(secrets, values | {"WORKER_RETRY_DELAYS": "1,2.9"})


def test_settings_are_frozen(secrets: Path) -> None:
    """Neither a setting nor the map of endpoints can be changed, and only text makes settings."""
    settings = loaded(secrets, {}).settings
    with pytest.raises(ValueError, match="frozen"):
        settings.prefetch = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.dcs_endpoints["x"] = "y"  # type: ignore[index]
    with pytest.raises(ValueError, match="must be given as text"):
        Settings(prefetch=5)


def test_environment_precedes_files_and_dotenv(secrets: Path) -> None:
    """The environment precedes secret files, these precede `.env`, this precedes the default."""
    (secrets.parent / ".env").write_text("WORKER_PREFETCH=3\n")
    assert loaded(secrets, {}).settings.prefetch == 3
    (secrets / "worker_prefetch").write_text("2\n")
    assert loaded(secrets, {}).settings.prefetch == 2
    assert loaded(secrets, {"WORKER_PREFETCH": "1"}).settings.prefetch == 1


@pytest.mark.parametrize("name", ["WORKER_AMQP_URL", "WORKER_PREFETCH", "WORKER_AUTH_TOKEN", "WORKER_DCS_REGION"])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_around_a_value_are_named(secrets: Path, name: str, quote: str) -> None:
    """`docker --env-file` and `kubectl --from-env-file` keep them; they would count as part of a token."""
    found = problems(secrets, {name: f" {quote}something{quote} "})
    assert found == (f"{name}: is in quotes, which would count as part of the value; write it without them",)


def test_quotes_may_be_part_of_a_password(secrets: Path) -> None:
    """Of every other value they are a mistake."""
    iam = {"WORKER_IAM_USER": "u", "WORKER_IAM_DOMAIN": "d", "WORKER_IAM_PASSWORD": "'p'"}
    password = load(iam, folder=secrets.parent).settings.iam_password
    assert password is not None
    assert password.get_secret_value() == "'p'"


def test_byte_order_mark_of_a_secret_file_is_no_part_of_the_value(secrets: Path) -> None:
    """Editors on Windows write one."""
    (secrets / "worker_auth_token").write_text("token", "utf-8-sig")
    found = load({"WORKER_SECRETS_DIR": str(secrets)}, folder=secrets.parent).settings.auth_token
    assert found is not None
    assert found.get_secret_value() == "token"


def test_names_are_those_that_the_library_sends() -> None:
    """pamqp refuses others when they are used, for ever."""
    for name, syntax in (("queue", "queue-name"), ("request_exchange", "exchange-name")):
        for character in map(chr, (*range(0x20, 0x7F), 0xE9, 0x1F680)):
            try:
                Settings.model_validate({name: f"a{character}b"})
            except ValueError:
                assert not DOMAIN_REGEX[syntax].fullmatch(character), character
            else:
                assert DOMAIN_REGEX[syntax].fullmatch(character), character


HTTP = "http://collector:4318"
TRACES = "OTEL_EXPORTER_OTLP_TRACES"
PORT = "the collector takes it on another port, mostly 4318"


@pytest.mark.parametrize(
    ("variables", "collector"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": f"{HTTP}/"}, f"{HTTP}/v1/traces"),
        ({f"{TRACES}_ENDPOINT": f"{HTTP}/spans"}, f"{HTTP}/spans"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other", f"{TRACES}_ENDPOINT": f"{HTTP}/spans"}, f"{HTTP}/spans"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": HTTP, "OTEL_TRACES_EXPORTER": "none"}, None),
        ({f"{TRACES}_ENDPOINT": HTTP, "OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, None),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_TRACES_EXPORTER": "zipkin"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": HTTP, "OTEL_TRACES_EXPORTER": "None"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": HTTP, "OTEL_TRACES_EXPORTER": "OTLP"}, f"{HTTP}/v1/traces"),
        ({f"{TRACES}_ENDPOINT": HTTP, f"{TRACES}_PROTOCOL": "HTTP/Protobuf"}, HTTP),
        ({f"{TRACES}_ENDPOINT": HTTP, "OTEL_EXPORTER_OTLP_PROTOCOL": "HTTP/protobuf"}, HTTP),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": HTTP,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                f"{TRACES}_PROTOCOL": "http/protobuf",
            },
            f"{HTTP}/v1/traces",
        ),
    ],
)
def test_variables_of_opentelemetry_decide(secrets: Path, variables: dict[str, str], collector: str | None) -> None:
    """Those for traces go first, and `none` before all; without an address the others matter not."""
    assert loaded(secrets, variables).settings.collector == collector


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            f"OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf, not 'grpc'; {PORT}",
        ),
        ({f"{TRACES}_PROTOCOL": "http/json"}, f"{TRACES}_PROTOCOL: must be http/protobuf, not 'http/json'; {PORT}"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: must be otlp or none, not 'zipkin'"),
    ],
)
def test_what_tracing_cannot_do_is_refused_by_name(secrets: Path, variables: dict[str, str], problem: str) -> None:
    """gRPC is not spoken: without a word the spans would be lost."""
    assert problems(secrets, {"OTEL_EXPORTER_OTLP_ENDPOINT": HTTP} | variables) == (problem,)


def test_empty_value_is_not_set(secrets: Path) -> None:
    """An empty or blank value leaves the decision to the next source."""
    (secrets.parent / ".env").write_text("WORKER_PREFETCH=3\nWORKER_TRIES=\nWORKER_QUEUE\n")
    (secrets / "worker_prefetch").write_text("\n")
    settings = loaded(secrets, {"WORKER_PREFETCH": " ", "WORKER_AMQP_URL": ""}).settings
    assert (settings.prefetch, settings.tries, settings.queue) == (3, 3, "dcs.migration.requests")


def test_dotenv_syntax(secrets: Path) -> None:
    """A `.env` file may have comments, quotes, `export` and a byte order mark; `$` is an ordinary character."""
    lines = "\ufeff# mine\nexport WORKER_QUEUE='a b'\nWORKER_IAM_USER=x # y\nWORKER_IAM_DOMAIN=\"$HOME${X}\"\n"
    (secrets.parent / ".env").write_text(lines, "utf-8")
    settings = load({}, folder=secrets.parent, credentials=False).settings
    assert (settings.queue, settings.iam_user, settings.iam_domain) == ("a b", "x", "$HOME${X}")


def test_dotenv_may_name_secrets_folder(secrets: Path) -> None:
    """The folder of secret files may be named in `.env`, but not by a file within it."""
    (secrets.parent / ".env").write_text(f"WORKER_SECRETS_DIR={secrets}\n")
    (secrets / "worker_secrets_dir").write_text("/nonexistent")
    (secrets / "worker_auth_token").write_text("t")
    assert load({}, folder=secrets.parent).settings.secrets_dir == secrets


def test_invalid_dotenv_is_a_problem(secrets: Path) -> None:
    """A `.env` file with an unreadable line, or in another encoding, is a problem; a folder of that name is none."""
    dotenv = secrets.parent / ".env"
    dotenv.write_text("WORKER_TRIES=2\n'WORKER QUEUE\n")
    assert problems(secrets, {}) == (".env: line 2 cannot be read",)
    dotenv.write_bytes(b"WORKER_TRIES=\xff\n")
    assert problems(secrets, {}) == (".env: is not UTF-8 text",)
    dotenv.unlink()
    dotenv.mkdir()
    assert loaded(secrets, {}).settings.tries == 3


def test_unreadable_dotenv_is_a_problem(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.env` file that the system refuses to open is a problem."""

    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    (secrets.parent / ".env").write_text("")
    monkeypatch.setattr(Path, "read_text", refuse)
    assert problems(secrets, {}) == (".env: cannot be read (Permission denied)",)


def test_process_environment_is_read(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's own environment is read, and bytes in it that are not UTF-8 are a problem."""
    for name in [name for name in os.environ if name.startswith(("WORKER_", "HUAWEICLOUD_", "OTEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(secrets)
    monkeypatch.setenv("WORKER_SECRETS_DIR", str(secrets))
    monkeypatch.setenv("WORKER_TRIES", "7")
    assert load_from_process(credentials=False).settings.tries == 7
    monkeypatch.setenv("WORKER_QUEUE", os.fsdecode(b"\xff"))
    with pytest.raises(ConfigurationError, match=r"^WORKER_QUEUE: is not UTF-8 text$"):
        load_from_process(credentials=False)


def test_unknown_variable_is_a_warning(secrets: Path) -> None:
    """Every unknown `WORKER_*` variable is a warning that names the nearest known one."""
    (secrets.parent / ".env").write_text("worker_prefetch=5\nOTHER=1\n")
    (secrets / "worker_auth_tokn").write_text("t")
    (secrets / "WORKER_TRIES").write_text("4")
    (secrets / "other").write_text("t")
    read = loaded(secrets, {"WORKER_PREFTCH": "1", "WORKER_TRIES\n": "", "PATH": "/bin", "WORKER_TRIES": "2"})
    assert read.warnings == (
        "WORKER_PREFTCH: is not known and ignored (in the environment); the nearest known is WORKER_PREFETCH",
        "WORKER_TRIES\\n: is not known and ignored (in the environment); the nearest known is WORKER_TRIES",
        "WORKER_TRIES: is not known and ignored (in the folder of secret files); the nearest known is worker_tries",
        "worker_auth_tokn: is not known and ignored (in the folder of secret files); "
        "the nearest known is worker_auth_token",
        "worker_prefetch: is not known and ignored (in the .env file); the nearest known is WORKER_PREFETCH",
    )
    assert read.settings.prefetch == 64
    assert len(loaded(secrets, {"WORKER_QQQQQQQQ": "1"}).warnings) == len(read.warnings) - 1


def test_warnings_follow_problems(secrets: Path) -> None:
    """A missing variable may be set under a misspelt name: the warnings come after the problems."""
    values = {"WORKER_AUTH_TOKN": "misspelt-token", "WORKER_SECRETS_DIR": str(secrets)}
    with pytest.raises(ConfigurationError) as caught:
        load(values, folder=secrets.parent)
    problem, warning = caught.value.lines
    assert problem.startswith("credentials: none for DCS are configured")
    assert warning.startswith("WORKER_AUTH_TOKN: is not known and ignored")
    assert warning.endswith("the nearest known is WORKER_AUTH_TOKEN")
    assert "misspelt-token" not in problem + warning
