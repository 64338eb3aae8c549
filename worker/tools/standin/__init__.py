"""A stand-in for DCS, with IAM and the metadata service beside it: one process, all in memory.

It validates what it receives as the documented service does, verifies credentials with an implementation of its own,
and misbehaves on request; `steps` has the table of misbehaviours, `settings` the knobs, `control` the pages.
"""

from worker.tools.standin.record import Call
from worker.tools.standin.rows import REDIS_PASSWORD
from worker.tools.standin.server import StandIn
from worker.tools.standin.settings import Auth, Quota, StandInSettings
from worker.tools.standin.tasks import Task

__all__ = ["REDIS_PASSWORD", "Auth", "Call", "Quota", "StandIn", "StandInSettings", "Task"]
