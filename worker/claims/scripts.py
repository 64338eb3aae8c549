"""What happens inside Redis: every script is one atomic step on the one record of a request.

A record is a hash with `fingerprint` and `replays`, and one of

- a claim: `token` of the claimant and the server's time `until` which it holds, in ms;
- nothing more: the claim was released, the request will come back;
- `ending` and `succeeded`: the request is over.

`sent` is when a create may last have been in flight. A claim that ran out stays readable: its owner died and may
have a create in flight. Whoever comes later with another fingerprint is another request that uses the id again,
and changes nothing.

The scripts are sent whole (EVAL): Redis caches them by their text, and nothing has to be loaded again after a
restart or a failover. They touch one key, so a cluster behind a proxy can serve them. Redis 6.0 and later.
"""

from typing import Final

from worker.policy.order import Order

MEMORY_KEY: Final = b"dcs-worker:memory"
"""Since when, in epoch seconds, Redis has forgotten nothing."""

PROCESS_DIGITS: Final = 16
"""A token begins with so many digits that name the process; what follows counts its claims."""


def record_key(order: Order) -> bytes:
    """The key of the request's record; what stands in braces is what a cluster places it by."""
    return f"dcs-worker:{{{order.project_id}/{order.request_id}}}".encode()


def _bulk(part: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(part), part)


class Script:
    """A Lua script; called with a key and arguments it is the command that runs it (RESP array of bulk strings)."""

    def __init__(self, text: str) -> None:
        self._head = _bulk(b"EVAL") + _bulk(text.strip().encode()) + _bulk(b"1")

    def __call__(self, key: bytes, *arguments: bytes) -> bytes:
        """The command."""
        parts = b"".join([_bulk(part) for part in (key, *arguments)])
        return b"*%d\r\n%b%b" % (4 + len(arguments), self._head, parts)


READ_MEMORY: Final = b"*2\r\n" + _bulk(b"GET") + _bulk(MEMORY_KEY)

# Writes even what is there already: it is also the proof that this Redis lets us write.
REMEMBER: Final = Script("""
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
local since = redis.call('GET', KEYS[1])
if not tonumber(since) then since = now end
redis.call('SET', KEYS[1], since)
return since .. ' ' .. now - since
""")(MEMORY_KEY)
"""Since when Redis has forgotten nothing, and how many seconds that is by its own clock."""

TAKE: Final = Script(f"""
local fingerprint, ending, succeeded, replays, token, till, sent = unpack(redis.call('HMGET', KEYS[1],
  'fingerprint', 'ending', 'succeeded', 'replays', 'token', 'until', 'sent'))
if fingerprint and fingerprint ~= ARGV[2] then
  return ending and 'concluded ' .. ending or 'held ' .. fingerprint
end
local known = tonumber(replays or '0')
local reopened = ending and succeeded == '0' and known < tonumber(ARGV[3])
if ending and not reopened then return 'concluded ' .. ending end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if token and tonumber(till) > now and string.sub(token, 1, {PROCESS_DIGITS}) ~= string.sub(ARGV[1], 1, {PROCESS_DIGITS})
then
  return 'held ' .. fingerprint
end
if reopened then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'token', ARGV[1], 'until', now + ARGV[4],
  'replays', math.max(known, tonumber(ARGV[3])))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if reopened then return 'reopened ' .. ending end
if token then return 'lost' end
return fingerprint and 'free ' .. (sent or '') or 'new'
""")
"""token, fingerprint, replays, lease ms, keep ms -> a word and what goes with it; worker.claims.answers reads it.

A live claim of the same process is lost too: the process asks only for what it does not hold, so the answer that
granted it never arrived.
"""

RENEW: Final = Script("""
local fingerprint, ending, token, till, sent = unpack(redis.call('HMGET', KEYS[1],
  'fingerprint', 'ending', 'token', 'until', 'sent'))
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local is_other = token and token ~= ARGV[1]
if ending or (fingerprint and fingerprint ~= ARGV[2]) or (is_other and tonumber(till) > now) then return 0 end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'token', ARGV[1], 'until', now + ARGV[3])
if is_other then redis.call('HSET', KEYS[1], 'sent', math.max(now / 1000, tonumber(sent or '0'))) end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if token == ARGV[1] then return 1 end
return fingerprint and 3 or 2
""")
"""token, fingerprint, lease ms, keep ms -> one of the numbers below. What ran out in another's hands was lost there."""

GONE: Final = 0
"""The request is another's, or over."""
OURS: Final = 1
"""The claim was ours all the time."""
FORGOTTEN: Final = 2
"""There was no record."""
REGAINED: Final = 3
"""Nobody has the request, but somebody had it."""

CONCLUDE: Final = Script("""
local fingerprint, ending, succeeded, replays = unpack(redis.call('HMGET', KEYS[1],
  'fingerprint', 'ending', 'succeeded', 'replays'))
if fingerprint and fingerprint ~= ARGV[1] then return 0 end
if ending and succeeded == '1' then return ending end
local known, ours = tonumber(replays or '0'), tonumber(ARGV[4])
if ending and ours <= known then return ending end
if ARGV[3] == '0' and ours < known then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'ending', ARGV[2], 'succeeded', ARGV[3], 'replays', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
""")
"""fingerprint, ending, 1 if it succeeded, replays, keep ms -> 1 if stored, else the ending that stands, or 0.

The first ending stays, for it may have been told; any one replaces a failure of fewer replays by an operator. Whose
claim it was does not matter: that the request is over is true for all, and a claimant finds out as it renews.
"""

RELEASE: Final = Script("""
local fingerprint, ending, token, sent = unpack(redis.call('HMGET', KEYS[1],
  'fingerprint', 'ending', 'token', 'sent'))
if ending or (fingerprint and fingerprint ~= ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2])
if ARGV[3] ~= '' and (not sent or tonumber(sent) < tonumber(ARGV[3])) then
  redis.call('HSET', KEYS[1], 'sent', ARGV[3])
end
if token == ARGV[1] then redis.call('HDEL', KEYS[1], 'token', 'until') end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
""")
"""token, fingerprint, last sent at or empty, keep ms. That a create may have been sent is true whoever tells it."""
