"""A deterministic proof of "one task per request": the real flow and policies, on a virtual clock, under faults.

Under proof is whatever `Assemble` builds: the flow of one replica over stand-ins. Two or three such replicas share
a broker (`broker`), a service (`cloud`) and, in half of the runs, claims (`claims`). Every port call is a point at
which a fault can strike (`points`); a `Plan` says which do, and replays exactly. `checks` holds after each run:

- at most one task per request; no create on stale ground, after `not_after`, once the request is over, or without a
  look at a delivery that is not the first;
- no create sooner than the settle time after one that may have been sent, nor without a look in between;
- an acknowledgement only after a confirmed event or copy, and only then is anything said;
- at least one final event per request, of one kind and with one id, and true: a task it names is the request's, a
  failure that says "no task" leaves none;
- nothing is left in a queue or in a replica's hands, and every run ends.

Assumptions. The service lists a created task within the settle time of the moment when its caller learned how the
call ended or, if it never did, when the broker took the request back. It goes on refusing what it refused for good.
Clocks of replicas differ by less than 5 s. The broker loses nothing that it confirmed. A process notices that it
stood still for more than 5 s, and that its channel is gone within that time.

What no worker can know without claims that are there all the time is not held against it, but counted (`windows`):
two copies of a request on two replicas between look and listing; an event whose delivery was lost before its
acknowledgement, when the next replica meets a service that has changed its mind. Copies by the sender are sent only
where claims, or a single replica's memory, are there to recognise them.
"""
