"""What `doctor` makes of the words of Redis."""

import pytest

from worker.claims.checks import check_redis, judged
from worker.policy.diagnostics import Check, CheckResult, FailureKind

HEALTHY = {
    "redis_version": "7.0.15",
    "role": "master",
    "cluster_enabled": "0",
    "rdb_last_bgsave_status": "ok",
    "maxmemory": "0",
    "used_memory": "1000",
    "maxmemory_policy": "noeviction",
}


def _results(**changes: str) -> dict[str, CheckResult]:
    return {check.name: check.result for check in judged({**HEALTHY, **changes})}


def test_a_healthy_redis_is_well() -> None:
    """Version and memory are told."""
    assert _results() == {"Redis": CheckResult.OK, "Redis memory": CheckResult.OK}


@pytest.mark.parametrize(
    ("changes", "name", "result"),
    [
        ({"redis_version": "5.0.14"}, "Redis", CheckResult.FAILED),
        ({"redis_version": ""}, "Redis", CheckResult.FAILED),
        ({"redis_version": "6.0.0"}, "Redis", CheckResult.OK),
        ({"role": "slave"}, "Redis role", CheckResult.FAILED),
        ({"cluster_enabled": "1"}, "Redis role", CheckResult.WARNING),
        ({"rdb_last_bgsave_status": "err"}, "Redis disk", CheckResult.WARNING),
        ({"maxmemory": "1000", "used_memory": "1000"}, "Redis memory", CheckResult.FAILED),
        ({"maxmemory": "5000"}, "Redis memory", CheckResult.OK),
        ({"maxmemory": "1251"}, "Redis memory", CheckResult.OK),
        ({"maxmemory": "1250"}, "Redis memory", CheckResult.WARNING),
        ({"maxmemory": "5000", "maxmemory_policy": "allkeys-lru"}, "Redis memory", CheckResult.WARNING),
        ({"maxmemory_policy": "allkeys-lru"}, "Redis memory", CheckResult.OK),
    ],
)
def test_redis_settings_that_harm_claims_are_reported(changes: dict[str, str], name: str, result: CheckResult) -> None:
    """A replica cannot be written, an eviction takes claims away, an old version lacks what scripts need."""
    assert _results(**changes)[name] is result


async def test_an_option_that_is_not_known_is_a_matter_of_configuration() -> None:
    """The URL, which may hold a password, is not repeated."""
    checks: list[Check] = []
    await check_redis("redis://:hunter2@127.0.0.1:6379/0?timeout=never", checks.append)

    (check,) = checks
    assert (check.result, check.failure_kind) == (CheckResult.FAILED, FailureKind.CONFIGURATION)
    assert "hunter2" not in f"{check}"
