"""Recognises answers that belong to another call: a proxy repeats one, or a gateway says something unasked.

On a kept connection, bytes that lie in front of the true answer are read as the answer, and the true one as that of the
next call. An answer to a create that is not certainly its own proves nothing.
"""

from typing import Final
from weakref import WeakKeyDictionary

import httpx2

from worker.policy import error_table
from worker.policy.call_result import CallError, TaskCreated
from worker.policy.migration_request import Key, MigrationRequest

REMEMBERED: Final = 4096
"""Tasks per region of which it is remembered which request they were created for."""


class StaleAnswers:
    """What was answered before: on each connection, and by which create calls in each region."""

    def __init__(self) -> None:
        self._created: dict[str, dict[str, Key]] = {}
        self._last_ids: WeakKeyDictionary[object, str | None] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<StaleAnswers: {len(self._last_ids)} connections, {sum(map(len, self._created.values()))} tasks>"

    def note(self, answer: httpx2.Response) -> None:
        """Note an answer to a look-up as the last one on its connection."""
        self._note(answer, answer.headers.get("x-request-id"))

    def doubt(
        self, migration: MigrationRequest, answer: httpx2.Response, result: TaskCreated | CallError
    ) -> str | None:
        """Why an answer to the create of `migration` may belong to another call; None if it is to be believed."""
        is_kept, last_id = self._note(answer, result.dcs_request_id)
        if isinstance(result, TaskCreated) and not self._is_first(migration, result.instance_id):
            return f"the task {result.instance_id} was the answer to another request"
        if result.dcs_request_id is not None and result.dcs_request_id == last_id:
            return f"the answer before it on the same connection has its request id, {last_id}"
        if is_kept and _may_be_unasked(answer, result):
            return f"HTTP {answer.status_code} without request id or error code may have come unasked"
        return None

    def _note(self, answer: httpx2.Response, request_id: str | None) -> tuple[bool, str | None]:
        """Note an answer; whether there was one before it on its connection, and that one's request id."""
        connection = answer.extensions.get("network_stream")
        if connection is None:
            return False, None
        is_kept, last_id = connection in self._last_ids, self._last_ids.get(connection)
        self._last_ids[connection] = request_id
        return is_kept, last_id

    def is_anothers(self, migration: MigrationRequest, instance_id: str) -> bool:
        """Whether a task is known to be another request's."""
        return self._created.get(migration.region, {}).get(instance_id, migration.key) != migration.key

    def _is_first(self, migration: MigrationRequest, instance_id: str) -> bool:
        created = self._created.setdefault(migration.region, {})
        is_first = created.setdefault(instance_id, migration.key) == migration.key
        if len(created) > REMEMBERED:
            del created[next(iter(created))]
        return is_first


def _may_be_unasked(answer: httpx2.Response, result: TaskCreated | CallError) -> bool:
    """True for a refusal that neither the service nor its gateway need have given: a late 408 or 400, say."""
    if not isinstance(result, CallError) or not 400 <= answer.status_code < 500:
        return False
    return result.dcs_request_id is None and not error_table.is_service_code(result.error_code)
