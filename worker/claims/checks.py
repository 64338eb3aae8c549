"""The check of Redis for `dcs-worker doctor`: its answers to PING, GET and INFO; nothing is written."""

import asyncio
from collections.abc import Mapping
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from worker.claims.connection import choose_address, close, describe, make_client
from worker.claims.scripts import MEMORY_KEY
from worker.policy.diagnostics import Check, FailureKind, OnCheck, failed, ok, warning

TIMEOUT_SECONDS: Final = 3.0
OLDEST_VERSION: Final = (6, 0)
NEARLY_FULL: Final = 0.8
NAME: Final = "Redis"
VARIABLE: Final = "WORKER_CLAIMS_URL"
MORE_MEMORY: Final = "redis-cli CONFIG SET maxmemory BYTES, with more than now"


async def check_redis(url: str, on_check: OnCheck) -> None:
    """Check whether the Redis at `url` can hold claims."""
    try:
        client = make_client(url)
    except ValueError as error:
        on_check(failed(NAME, f"the URL {error}", f"correct {VARIABLE}", failure_kind=FailureKind.CONFIGURATION))
        return
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await choose_address(client)
            await client.ping()
            await client.get(MEMORY_KEY)
            checks = await _info_checks(client)
    except (RedisError, OSError, TimeoutError) as error:
        remedy = f"start Redis, or correct {VARIABLE}; meanwhile locks on the broker stand in for claims"
        checks = [failed(NAME, describe(error), remedy, failure_kind=FailureKind.UNREACHABLE)]
    finally:
        await close(client)
    for check in checks:
        on_check(check)


async def _info_checks(client: Redis) -> list[Check]:
    try:
        info = await client.info()
    except ResponseError:
        remedy = "permit this user the command INFO, or ask `redis-cli INFO` as another one"
        return [warning(NAME, "answers, but does not say its version, role and memory policy", remedy)]
    return judged({str(name): str(value) for name, value in info.items()})


def judged(info: Mapping[str, str]) -> list[Check]:
    """The findings about what INFO says."""
    version = info.get("redis_version", "")
    checks = [_version(version)]
    if info.get("role", "master") != "master":
        found = "is a replica: claims cannot be written"
        checks.append(failed("Redis role", found, f"put the address of the primary into {VARIABLE}"))
    if info.get("cluster_enabled", "0") == "1":
        remedy = f"put the address of a proxy, or of a Redis that is no cluster, into {VARIABLE}"
        checks.append(warning("Redis role", "is a cluster: claims need an endpoint that routes", remedy))
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        remedy = "free disk space, or `redis-cli CONFIG SET stop-writes-on-bgsave-error no`"
        checks.append(warning("Redis disk", "its last save failed: it may refuse writes", remedy))
    checks.append(_memory(info))
    return checks


def _version(version: str) -> Check:
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    if tuple(numbers) < OLDEST_VERSION:
        found = f"Redis {version or 'of an unknown version'}: claims are written for 6.0 and newer"
        return failed(NAME, found, "upgrade Redis")
    return ok(NAME, f"Redis {version} answers and lets us read")


def _memory(info: Mapping[str, str]) -> Check:
    name, policy = "Redis memory", info.get("maxmemory_policy", "unknown")
    most, used = (int(info.get(member, "0") or 0) for member in ("maxmemory", "used_memory"))
    if policy == "noeviction" and most and used >= most:
        return failed(name, "is full: claims cannot be written", MORE_MEMORY)
    if policy == "noeviction" and most and used >= NEARLY_FULL * most:
        return warning(name, f"{used / most:.0%} is used; when it is full, claims cannot be written", MORE_MEMORY)
    if policy != "noeviction" and most:
        found = f"the eviction policy is {policy}: claims may vanish while they hold"
        return warning(name, found, "redis-cli CONFIG SET maxmemory-policy noeviction")
    if policy != "noeviction":
        return ok(name, f"no limit is set, so the eviction policy {policy} does not matter")
    return ok(name, "nothing is evicted")
