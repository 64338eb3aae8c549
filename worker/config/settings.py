"""All settings of the worker: names, defaults, meanings and validators, and how they are displayed.

Names and defaults are a promise to operators. A field is named like its variable, in lower case and without `WORKER_`;
the exceptions are in `VARIABLES` and `SDK_VARIABLES`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from worker.config import urls, values
from worker.config.urls import SecretUrl
from worker.config.values import ANY_CASE, must_be, seconds, whole_number

AuthMethodName = Literal["token", "keys", "iam", "platform"]
LogFormatName = Literal["json", "console"]

PROXY_FIELDS = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
"""In lower case their variables count first, as in curl."""
VARIABLES = {
    "broker_timeout": "WORKER_BROKER_PATIENCE",
    "credentials_file": "HUAWEICLOUD_SDK_CREDENTIALS_FILE",
    "otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "otlp_traces_endpoint": "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "otlp_protocol": "OTEL_EXPORTER_OTLP_PROTOCOL",
    "otlp_traces_protocol": "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "traces_exporter": "OTEL_TRACES_EXPORTER",
    **{field: field.upper() for field in PROXY_FIELDS},
}
SDK_VARIABLES = {
    "access_key": "HUAWEICLOUD_SDK_AK",
    "secret_key": "HUAWEICLOUD_SDK_SK",
    "security_token": "HUAWEICLOUD_SDK_SECURITY_TOKEN",
}
"""The official SDK's names of the access keys; a complete set of them is used instead of ours."""

AUTH_METHOD_FIELDS: Mapping[AuthMethodName, tuple[str, ...]] = {
    "token": ("auth_token",),
    "keys": ("access_key", "secret_key", "security_token"),
    "iam": ("iam_user", "iam_password", "iam_domain"),
    "platform": ("credentials", "credentials_file"),
}
"""The ways to authenticate to DCS, each with the fields that select it: any of them being set."""


class ConfigurationError(Exception):
    """The configuration is invalid.

    `problems` has one line per problem, which names its variable and never holds a secret. `warnings` are about unknown
    variables: a missing one may be set under a misspelt name. `log_format`: the one that is set, if it is valid.
    """

    def __init__(
        self, problems: tuple[str, ...], warnings: tuple[str, ...] = (), log_format: LogFormatName | None = None
    ) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.warnings = warnings
        self.log_format = log_format

    @property
    def lines(self) -> tuple[str, ...]:
        """All problems, then all warnings."""
        return (*self.problems, *self.warnings)


def variable(field: str) -> str:
    """Return the variable's name of a field."""
    return VARIABLES.get(field) or f"WORKER_{field.upper()}"


FilePath = Annotated[Path | None, values.READABLE_FILE]
Line = Annotated[str | None, values.LINE]
Word = Annotated[Line, ANY_CASE]
ExchangeName = Annotated[str, values.EXCHANGE_NAME]
Header = Annotated[SecretStr, AfterValidator(values.check_header_secret)] | None
Proxy = Annotated[SecretUrl | None, BeforeValidator(urls.proxy_url)]
Seconds = Annotated[float, seconds()]
Delays = Annotated[tuple[values.Delay, ...], BeforeValidator(values.items), AfterValidator(values.check_rising_delays)]


