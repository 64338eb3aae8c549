"""A fake DCS, with IAM and the metadata service beside it: one process, all in memory.

It validates what it receives as the documented service does, verifies credentials with an implementation of its own,
and misbehaves on request; `steps` has the table of misbehaviours, `settings` the knobs, `control` the pages.
"""

from worker.tools.fake_dcs.call_log import CallRecord
from worker.tools.fake_dcs.server import FakeDcs
from worker.tools.fake_dcs.settings import Auth, FakeDcsSettings, Quota
from worker.tools.fake_dcs.tasks import PLAIN_TEXT_PASSWORD, MigrationTask

__all__ = ["PLAIN_TEXT_PASSWORD", "Auth", "CallRecord", "FakeDcs", "FakeDcsSettings", "MigrationTask", "Quota"]
