"""Parts of a worker that are built from the settings."""

from pathlib import Path
from typing import Any

import pytest

from worker.bootstrap import components
from worker.claims import redis_claims
from worker.config import ConfigurationError, load


def test_profile_without_keys_stops_the_start(tmp_path: Path) -> None:
    """No other way is tried in its place, whose keys would be another identity's; named or found in the home folder."""
    path = tmp_path / ".huaweicloud" / "credentials"
    path.parent.mkdir()
    path.write_text("[default]\nak = SHOWN\nsk = SHOWN\n")
    for environment in ({"HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(path)}, {"HOME": str(tmp_path)}):
        loaded = load({"WORKER_CREDENTIALS": "platform", **environment}, folder=tmp_path)
        with pytest.raises(ConfigurationError) as caught:
            components.profile(loaded.settings)
        assert caught.value.problems == (
            f"HUAWEICLOUD_SDK_CREDENTIALS_FILE: {path} must have usable ak and sk, or idp_id and id_token_file, "
            "in its section basic or global",
        )


class RecordedClaims(redis_claims.RedisClaims):
    """Claims that record with which options they are made."""

    options: dict[str, Any]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        type(self).options = options


@pytest.mark.parametrize(
    ("claims_away", "dcs_timeout", "lease", "late_reports", "call_seconds"),
    [("look", 30, 30.0, 0, None), ("pause", 30, 45.0, 64, 30.0), ("pause", 10, 30.0, 64, 10.0)],
)
async def test_only_under_pause_claims_outlast_a_call_and_redis_is_told_later(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    claims_away: str,
    dcs_timeout: float,
    lease: float,
    late_reports: int,
    call_seconds: float | None,
) -> None:
    """Under `look` a replica whose Redis is away works like one without claims: nothing is kept for Redis."""
    monkeypatch.setattr(redis_claims, "RedisClaims", RecordedClaims)
    environment = {
        "WORKER_AUTH_TOKEN": "token",
        "WORKER_CLAIMS_URL": "redis://127.0.0.1:1/0",
        "WORKER_CLAIMS_AWAY": claims_away,
        "WORKER_DCS_TIMEOUT": str(dcs_timeout),
    }
    observer: Any = None
    assert components.claims(load(environment, folder=tmp_path), observer, lambda _: None) is not None
    found = RecordedClaims.options
    assert (found["lease"], found["late_reports"], found["call_seconds"]) == (lease, late_reports, call_seconds)


def test_a_lookup_in_all_has_the_deadline_of_a_call(tmp_path: Path) -> None:
    """Law `look-before-create`."""
    loaded = load({"WORKER_AUTH_TOKEN": "token", "WORKER_DCS_TIMEOUT": "20"}, folder=tmp_path)
    assert components.retry_policy(loaded.settings).lookup_timeout == 20.0
