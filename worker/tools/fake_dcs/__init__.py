"""Fake DCS and IAM: one process, all in memory.

It validates requests as the documented service does, verifies credentials with an independent implementation, and
fails on demand. `faults` has the table of fault steps, `settings` all settings, `server` the control pages.
`tests/fakes/faulty_dcs.py` extends it by what only tests need.
"""

from worker.tools.fake_dcs.server import FakeDcs
from worker.tools.fake_dcs.settings import Auth, FakeDcsSettings, Quota
from worker.tools.fake_dcs.state import CallRecord
from worker.tools.fake_dcs.tasks import PLAIN_TEXT_PASSWORD, MigrationTask

__all__ = ["PLAIN_TEXT_PASSWORD", "Auth", "CallRecord", "FakeDcs", "FakeDcsSettings", "MigrationTask", "Quota"]
