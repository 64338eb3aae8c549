"""The stand-in's pure parts: steps, chance, quota windows, settings."""

import pytest
from pydantic import ValidationError

from worker.tools.standin.faults import Faults
from worker.tools.standin.quota import Quotas
from worker.tools.standin.record import masked
from worker.tools.standin.settings import Quota, StandInSettings
from worker.tools.standin.steps import Step, read_step


@pytest.mark.parametrize(
    ("text", "ending", "creates", "status", "code"),
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
def test_a_step_is_read(text: str, ending: str, creates: bool, status: int, code: str) -> None:
    """Every line of the table becomes the ending it names."""
    step = read_step(text)

    assert (step.text, step.ending, step.creates, step.status, step.code) == (text, ending, creates, status, code)


def test_a_step_carries_its_numbers() -> None:
    """Durations, windows, bodies and both forms of Retry-After are taken from the words."""
    assert read_step("create late 3").seconds == 3.0
    assert read_step("throttle 10/30 second retry after 7") == Step(
        "throttle 10/30 second retry after 7",
        "error",
        status=429,
        code="APIGW.0308",
        window="10/30 second",
        retry=("after", 7),
    )
    reply = read_step('reply 503 {"error": {"code": 1}} retry at 9')
    assert (reply.body, reply.retry) == ('{"error": {"code": 1}}', ("at", 9))


@pytest.mark.parametrize(
    "text",
    ["", "OK", "explode", "slow", "slow -1", "create then ok", "error 99", "throttle 5/day", "drop retry after 1"],
)
def test_what_is_no_step_is_refused(text: str) -> None:
    """A misspelt step is an error that quotes it, not a step that does nothing."""
    with pytest.raises(ValueError, match="is not a fault step"):
        read_step(text)


def test_a_script_plays_in_order_and_its_last_step_repeats() -> None:
    """Names have scripts of their own; a changed script starts again, an unchanged one goes on."""
    faults = Faults()
    old = StandInSettings(scripts={"a": ["drop", "hang", "ok"], "b": ["html", "ok"]})
    assert [faults.of_create(old, "p", "a").text for _ in range(4)] == ["drop", "hang", "ok", "ok"]
    assert faults.of_create(old, "p", "b").text == "html"

    new = old.changed({"scripts": {"a": ["close", "ok"]}})
    faults.forget_changed(old, new)

    assert faults.of_create(new, "p", "a").text == "close"
    assert faults.of_create(new, "p", "b").text == "ok"


def test_a_project_may_have_a_script() -> None:
    """A project's script meets its tasks whatever their names, unless a name has one of its own."""
    settings = StandInSettings(project_scripts={"poor": ["error 400 DCS.4035"]}, scripts={"special": ["ok"]})
    faults = Faults()

    assert faults.of_create(settings, "poor", "any").text == "error 400 DCS.4035"
    assert faults.of_create(settings, "poor", "special").text == "ok"
    assert faults.of_create(settings, "rich", "any").text == "ok"


def test_chance_depends_on_seed_name_and_turn_only() -> None:
    """The same names meet the same faults in any order of arrival; the shares are about the probabilities."""
    settings = StandInSettings(seed=7, faults={"drop": 0.2, "error 503": 0.1})
    names = [f"task-{number}" for number in range(2000)]
    forwards, backwards = Faults(), Faults()

    there = {name: forwards.of_create(settings, "p", name).text for name in names}
    back = {name: backwards.of_create(settings, "p", name).text for name in reversed(names)}

    assert there == back
    share = {text: list(there.values()).count(text) / len(names) for text in ("drop", "error 503", "ok")}
    assert share == pytest.approx({"drop": 0.2, "error 503": 0.1, "ok": 0.7}, abs=0.03)
    other = settings.changed({"seed": 8})
    assert there != {name: Faults().of_create(other, "p", name).text for name in names}


def test_a_quota_window_slides() -> None:
    """The window admits so many calls, refuses more without counting them, and forgets what is older than it."""
    quotas, settings = Quotas(), StandInSettings(quota=Quota(limit=2))

    refused = [quotas.refuses(settings, "p", now) is not None for now in (0.0, 0.5, 0.9, 0.99, 1.0, 1.4, 1.5)]

    assert refused == [False, False, True, True, False, True, False]


def test_a_quota_is_for_all_or_per_project() -> None:
    """Shared by default; per project each has a window of its own; a project's own quota goes before the shared."""
    shared = StandInSettings(quota=Quota(limit=1))
    apart = StandInSettings(quota=Quota(limit=1, per="project"))
    own = StandInSettings(quota=Quota(limit=1), project_quotas={"vip": Quota(limit=2)})

    def refused(settings: StandInSettings, *projects: str) -> list[bool]:
        quotas = Quotas()
        return [quotas.refuses(settings, project, 0.0) is not None for project in projects]

    assert refused(shared, "a", "b") == [False, True]
    assert refused(apart, "a", "b", "a") == [False, False, True]
    assert refused(own, "a", "b", "vip", "vip", "vip") == [False, True, False, False, True]


def test_refused_calls_may_count() -> None:
    """With `counts_refused` a caller that keeps hammering stays locked out."""
    quotas, settings = Quotas(), StandInSettings(quota=Quota(limit=1, counts_refused=True))

    assert [quotas.refuses(settings, "p", now) is not None for now in (0.0, 0.6, 1.2, 2.3)] == [
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
    settings = StandInSettings.model_validate(
        {"latency": 1, "quota": {"limit": 3, "unit": "minute"}, "auth": {"mode": "token", "token": "abc"}}
    )

    changed = settings.changed({"latency": None, "quota": {"limit": 4}, "auth": {"mode": "iam"}})

    assert (changed.latency, changed.quota) == (0.0, Quota(limit=4, unit="minute"))
    assert (changed.auth.mode, changed.auth.token.get_secret_value()) == ("iam", "abc")
    assert changed.changed({"quota": None}).quota is None
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
        StandInSettings().changed(patch)


def test_recorded_headers_keep_no_secret() -> None:
    """A token becomes a fingerprint, a signature too; the access key and the signed names stay readable."""
    kept = masked(
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
    assert kept["X-Auth-Token"] != masked({"X-Auth-Token": "another-token"})["X-Auth-Token"]
