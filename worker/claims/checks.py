"""The check of Redis: what it says of itself, without writing anything."""

import asyncio
from collections.abc import Mapping
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from worker.claims.client import client_factory, close, describe
from worker.claims.scripts import MEMORY_KEY
from worker.policy.diagnostics import Check, FailureKind, OnCheck, failed, ok, warning

TIMEOUT_SECONDS: Final = 3.0
OLDEST: Final = (6, 0)
NAME: Final = "Redis"
VARIABLE: Final = "WORKER_CLAIMS_URL"


async def check_redis(url: str, tell: OnCheck) -> None:
    """Tell whether the Redis at `url` can hold claims."""
    try:
        client = client_factory(url)()
    except ValueError as error:
        tell(failed(NAME, f"the URL {error}", f"correct {VARIABLE}", failure_kind=FailureKind.CONFIGURATION))
        return
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await client.ping()
            await client.get(MEMORY_KEY)
            said = await _info(client)
    except (RedisError, OSError, TimeoutError) as error:
        tell(_away(describe(error)))
        return
    finally:
        await close(client)
    if said is None:
        remedy = "permit this user the command INFO, or ask `redis-cli INFO` as another one"
        tell(warning(NAME, "answers, but does not say its version, role and memory policy", remedy))
        return
    for check in judged(said):
        tell(check)


async def _info(client: Redis) -> dict[str, str] | None:
    try:
        said = await client.info()
    except ResponseError:
        return None
    return {str(name): str(value) for name, value in said.items()}


def _away(reason: str) -> Check:
    remedy = f"start Redis, or correct {VARIABLE}; meanwhile locks on the broker stand in for claims"
    return failed(NAME, reason, remedy, failure_kind=FailureKind.UNREACHABLE)


def judged(said: Mapping[str, str]) -> list[Check]:
    """Judge what INFO says, member by member."""
    version = said.get("redis_version", "")
    checks = [_version(version)]
    if said.get("role", "master") != "master":
        found = "is a replica: claims cannot be written"
        checks.append(failed("Redis role", found, f"put the address of the primary into {VARIABLE}"))
    if said.get("cluster_enabled", "0") == "1":
        remedy = f"put the address of a proxy, or of a Redis that is no cluster, into {VARIABLE}"
        checks.append(warning("Redis role", "is a cluster: claims need an endpoint that routes", remedy))
    if said.get("rdb_last_bgsave_status", "ok") != "ok":
        remedy = "free disk space, or `redis-cli CONFIG SET stop-writes-on-bgsave-error no`"
        checks.append(warning("Redis disk", "its last save failed: it may refuse writes", remedy))
    checks.append(_memory(said))
    return checks


def _version(version: str) -> Check:
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    if tuple(numbers) < OLDEST:
        found = f"Redis {version or 'of an unknown version'}: claims are written for 6.0 and newer"
        return failed(NAME, found, "upgrade Redis")
    return ok(NAME, f"Redis {version} answers and lets us read")


def _memory(said: Mapping[str, str]) -> Check:
    name, policy = "Redis memory", said.get("maxmemory_policy", "unknown")
    most, used = (int(said.get(member, "0") or 0) for member in ("maxmemory", "used_memory"))
    if policy == "noeviction" and most and used >= most:
        return failed(
            name, "is full: claims cannot be written", "redis-cli CONFIG SET maxmemory BYTES, with more than now"
        )
    if policy != "noeviction" and most:
        found = f"the eviction policy is {policy}: claims may vanish while they hold"
        return warning(name, found, "redis-cli CONFIG SET maxmemory-policy noeviction")
    if policy != "noeviction":
        return ok(name, f"no limit is set, so the eviction policy {policy} does not matter")
    return ok(name, "nothing is evicted")
