"""State of the fake DCS: positions in fault scripts, faults by chance, quota windows."""

import pytest

from worker.tools.fake_dcs import FakeDcsSettings, Quota
from worker.tools.fake_dcs.state import FaultSelector, QuotaWindows


def test_last_step_of_script_repeats() -> None:
    """Each name has its own script; a changed script restarts, an unchanged one continues."""
    faults = FaultSelector()
    old = FakeDcsSettings(scripts={"a": ["drop", "hang", "ok"], "b": ["html", "ok"]})
    assert [faults.step_for_create(old, "p", "a").text for _ in range(4)] == ["drop", "hang", "ok", "ok"]
    assert faults.step_for_create(old, "p", "b").text == "html"

    new = old.merged({"scripts": {"a": ["close", "ok"]}})

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
