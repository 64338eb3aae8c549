"""Settings of the fake DCS: quotas as text, merge patches, validation."""

import pytest
from pydantic import ValidationError

from worker.tools.fake_dcs.settings import FakeDcsSettings, Quota


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
    assert Quota.model_validate(text) == quota


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
