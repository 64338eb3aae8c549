"""Settings of the fake DCS: one frozen value, which a change replaces.

A change is a JSON merge patch (RFC 7396) over the current settings: only the named members change, null restores a
member's default. All durations are seconds.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from worker.tools.fake_dcs.faults import WINDOW, parse_plain_step, parse_step

# A validated step stays text, so that /_settings shows it as it was given.
StepText = Annotated[str, AfterValidator(lambda text: parse_step(text).text)]
PlainStepText = Annotated[str, AfterValidator(lambda text: parse_plain_step(text).text)]
Script = Annotated[list[StepText], Field(min_length=1)]
PlainScript = Annotated[list[PlainStepText], Field(min_length=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class FrozenModel(BaseModel):
    """A settings value without unknown members."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Quota(FrozenModel):
    """At most `limit` calls in any window of `time` units; further calls are answered with 429 and do nothing.

    Also given as text: `100/second`, `10/30 second` or `5/minute per project`.
    """

    limit: int = Field(gt=0)
    time: int = Field(default=1, gt=0)
    unit: Literal["second", "minute"] = "second"
    per: Literal["everyone", "project"] = "everyone"
    policy: Literal["user", "ip", "api"] = "user"
    retry_after: int | None = Field(default=None, ge=0)

    @property
    def window(self) -> float:
        """The length of the window in seconds."""
        return self.time * (60.0 if self.unit == "minute" else 1.0)

    @property
    def error_text(self) -> str:
        """The gateway's text of a 429, which names the window."""
        window = f"limit:{self.limit},time:{self.time} {self.unit}"
        return f"The throttling threshold has been reached: policy {self.policy} over ratelimit,{window}"

    @model_validator(mode="before")
    @classmethod
    def _read(cls, text: object) -> object:
        if not isinstance(text, str):
            return text
        found = re.fullmatch(rf"({WINDOW})( per project)?", text)
        if found is None:
            msg = f"{text!r} is not a quota such as 100/second or 5/minute per project"
            raise ValueError(msg)
        limit, _, window = found[1].partition("/")
        time, _, unit = window.rpartition(" ")
        per = "project" if found[2] else "everyone"
        return {"limit": int(limit), "time": int(time or 1), "unit": unit, "per": per}


class Auth(FrozenModel):
    """Which credentials the API demands, and the right ones.

    `token`: exactly this token. `iam`: a token of the same project that the fake DCS's IAM issued. `aksk`: a
    signature by the access key, or by a temporary one. `platform`: by a temporary one, which services of the platform
    give to the holder of `workload_token`. `lock_after`: wrong passwords or signatures in a row that lock an account or
    a key for `lock_seconds` (0: never).
    """

    mode: Literal["none", "token", "iam", "aksk", "platform"] = "none"
    token: SecretStr = SecretStr("stand-in-token")
    access_key: str = "STANDINACCESSKEY0001"
    secret_key: SecretStr = SecretStr("stand-in-secret-key-of-forty-characters0")
    domain: str = "stand-in-domain"
    user: str = "stand-in-user"
    password: SecretStr = SecretStr("stand-in-password")
    token_seconds: Seconds = 86_400.0
    workload_token: SecretStr = SecretStr("stand-in-workload-token")
    temporary_key_seconds: Seconds = 86_400.0
    lock_after: int = Field(default=6, ge=0)
    lock_seconds: Seconds = 300.0


class FakeDcsSettings(FrozenModel):
    """How the fake DCS behaves; the defaults are a healthy service.

    - `seed`, `faults`: fault steps by probability. Which POST meets which fault depends only on the seed, the task's
      name and how often that name was posted, never on the order of arrival. List, detail and job calls only meet
      the named faults of the gateway.
    - `scripts` (by task name), `project_scripts` (by project) and `operation_scripts` (calls that create nothing) go
      before `faults`, in this order.
    - `visibility`: delay until a created task appears in list and detail. `provisioning`: how long it is CREATING.
    - `description_bytes`: where the descriptions of new tasks are cut.
    - `latency`: of every admitted call, before it acts. `capacity`: number of calls at once from which on the latency
      grows in proportion (0: never).
    - `quota`, and `project_quotas` instead of it for single projects.
    - `job_id`: whether the answer of a create has one. `fuzzy_name`: whether the list's filter finds parts of names.
    """

    seed: int = 0
    faults: dict[StepText, Probability] = {}
    scripts: dict[str, Script] = {}
    project_scripts: dict[str, Script] = {}
    operation_scripts: dict[str, PlainScript] = {}
    visibility: Seconds = 0.0
    provisioning: Seconds = 10.0
    description_bytes: int | None = Field(default=None, ge=0)
    latency: Seconds = 0.0
    capacity: int = Field(default=0, ge=0)
    quota: Quota | None = None
    project_quotas: dict[str, Quota] = {}
    auth: Auth = Auth()
    job_id: bool = True
    fuzzy_name: bool = True

    @model_validator(mode="after")
    def _probabilities_fit(self) -> Self:
        if sum(self.faults.values()) > 1:
            msg = "the probabilities of the faults add up to more than 1"
            raise ValueError(msg)
        return self

    def merged(self, patch: Mapping[str, Any]) -> Self:
        """These settings after a JSON merge patch. Raises pydantic's ValidationError."""
        return type(self).model_validate(_merge(self.model_dump(), patch))


def invalid_members(error: ValidationError) -> str:
    """What is wrong with settings, by member."""
    return "; ".join(
        ".".join(str(part) for part in detail["loc"] if part != "[key]")
        + (": " if detail["loc"] else "")
        + ("unknown setting" if detail["type"] == "extra_forbidden" else detail["msg"].removeprefix("Value error, "))
        for detail in error.errors()
    )


def _merge(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = {name: value for name, value in old.items() if name not in patch or patch[name] is not None}
    for name, value in patch.items():
        if isinstance(value, Mapping):
            present = merged.get(name)
            merged[name] = _merge(present if isinstance(present, Mapping) else {}, value)
        elif value is not None:
            merged[name] = value
    return merged
