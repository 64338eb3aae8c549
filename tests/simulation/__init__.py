"""Deterministic simulation of "one task per request": the real pipeline and policies on a virtual clock, with faults.

Two or three replicas share a simulated broker (`world.broker`), DCS (`world.dcs`) and, in half of the runs, claims
(`world.claims`). Each replica has a dispatcher that is built as in production. Every call of a port is a fault point
(`scenario.fault_points`). A `Plan` decides which faults happen, and replays exactly. After each run `checks` verifies:

- at most one task per request; no create for a lost delivery, after `not_after`, after the end of the request, or
  without a look-up at a delivery that is not the first;
- no create before the listing delay of an earlier create that may have been sent is over, nor without a look-up then;
- an acknowledgement only after a confirmed event or copy, and reports only after the acknowledgement;
- at least one final event per request, of one kind, with one id, and true: a task that it names is the request's, and
  a failure that says "no task" leaves none;
- with follow-up, each announced task is watched after its success is confirmed, and every watch ends with one kind
  of event, with one id, and true;
- no request or watch remains in a queue or in a replica, and every run ends.

Assumptions. DCS lists a created task within the listing delay, counted from the moment when the caller learned how the
create ended or, if it never did, when the broker took the delivery back. What DCS rejects for good, it rejects always.
Clocks of replicas differ by less than 5 s. The broker loses nothing that it confirmed. A process detects a freeze of
more than 5 s, and learns within that time that its channel was closed.

What no worker can know without claims that are always available is no violation, but is counted (`windows`): two
copies of a request on two replicas between look-up and listing; an event whose delivery was lost before its
acknowledgement, if the next replica gets another answer from DCS; two last events of a task whose state changed between
two looks of which the second cannot know of the first. Senders publish copies only where claims, or the
memory of a single replica, can recognise them.
"""