class Settings(BaseSettings):
    """All settings: parsed once, frozen, secrets redacted when printed.

    Every value is given as text, as an argument. Durations are seconds, sizes bytes.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False)

    amqp_url: Annotated[tuple[SecretUrl, ...], BeforeValidator(urls.broker_urls)] = Field(
        (SecretUrl("amqp://guest:guest@127.0.0.1:5672/"),),
        description="broker, `amqp://` or `amqps://`; several, separated by commas: the nodes of one cluster",
    )
    amqp_ca_file: FilePath = Field(None, description="for `amqps://`: trusted authorities; empty: the system's")
    amqp_cert_file: FilePath = Field(None, description="for `amqps://`: the client's certificate (mutual TLS)")
    amqp_key_file: FilePath = Field(None, description="for `amqps://`: the key of the client's certificate")
    broker_timeout: Seconds = Field(
        300.0, description="time without a broker connection before the worker exits with status 69"
    )
    queue: Annotated[str, values.QUEUE_NAME] = Field(
        "dcs.migration.requests", description="queue of requests; the names of retry and parked queues derive from it"
    )
    request_exchange: ExchangeName = Field("dcs.migration", description="direct exchange of requests")
    event_exchange: ExchangeName = Field("dcs.migration.events", description="topic exchange of events")
    prefetch: Annotated[int, whole_number(1, 65_535)] = Field(
        64, description="maximum unacknowledged requests of this replica, and maximum of DCS calls at once per region"
    )
    max_message_bytes: Annotated[int, whole_number(1_024, 134_217_728)] = Field(
        65_536, description="maximum size of a request in bytes; a larger one fails as `invalid_request`"
    )
    delivery_limit: Annotated[int, whole_number(2, 40)] = Field(
        10, description="deliveries of one request without an outcome (crashes) before it is parked as `poison`"
    )
    dcs_region: Annotated[str, values.REGION] = Field("cn-north-4", description="default region")
    dcs_endpoints: Annotated[Mapping[str, str], BeforeValidator(urls.endpoints), PlainSerializer(dict)] = Field(
        {},
        description="JSON map of region to base URL; empty: `https://dcs.{region}.myhuaweicloud.com` (`.eu` for "
        "`eu-west-1…`) for `WORKER_DCS_REGION` alone, if that is Huawei Cloud's own",
    )
    dcs_timeout: Seconds = Field(30.0, description="deadline of a DCS call, from connect to last byte")
    dcs_ca_file: FilePath = Field(None, description="trusted authorities for DCS and IAM; empty: the system's")
    dcs_rate: Annotated[float | None, values.RATE] = Field(
        None, description="maximum calls per second of this replica; empty: learnt from DCS's answers"
    )
    auth_token: Header = Field(None, description="authentication option 1: a token, sent as `X-Auth-Token`")
    access_key: Header = Field(
        None, description="authentication option 2: access key (AK) for signed requests; `HUAWEICLOUD_SDK_AK` works too"
    )
    secret_key: Header = Field(None, description="option 2: secret key (SK); `HUAWEICLOUD_SDK_SK` works too")
    security_token: Header = Field(
        None, description="option 2: security token of temporary keys; `HUAWEICLOUD_SDK_SECURITY_TOKEN` works too"
    )
    iam_endpoint: Annotated[str | None, BeforeValidator(urls.service_url)] = Field(
        None,
        description="authentication option 3, and option 4 with OIDC of the old IAM: base URL of IAM; "
        "empty: Huawei Cloud's own for `WORKER_DCS_REGION`",
    )
    iam_user: Line = Field(None, description="option 3: user for project-scoped tokens from IAM")
    iam_password: Annotated[SecretStr, AfterValidator(values.check_password)] | None = Field(
        None, description="option 3: the user's password"
    )
    iam_domain: Line = Field(None, description="option 3: the user's domain (account name)")
    credentials: Annotated[Literal["platform"] | None, ANY_CASE, must_be("platform or empty")] = Field(
        None,
        description="authentication option 4: `platform` takes temporary keys from CCE pod identity, OIDC, the profile "
        "file or the server's metadata, in this order",
    )
    credentials_file: FilePath = Field(
        None, description="option 4: the profile file; empty: `~/.huaweicloud/credentials` if it exists"
    )
    tries: Annotated[int, whole_number(1, 20)] = Field(
        3, description="attempts within one delivery; exponential backoff with full jitter between them, from 0.2 to 5"
    )
    retry_delays: Delays = Field(
        (10.0, 60.0, 300.0, 1800.0),
        description="retry schedule: delays before further deliveries; the longest must be at least `WORKER_SETTLE`",
    )
    reconcile: Annotated[Literal["always", "ambiguous", "off"], ANY_CASE, must_be("always, ambiguous or off")] = Field(
        "always",
        description="`always`: look up before every create (one GET per create), so that a request that is sent twice "
        "is created once; `ambiguous`: only when a create may already have been sent, for senders that never send "
        "twice; `off`: never, an ambiguous result ends as `unresolved`",
    )
    settle: Seconds = Field(
        45.0,
        description="listing delay: minimum time between two creates when the first may have succeeded; "
        "must be greater than `WORKER_DCS_TIMEOUT`",
    )
    marker: Annotated[bool, values.BOOLEAN] = Field(
        True,
        description="append ` #rq-` and 16 hex digits to the description, so that the task can be recognised; "
        "`false`: body exactly as received",
    )
    claims_url: Annotated[SecretUrl | None, BeforeValidator(urls.claims_url)] = Field(
        None, description="`redis://`, `rediss://` or `unix://`: replicas share claims and outcomes; empty: none"
    )
    claims_away: Annotated[Literal["look", "pause"], ANY_CASE, must_be("look or pause")] = Field(
        "look",
        description="while Redis cannot be reached or written: `look`: continue as without claims, with a look-up "
        "before every create also under `ambiguous`; `pause`: no create begins, consumption stops",
    )
    follow_up: Annotated[bool, values.BOOLEAN] = Field(
        False,
        description="one more event for created tasks: whether the task became ready (`migration.provisioned`) or not "
        "(`migration.provisioning_failed`)",
    )
    follow_up_timeout: Seconds = Field(
        1_800.0, description="time after the success from which a task that is not ready counts as failed (`timeout`)"
    )
    drain: Annotated[float, seconds(lowest=0)] = Field(
        25.0, description="shutdown grace (SIGTERM, SIGINT): time to finish requests in flight; the rest is handed back"
    )
    http_host: Annotated[str, values.HOST] = Field(
        "::", description="HTTP address of metrics, health and status page; `::`: all, of IPv4 and IPv6"
    )
    http_port: Annotated[int, whole_number(0, 65_535)] = Field(8_000, description="HTTP port; 0: any free port")
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        ANY_CASE,
        must_be("debug, info, warning, error or critical"),
    ] = Field("info", description="minimum log level; `debug` also writes each line of a flood")
    log_format: Annotated[LogFormatName | None, ANY_CASE, must_be("json or console")] = Field(
        None, description="`json` or `console`; empty: `console` on a terminal, else `json`"
    )
    otlp_endpoint: Annotated[str | None, BeforeValidator(urls.collector_url)] = Field(
        None, description="enables tracing: OTLP endpoint of the collector; the standard OpenTelemetry variables apply"
    )
    otlp_traces_endpoint: Annotated[str | None, BeforeValidator(urls.collector_url)] = Field(
        None, description="enables tracing: address for traces, used as it is instead of `OTEL_EXPORTER_OTLP_ENDPOINT`"
    )
    otlp_protocol: Word = Field(None, description="`http/protobuf`, the only one there is, or empty")
    otlp_traces_protocol: Word = Field(None, description="the same, for traces alone")
    traces_exporter: Word = Field(None, description="`none`: no tracing; `otlp` or empty: as the addresses say")
    http_proxy: Proxy = Field(None, description="proxy for calls of DCS and IAM with `http://`")
    https_proxy: Proxy = Field(None, description="proxy for calls of DCS and IAM with `https://`")
    all_proxy: Proxy = Field(None, description="proxy where neither of these is set")
    no_proxy: Annotated[tuple[str, ...], BeforeValidator(values.items), ANY_CASE] = Field(
        (), description="hosts, domains and networks that are called directly, separated by commas; `*`: all"
    )
    secrets_dir: Annotated[Path, values.FOLDER] = Field(
        Path("/run/secrets"), description="folder of secret files, each named like a variable in lower case"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _text(cls, value: object, info: ValidationInfo) -> str:
        if not isinstance(value, str):
            raise ValueError("must be given as text")
        # Spaces and quotes may be part of a password.
        return value if info.field_name == "iam_password" else values.plain_text(value)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use arguments only: the library's own sources stop at the first problem, and read more than promised."""
        return (init_settings,)

    @property
    def collector(self) -> str | None:
        """The address to which spans are sent; None: tracing is off."""
        base = self.otlp_endpoint and self.otlp_endpoint.rstrip("/") + "/v1/traces"
        return None if self.traces_exporter == "none" else self.otlp_traces_endpoint or base

    @property
    def auth_method(self) -> AuthMethodName:
        """The way to authenticate to DCS; ConfigurationError when none is configured."""
        for method, fields in AUTH_METHOD_FIELDS.items():
            if any(getattr(self, field) is not None for field in fields):
                return method
        raise ConfigurationError(("no credentials for DCS are configured",))


