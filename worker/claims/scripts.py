"""Lua scripts of the claims: each is one atomic step on the one record of a request.

A record is a hash with `fingerprint` and `replays`, and one of

- a claim: `token` of the claimant and `until`, the server's time in ms up to which it holds;
- nothing more: the claim was released, the request will come back;
- `ending` and `succeeded`: the request is over.

`sent` is when a create may last have been in flight, `conflict` the error of one that was answered with 409. A claim
that ran out stays readable: its owner died and may have a create in flight. A later request with another fingerprint
reuses the id and changes nothing.

A record that no worker can have written (another type of key, a lease longer than the longest, a time in the future, a
number that is none) proves nothing: it is removed, and the script goes on as if there were none. TAKE says so.

Every script touches one key, so a cluster behind a proxy can serve them. Redis 6.0 and later.
"""

from typing import Final, NamedTuple

from worker.policy.migration_request import MigrationRequest

MEMORY_KEY: Final = b"dcs-worker:memory"
"""Since when, in epoch seconds, Redis has forgotten nothing."""

PROCESS_DIGITS: Final = 16
"""A token begins with so many digits that name the process; what follows counts its claims."""

LONGEST_LEASE_SECONDS: Final = 60.0
"""No worker of any version asks for a longer lease."""
CLOCK_ALLOWANCE_SECONDS: Final = 60.0
"""A time may be so far ahead of the reader's clock; beyond that no worker wrote it."""
EARLIEST_TIME: Final = 1_500_000_000
"""Epoch seconds (2017) before which no worker ran."""
MOST_REPLAYS: Final = 1_000_000
"""The ceiling of every count that travels with a request."""
RECORD_LIMIT: Final = 65_536
"""Bytes of an ending that is stored; longer ones are those that list hundreds of candidates, and are not."""


class ScriptCall(NamedTuple):
    """A script with its key and arguments."""

    script: str
    arguments: tuple[bytes, ...]


def record_key(migration: MigrationRequest) -> bytes:
    """The key of the request's record; a cluster places it by the part in braces."""
    return f"dcs-worker:{{{migration.project_id}/{migration.request_id}}}".encode()


# Also writes what is stored already: it is the proof that this Redis accepts writes.
REMEMBER: Final = f"""
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
local since = redis.pcall('GET', KEYS[1])
if type(since) == 'table' and since.err and not string.find(since.err, 'WRONGTYPE', 1, true) then return since end
local started = type(since) == 'string' and tonumber(since)
if not (started and started >= {EARLIEST_TIME} and started <= now + {CLOCK_ALLOWANCE_SECONDS:.0f}) then since = now end
redis.call('SET', KEYS[1], since)
local info = redis.pcall('INFO', 'memory')
local used, limit = 0, 0
if type(info) == 'string' then used, limit = string.match(info, 'used_memory:(%d+).*maxmemory:(%d+)') end
return since .. ' ' .. now - since .. ' ' .. (used or 0) .. ' ' .. (limit or 0)
"""
"""Since when Redis has forgotten nothing, how many seconds that is by its own clock, and its memory: bytes used, and
the limit, 0 if there is none or this user may not ask."""

# Begins every script on a record. `unreadable` is an ending that the caller could not read, or that does not answer its
# delivery; `wall` the caller's time.
# A key that is missing must not be written to here: a Redis that is full lets a script go on after its first write.
# Without any of these fields, GET tells a hash (an error) from a missing key.
_READ: Final = f"""
local record = redis.pcall('HMGET', KEYS[1],
  'fingerprint', 'ending', 'succeeded', 'replays', 'token', 'until', 'sent', 'conflict')
local is_odd = record.err ~= nil
if is_odd then
  if not string.find(record.err, 'WRONGTYPE', 1, true) then return record end
  record = {{}}
end
local fingerprint, ending, succeeded, replays, token, till, sent, conflict = unpack(record, 1, 8)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function within(text, most)
  local number = tonumber(text or '')
  return number and number >= 0 and number <= most and number
end
local known = within(replays or '0', {MOST_REPLAYS})
local expires = within(till, now + {LONGEST_LEASE_SECONDS * 1000:.0f})
local sent_at = within(sent, math.max(now / 1000, wall) + {CLOCK_ALLOWANCE_SECONDS:.0f})
if fingerprint then
  is_odd = #fingerprint ~= 32 or string.find(fingerprint, '[^0-9a-f]') or not known or known % 1 ~= 0
  if ending then
    is_odd = is_odd or token or #ending > {RECORD_LIMIT} or string.sub(ending, 1, 1) ~= '{{'
      or ending == unreadable or (succeeded ~= '0' and succeeded ~= '1')
  elseif token then
    local process = string.match(token, '^(%x+)-%d+$')
    is_odd = is_odd or not process or #process ~= {PROCESS_DIGITS} or not expires
  end
end
if not is_odd and not fingerprint then is_odd = type(redis.pcall('GET', KEYS[1])) == 'table' end
if is_odd then
  redis.call('DEL', KEYS[1])
  fingerprint, ending, succeeded, token, known = false, false, false, false, 0
elseif sent and not sent_at then
  redis.call('HDEL', KEYS[1], 'sent')
  is_odd, sent = not ending and not token, false
end
"""

