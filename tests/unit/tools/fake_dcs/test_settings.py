"""The fake DCS's pure parts: steps, chance, quota windows, settings."""

import pytest
from pydantic import ValidationError

from worker.tools.fake_dcs.call_log import redact_headers
from worker.tools.fake_dcs.fault_selection import FaultSelector, QuotaWindows
from worker.tools.fake_dcs.fault_steps import FaultStep, parse_step
from worker.tools.fake_dcs.settings import FakeDcsSettings, Quota


@pytest.mark.parametrize(
    ("text", "kind", "creates", "status", "code"),
    [
        ("ok", "answer", True, 200, ""),
        ("slow 0.5", "answer", True, 200, ""),
        ("create late 3", "late", False, 200, ""),
        ("drop", "drop", False, 200, ""),
        ("create then drop", "drop", True, 200, ""),
        ("create then hang", "hang", True, 200, ""),
        ("no id", "no id", False, 200, ""),
        ("error 500", "error", False, 500, "DCS.5000"),
        ("create then error 504 APIGW.0201", "error", True, 504, "APIGW.0201"),
        ("throttle", "error", False, 429, "APIGW.0308"),
        ("reply 200", "reply", False, 200, ""),
    ],
)
def test_step_is_parsed(text: str, kind: str, creates: bool, status: int, code: str) -> None:
    """Every line of the table becomes its response kind."""
    step = parse_step(text)

    assert (step.text, step.response_kind, step.creates, step.status, step.code) == (text, kind, creates, status, code)


def test_step_numbers_are_parsed() -> None:
    """Durations, windows, bodies and both forms of Retry-After are parsed."""
    assert parse_step("create late 3").seconds == 3.0
    assert parse_step("throttle 10/30 second retry after 7") == FaultStep(
        "throttle 10/30 second retry after 7",
        "error",
        status=429,
        code="APIGW.0308",
        window="10/30 second",
        retry=("after", 7),
    )
    reply = parse_step('reply 503 {"error": {"code": 1}} retry at 9')
    assert (reply.body, reply.retry) == ('{"error": {"code": 1}}', ("at", 9))


@pytest.mark.parametrize(
    "text",
    ["", "OK", "explode", "slow", "slow -1", "create then ok", "error 99", "throttle 5/day", "drop retry after 1"],
)
def test_invalid_step_is_rejected(text: str) -> None:
    """A misspelt step is an error that quotes it."""
    with pytest.raises(ValueError, match="is not a fault step"):
        parse_step(text)


def test_last_step_of_script_repeats() -> None:
    """Each name has its own script; a changed script restarts, an unchanged one continues."""
    faults = FaultSelector()
    old = FakeDcsSettings(scripts={"a": ["drop", "hang", "ok"], "b": ["html", "ok"]})
    assert [faults.step_for_create(old, "p", "a").text for _ in range(4)] == ["drop", "hang", "ok", "ok"]
    assert faults.step_for_create(old, "p", "b").text == "html"

    new = old.merged({"scripts": {"a": ["close", "ok"]}})
    faults.restart_changed_scripts(old, new)

    assert faults.step_for_create(new, "p", "a").text == "close"
    assert faults.step_for_create(new, "p", "b").text == "ok"


def test_project_script_applies_to_its_tasks() -> None:
    """A project's script applies to its tasks, unless a name has its own."""
    settings = FakeDcsSettings(project_scripts={"poor": ["error 400 DCS.4035"]}, scripts={"special": ["ok"]})
    faults = FaultSelector()

    assert faults.step_for_create(settings, "poor", "any").text == "error 400 DCS.4035"
    assert faults.step_for_create(settings, "poor", "special").text == "ok"
    assert faults.step_for_create(settings, "rich", "any").text == "ok"


def test_chance_depends_on_seed_name_and_number() -> None:
    """The same names get the same faults in any order of arrival; the shares match the probabilities."""
    settings = FakeDcsSettings(seed=7, faults={"drop": 0.2, "error 503": 0.1})
    names = [f"task-{number}" for number in range(2000)]
    forwards, backwards = FaultSelector(), FaultSelector()

    there = {name: forwards.step_for_create(settings, "p", name).text for name in names}
    back = {name: backwards.step_for_create(settings, "p", name).text for name in reversed(names)}

    assert there == back
    share = {text: list(there.values()).count(text) / len(names) for text in ("drop", "error 503", "ok")}
    assert share == pytest.approx({"drop": 0.2, "error 503": 0.1, "ok": 0.7}, abs=0.03)
    other = settings.merged({"seed": 8})
    assert there != {name: FaultSelector().step_for_create(other, "p", name).text for name in names}