def describe(settings: Settings) -> list[tuple[str, str, str]]:
    """Return name, value and meaning of every setting: a secret is `***`, a setting without value is empty."""
    return [
        (variable(field), _display_text(getattr(settings, field)), entry.description or "")
        for field, entry in Settings.model_fields.items()
    ]


def settings_table() -> str:
    """Return all variables with default and meaning as a Markdown table."""
    rows = [
        f"| `{variable(field)}` | {_default_cell(entry.default)} | {entry.description} |"
        for field, entry in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | default | meaning |", "| --- | --- | --- |", *rows]) + "\n"


def _display_text(value: object) -> str:
    match value:
        case SecretStr():
            return "***"
        case float():
            return values.number_text(value)
        case tuple():
            return ",".join(_display_text(item) for item in value)
        case bool():
            return json.dumps(value)
        case Mapping():
            return json.dumps(dict(value)) if value else ""
        case _:
            return "" if value is None else str(value)


def _default_cell(default: object) -> str:
    if isinstance(default, tuple):
        # The broker's default password is RabbitMQ's own and known to everyone: it is shown, so that it can be copied.
        default = tuple(item.get_secret_value() if isinstance(item, SecretUrl) else item for item in default)
    text = _display_text(default)
    return f"`{text}`" if text else "empty"
