"""Fake DCS, with IAM and the metadata service: one process, all in memory.

It validates requests as the documented service does, verifies credentials with an independent implementation, and
fails on demand. `fault_steps` has the table of faults, `settings` all settings, `control_api` the control pages.
"""

from worker.tools.fake_dcs.call_log import CallRecord
from worker.tools.fake_dcs.server import FakeDcs
from worker.tools.fake_dcs.settings import Auth, FakeDcsSettings, Quota
from worker.tools.fake_dcs.tasks import PLAIN_TEXT_PASSWORD, MigrationTask

__all__ = ["PLAIN_TEXT_PASSWORD", "Auth", "CallRecord", "FakeDcs", "FakeDcsSettings", "MigrationTask", "Quota"]
