"""Settings of the fake DCS: one frozen value, which a change replaces.

A change is a JSON merge patch (RFC 7396) over the current settings: only the named members change, null restores a
member's default. All durations are seconds.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from worker.tools.fake_dcs.fault_steps import WINDOW, creates_no_task, parse_step

Operation = Literal["create", "list", "show", "token", "projects", "metadata"]
Dates = Literal["documented", "iso", "slashes", "digits", "nonsense", "null"]


def _is_step(text: str) -> str:
    parse_step(text)
    return text


def _is_plain_step(text: str) -> str:
    if not creates_no_task(parse_step(text)):
        msg = f"{text!r} creates a task, which only a create call can"
        raise ValueError(msg)
    return text


StepText = Annotated[str, AfterValidator(_is_step)]
Script = Annotated[list[StepText], Field(min_length=1)]
PlainScript = Annotated[list[Annotated[str, AfterValidator(_is_plain_step)]], Field(min_length=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class _FrozenModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quota(_FrozenModel):
    """At most `limit` calls in any window of `time` units; further calls are answered with 429 and do nothing."""

    limit: int = Field(gt=0)
    time: int = Field(default=1, gt=0)
    unit: Literal["second", "minute"] = "second"
    per: Literal["everyone", "project"] = "everyone"
    policy: Literal["user", "ip", "api"] = "user"
    counts_refused: bool = False
    retry_after: int | None = Field(default=None, ge=0)

    @property
    def window(self) -> float:
        """The length of the window in seconds."""
        return self.time * (60.0 if self.unit == "minute" else 1.0)

    @classmethod
    def read(cls, text: str) -> Self:
        """Parse `100/second`, `10/30 second` or `5/minute per project`. Raises ValueError."""
        found = re.fullmatch(rf"({WINDOW})( per project)?", text)
        if found is None:
            msg = f"{text!r} is not a quota such as 100/second or 5/minute per project"
            raise ValueError(msg)
        limit, _, window = found[1].partition("/")
        time, _, unit = window.rpartition(" ")
        per = "project" if found[2] else "everyone"
        return cls.model_validate({"limit": int(limit), "time": int(time or 1), "unit": unit, "per": per})


class Auth(_FrozenModel):
    """Which credentials the API demands, and the right ones.

    `token`: exactly this token. `iam`: a token of the same project that the fake DCS's IAM issued. `aksk`: a
    signature by the access key, or by temporary keys of the metadata service.
    """

    mode: Literal["none", "token", "iam", "aksk"] = "none"
    token: SecretStr = SecretStr("stand-in-token")
    access_key: str = "STANDINACCESSKEY0001"
    secret_key: SecretStr = SecretStr("stand-in-secret-key-of-forty-characters0")
    security_token: SecretStr | None = None
    clock_tolerance: Seconds = 900.0
    domain: str = "stand-in-domain"
    user: str = "stand-in-user"
    password: SecretStr = SecretStr("stand-in-password")
    token_seconds: Seconds = 86_400.0
    refuse_passwords: bool = False
    temporary_key_seconds: Seconds = 86_400.0
    lock_after: int = Field(default=0, ge=0)
    lock_seconds: Seconds = 300.0


class FakeDcsSettings(_FrozenModel):
    """How the fake DCS behaves; the defaults are a healthy service.

    - `seed`, `faults`: fault steps by probability. Which POST meets which fault depends only on the seed, the task's
      name and how often that name was posted, never on the order of arrival.
    - `scripts` (by task name), `project_scripts` (by project) and `operation_scripts` (calls that create nothing) go
      before `faults`, in this order.
    - `visibility`: delay until a created task appears in list and detail.
    - `latency`: of every admitted call, before it acts. `capacity`: number of calls at once from which on the latency
      grows in proportion (0: never).
    - `quota`, and `project_quotas` instead of it for single projects.
    - `down`: `unavailable` answers every API call with 503, `refuse` stops listening; `down_seconds`: duration.
    - `forbidden`: operations answered with 403.
    - `mixed_types`: beside every listed task a `backupfile_import` row of the same name.
    - `clock_offset`: how far the service's clock is ahead.
    """

    seed: int = 0
    faults: dict[StepText, Probability] = {}
    scripts: dict[str, Script] = {}
    project_scripts: dict[str, Script] = {}
    operation_scripts: dict[Literal["list", "show", "token", "projects", "metadata"], PlainScript] = {}
    visibility: Seconds = 0.0
    latency: Seconds = 0.0
    capacity: int = Field(default=0, ge=0)
    quota: Quota | None = None
    project_quotas: dict[str, Quota] = {}
    down: Literal["no", "unavailable", "refuse"] = "no"
    down_seconds: Seconds | None = None
    auth: Auth = Auth()
    projects: dict[str, str] = {"cn-north-4": "0123456789abcdef0123456789abcdef"}
    forbidden: frozenset[Operation] = frozenset()
    job_id: bool = True
    fuzzy_name: bool = True
    descriptions: bool = True
    dates: Dates = "documented"
    mixed_types: bool = False
    clock_offset: float = 0.0

    @model_validator(mode="after")
    def _chances_fit(self) -> Self:
        if sum(self.faults.values()) > 1:
            msg = "the probabilities of the faults add up to more than 1"
            raise ValueError(msg)
        return self

    def merged(self, patch: Mapping[str, Any]) -> Self:
        """These settings after a JSON merge patch. Raises pydantic's ValidationError."""
        return type(self).model_validate(_merge(self.model_dump(), patch))


def _merge(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = {name: value for name, value in old.items() if name not in patch or patch[name] is not None}
    for name, value in patch.items():
        if isinstance(value, Mapping):
            present = merged.get(name)
            merged[name] = _merge(present if isinstance(present, Mapping) else {}, value)
        elif value is not None:
            merged[name] = value
    return merged