TAKE: Final = f"""
local unreadable, wall = ARGV[7], tonumber(ARGV[6])
{_READ}
local is_other = fingerprint and fingerprint ~= ARGV[2]
if is_other and not ending then return 'held ' .. fingerprint end
local reopened = ending and not is_other and succeeded == '0' and known < tonumber(ARGV[3])
if ending and not reopened then return table.concat({{'concluded', fingerprint, succeeded, known, ending}}, ' ') end
local is_same_process = token and string.sub(token, 1, {PROCESS_DIGITS}) == string.sub(ARGV[1], 1, {PROCESS_DIGITS})
if token and expires > now and not is_same_process then return 'held ' .. fingerprint end
if reopened then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'token', ARGV[1], 'until', now + ARGV[4],
  'replays', math.max(known, tonumber(ARGV[3])))
if is_odd and sent_at then redis.call('HSET', KEYS[1], 'sent', sent) end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if reopened then return table.concat({{'reopened', fingerprint, succeeded, known, ending}}, ' ') end
if is_odd then return 'odd ' .. (sent_at and sent or '') end
local known_conflict = conflict or ''
if token then return 'lost ' .. known_conflict end
return fingerprint and 'free ' .. (sent or '') .. ' ' .. known_conflict or 'new'
"""
"""token, fingerprint, replays, lease ms, keep ms, the caller's time, an ending to be replaced or nothing -> a word and
what belongs to it; worker.claims.records reads it.

A live claim of the same process is lost too: the process asks only for what it does not hold, so the answer that
granted it never arrived.
"""

RENEW: Final = f"""
local unreadable, wall = nil, 0
{_READ}
local is_other = token and token ~= ARGV[1]
if ending or (fingerprint and fingerprint ~= ARGV[2]) or (is_other and expires > now) then return 0 end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'token', ARGV[1], 'until', now + ARGV[3])
if is_other then redis.call('HSET', KEYS[1], 'sent', math.max(now / 1000, sent_at or 0)) end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if token == ARGV[1] then return 1 end
return fingerprint and 3 or 2
"""
"""token, fingerprint, lease ms, keep ms -> one of the numbers below. What ran out in another's hands was lost there."""

GONE: Final = 0
"""The request is another's, or over."""
OURS: Final = 1
"""The claim was ours all the time."""
FORGOTTEN: Final = 2
"""There was no record."""
REGAINED: Final = 3
"""No replica has the request, but one had it."""

CONCLUDE: Final = f"""
local unreadable, wall = nil, 0
{_READ}
if fingerprint and fingerprint ~= ARGV[1] then return 0 end
local ours = tonumber(ARGV[4])
local function completed_at(text) return string.match(text, '"completed_at":"([^"]*)"') or '' end
local is_older = ending and (ours < known or (ours == known and completed_at(ARGV[2]) < completed_at(ending)))
local is_parked = ending and ours <= known and string.find(ending, '"parked":true', 1, true)
if ending and (succeeded == '1' or is_parked or (ARGV[3] == '0' and is_older)) then
  return table.concat({{fingerprint, succeeded, known, ending}}, ' ')
end
if ARGV[3] == '0' and ours < known then return 0 end
if token and token ~= ARGV[6] then sent = math.max(expires / 1000, sent_at or 0) end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'ending', ARGV[2], 'succeeded', ARGV[3], 'replays', ARGV[4])
if sent then redis.call('HSET', KEYS[1], 'sent', sent) end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
"""
"""fingerprint, ending, 1 if it succeeded, replays, keep ms, token or empty -> 1 if stored, else the ending that stands,
or 0.

A success and a parked failure stay, for their event may have been published. A failure that is not parked answers no
later message, so a success or a later failure replaces it. Any ending replaces a failure of fewer replays by an
operator. Whose claim it was does not matter: that the request is over is true for all, and a claimant finds out as it
renews. But a failure can come late, when a later message is worked on already: what was sent for that stays known.
"""

RELEASE: Final = f"""
local unreadable, wall = nil, tonumber(ARGV[3]) or 0
{_READ}
if fingerprint and fingerprint ~= ARGV[2] then return 0 end
if not ending then redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2]) end
if ARGV[3] ~= '' and (not sent_at or sent_at < wall) then redis.call('HSET', KEYS[1], 'sent', ARGV[3]) end
if ending then return 0 end
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'conflict', ARGV[5]) end
if token == ARGV[1] then redis.call('HDEL', KEYS[1], 'token', 'until') end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""
"""token, fingerprint, last sent at or empty, keep ms, conflict or empty. What was sent is true of any replica."""

FORGET: Final = f"""
local unreadable, wall = nil, 0
{_READ}
local is_parked = ending and succeeded == '0' and string.find(ending, '"parked":true', 1, true)
if not (is_parked and known <= tonumber(ARGV[2])) and not (token and token == ARGV[1]) then return 0 end
return redis.call('DEL', KEYS[1])
"""
"""token or empty, replays. Deletes the caller's claim, or the ending of a request that was parked after at most so many
replays by an operator (-1: never)."""

SCRIPTS: Final = (REMEMBER, TAKE, RENEW, CONCLUDE, RELEASE, FORGET)
