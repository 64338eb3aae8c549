"""The migration request that the tests of the claims claim."""

from schemas.request import Task
from worker.policy.migration_request import MigrationRequest

MIGRATION = MigrationRequest(
    project_id="0123456789abcdef",
    request_id="r-1",
    region="cn-north-4",
    task=Task(name="n", vpc_id="v", subnet_id="s", security_group_id="g"),
    marker=None,
    fingerprint="f" * 32,
    not_after=None,
    body=b"{}",
    has_sender_request_id=True,
)
