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
def test_a_step_is_read(text: str, kind: str, creates: bool, status: int, code: str) -> None:
    """Every line of the table becomes the ending it names."""
    step = parse_step(text)

    assert (step.text, step.response_kind, step.creates, step.status, step.code) == (text, kind, creates, status, code)


def test_a_step_carries_its_numbers() -> None:
    """Durations, windows, bodies and both forms of Retry-After are taken from the words."""
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
def test_what_is_no_step_is_refused(text: str) -> None:
    """A misspelt step is an error that quotes it, not a step that does nothing."""
    with pytest.raises(ValueError, match="is not a fault step"):
        parse_step(text)


def test_a_script_plays_in_order_and_its_last_step_repeats() -> None:
    """Names have scripts of their own; a changed script starts again, an unchanged one goes on."""
    faults = FaultSelector()
    old = FakeDcsSettings(scripts={"a": ["drop", "hang", "ok"], "b": ["html", "ok"]})
    assert [faults.step_for_create(old, "p", "a").text for _ in range(4)] == ["drop", "hang", "ok", "ok"]
    assert faults.step_for_create(old, "p", "b").text == "html"

    new = old.merged({"scripts": {"a": ["close", "ok"]}})
    faults.restart_changed_scripts(old, new)

    assert faults.step_for_create(new, "p", "a").text == "close"
    assert faults.step_for_create(new, "p", "b").text == "ok"


def test_a_project_may_have_a_script() -> None:
    """A project's script meets its tasks whatever their names, unless a name has one of its own."""
    settings = FakeDcsSettings(project_scripts={"poor": ["error 400 DCS.4035"]}, scripts={"special": ["ok"]})
    faults = FaultSelector()

    assert faults.step_for_create(settings, "poor", "any").text == "error 400 DCS.4035"
    assert faults.step_for_create(settings, "poor", "special").text == "ok"
    assert faults.step_for_create(settings, "rich", "any").text == "ok"


def test_chance_depends_on_seed_name_and_turn_only() -> None:
    """The same names meet the same faults in any order of arrival; the shares are about the probabilities."""
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


def test_a_quota_window_slides() -> None:
    """The window admits so many calls, refuses more without counting them, and forgets what is older than it."""
    quotas, settings = QuotaWindows(), FakeDcsSettings(quota=Quota(limit=2))

    refused = [quotas.exceeded_quota(settings, "p", now) is not None for now in (0.0, 0.5, 0.9, 0.99, 1.0, 1.4, 1.5)]

    assert refused == [False, False, True, True, False, True, False]


def test_a_quota_is_for_all_or_per_project() -> None:
    """Shared by default; per project each has a window of its own; a project's own quota goes before the shared."""
    shared = FakeDcsSettings(quota=Quota(limit=1))
    apart = FakeDcsSettings(quota=Quota(limit=1, per="project"))
    own = FakeDcsSettings(quota=Quota(limit=1), project_quotas={"vip": Quota(limit=2)})

    def refused(settings: FakeDcsSettings, *projects: str) -> list[bool]:
        quotas = QuotaWindows()
        return [quotas.exceeded_quota(settings, project, 0.0) is not None for project in projects]

    assert refused(shared, "a", "b") == [False, True]
    assert refused(apart, "a", "b", "a") == [False, False, True]
    assert refused(own, "a", "b", "vip", "vip", "vip") == [False, True, False, False, True]


def test_refused_calls_may_count() -> None:
    """With `counts_refused` a caller that keeps hammering stays locked out."""
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
def test_a_quota_is_read(text: str, quota: Quota) -> None:
    """A quota can be said in words."""
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
def test_wrong_settings_are_refused(patch: dict[str, object]) -> None:
    """Unknown members, unknown steps and impossible numbers never pass silently."""
    with pytest.raises(ValidationError):
        FakeDcsSettings().merged(patch)


def test_recorded_headers_keep_no_secret() -> None:
    """A token becomes a fingerprint, a signature too; the access key and the signed names stay readable."""
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
