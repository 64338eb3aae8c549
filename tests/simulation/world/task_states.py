"""Calls of a replica that tell how created tasks stand in the simulated DCS."""

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from schemas.dcs import JobReply, TaskDetail
from tests.simulation.scenario.call_endings import LOOKUP_FAULTS, error_answer, received
from tests.simulation.world.dcs import SimulatedDcs
from tests.simulation.world.records import CURRENT_DELIVERY, DcsCall
from tests.simulation.world.replica_context import ReplicaContext
from worker.policy import error_table
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence
from worker.policy.follow_up import ListedTask, Watch

JOB_STATUS: Final = {"CREATING": "RUNNING", "ERROR": "FAIL"}
"""Status of the job that creates a task, by the task's; SUCCESS for any other."""

T = TypeVar("T")


class TaskStates:
    """Access of a replica to the states of tasks."""

    def __init__(self, replica: ReplicaContext, dcs: SimulatedDcs) -> None:
        self._replica, self._dcs = replica, dcs

    async def statuses(
        self, project_id: str, region: str, on_call: Callable[[], None]
    ) -> Mapping[str, ListedTask] | CallError:
        """State of every listed task of the project."""
        on_call()
        return await self._answer(
            project_id,
            lambda: {
                task_id: ListedTask(task.status(self._replica.now))
                for task_id, task in self._dcs.created_tasks(project_id).items()
            },
        )

    async def show(self, watch: Watch) -> TaskDetail | CallError:
        """Detail of the task."""
        task_id = watch.success.instance_id
        return await self._answer(watch.project_id, lambda: TaskDetail(task_id=task_id, status=self._status(task_id)))

    async def job(self, watch: Watch) -> JobReply | CallError:
        """The job that creates the task."""
        task_id = watch.success.instance_id
        return await self._answer(
            watch.project_id, lambda: JobReply(status=JOB_STATUS.get(self._status(task_id), "SUCCESS"))
        )

    def _status(self, task_id: str) -> str:
        return self._dcs.created_tasks()[task_id].status(self._replica.now)

    async def _answer(self, project_id: str, read: Callable[[], T]) -> T | CallError:
        replica = self._replica
        fault = await replica.point("look.before")
        self._dcs.dcs_calls.append(DcsCall(replica.now, replica.name, None))
        answer: T | CallError
        if (outage := self._dcs.outage(project_id)) is not None:
            result = received(outage, "", error_table.row)
            assert isinstance(result, CallError)
            answer = result
        elif fault in LOOKUP_FAULTS:
            answer = error_answer(*LOOKUP_FAULTS[fault])
        elif fault == "lookup-reset":
            answer = CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.RESET)
        else:
            answer = read()
        if isinstance(answer, CallError):
            CURRENT_DELIVERY.get().is_in_doubt = True
        replica.log("look: %s", answer.label if isinstance(answer, CallError) else answer)
        await replica.point("look.after")
        return answer