def test_quota_window_slides() -> None:
    """The window admits its limit, rejects more without counting them, and forgets older calls."""
    quotas, settings = QuotaWindows(), FakeDcsSettings(quota=Quota(limit=2))

    refused = [quotas.exceeded_quota(settings, "p", now) is not None for now in (0.0, 0.5, 0.9, 0.99, 1.0, 1.4, 1.5)]

    assert refused == [False, False, True, True, False, True, False]


def test_quota_is_shared_or_per_project() -> None:
    """Shared by default; per project each has a separate window; a project's own quota takes precedence."""
    shared = FakeDcsSettings(quota=Quota(limit=1))
    apart = FakeDcsSettings(quota=Quota(limit=1, per="project"))
    own = FakeDcsSettings(quota=Quota(limit=1), project_quotas={"vip": Quota(limit=2)})

    def refused(settings: FakeDcsSettings, *projects: str) -> list[bool]:
        quotas = QuotaWindows()
        return [quotas.exceeded_quota(settings, project, 0.0) is not None for project in projects]

    assert refused(shared, "a", "b") == [False, True]
    assert refused(apart, "a", "b", "a") == [False, False, True]
    assert refused(own, "a", "b", "vip", "vip", "vip") == [False, True, False, False, True]


def test_rejected_calls_can_count() -> None:
    """With `counts_refused` a caller that never pauses stays rejected."""
    quotas, settings = QuotaWindows(), FakeDcsSettings(quota=Quota(limit=1, counts_refused=True))

    assert [quotas.exceeded_quota(settings, "p", now) is not None for now in (0.0, 0.6, 1.2, 2.3)] == [
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("100/second", Quota(limit=100)),
        ("10/30 second", Quota(limit=10, time=30)),
        ("5/minute per project", Quota(limit=5, unit="minute", per="project")),
    ],
)
def test_quota_is_parsed(text: str, quota: Quota) -> None:
    """A quota can be given as text."""
    assert Quota.read(text) == quota


def test_settings_change_by_merge_patch() -> None:
    """Only named members change, null restores a default, and nested members are merged."""
    settings = FakeDcsSettings.model_validate(
        {"latency": 1, "quota": {"limit": 3, "unit": "minute"}, "auth": {"mode": "token", "token": "abc"}}
    )

    merged = settings.merged({"latency": None, "quota": {"limit": 4}, "auth": {"mode": "iam"}})

    assert (merged.latency, merged.quota) == (0.0, Quota(limit=4, unit="minute"))
    assert (merged.auth.mode, merged.auth.token.get_secret_value()) == ("iam", "abc")
    assert merged.merged({"quota": None}).quota is None
    assert settings.latency == 1.0


@pytest.mark.parametrize(
    "patch",
    [
        {"latncy": 1},
        {"scripts": {"a": ["explode"]}},
        {"scripts": {"a": []}},
        {"operation_scripts": {"list": ["create then drop"]}},
        {"faults": {"drop": 0.6, "hang": 0.5}},
        {"quota": {"limit": 0}},
        {"down": "yes"},
    ],
)
def test_invalid_settings_are_rejected(patch: dict[str, object]) -> None:
    """Unknown members, unknown steps and impossible numbers are errors."""
    with pytest.raises(ValidationError):
        FakeDcsSettings().merged(patch)


def test_recorded_headers_have_no_secret() -> None:
    """A token becomes a fingerprint, a signature too; access key and signed names stay readable."""
    kept = redact_headers(
        {
            "X-Auth-Token": "secret-token",
            "X-Security-Token": "secret-sts",
            "Authorization": "SDK-HMAC-SHA256 Access=AK, SignedHeaders=host, Signature=5ec4e7",
            "Accept": "*/*",
        }
    )

    assert "secret" not in str(kept)
    assert "5ec4e7" not in str(kept)
    assert kept["Authorization"].startswith("SDK-HMAC-SHA256 Access=AK, SignedHeaders=host, Signature=***")
    assert kept["Accept"] == "*/*"
    assert kept["X-Auth-Token"] != redact_headers({"X-Auth-Token": "another-token"})["X-Auth-Token"]
