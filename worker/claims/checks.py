"""The check of Redis: what it says of itself, without writing anything."""

from collections.abc import Mapping
from typing import Final

from redis.exceptions import RedisError

from worker.claims.reasons import in_words
from worker.claims.scripts import MEMORY_KEY
from worker.claims.wire import NoAnswer, Reply, Wire, dial, opened
from worker.policy.checkup import Check, Tell, Trouble, failed, ok, warning

DEADLINE: Final = 3.0
OLDEST: Final = (6, 0)
NAME: Final = "Redis"
VARIABLE: Final = "WORKER_CLAIMS_URL"
_PING: Final = b"*1\r\n$4\r\nPING\r\n"
_READ: Final = b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(MEMORY_KEY), MEMORY_KEY)
_INFO: Final = b"*1\r\n$4\r\nINFO\r\n"


async def check_redis(url: str, tell: Tell) -> None:
    """Tell whether the Redis at `url` can hold claims."""
    try:
        connect = dial(url)
    except ValueError as error:
        tell(failed(NAME, f"the URL {error}", f"correct {VARIABLE}", trouble=Trouble.CONFIGURATION))
        return
    try:
        async with opened(connect, DEADLINE) as wire:
            await _check(wire, tell)
    except (RedisError, OSError, TimeoutError) as error:
        tell(_away(in_words(error)))


async def _check(wire: Wire, tell: Tell) -> None:
    for command in (_PING, _READ):
        reply = await wire.ask(command)
        if isinstance(reply, NoAnswer):
            tell(_away(reply.reason))
            return
    said = _read(await wire.ask(_INFO))
    if said is None:
        remedy = "permit this user the command INFO, or ask `redis-cli INFO` as another one"
        tell(warning(NAME, "answers, but does not say its version, role and memory policy", remedy))
        return
    for check in judged(said):
        tell(check)


def _away(reason: str) -> Check:
    remedy = f"start Redis, or correct {VARIABLE}; meanwhile locks on the broker stand in for claims"
    return failed(NAME, reason, remedy, trouble=Trouble.UNREACHABLE)


def _read(reply: Reply) -> dict[str, str] | None:
    if not isinstance(reply, bytes):
        return None
    lines = reply.decode("utf-8", "replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


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
