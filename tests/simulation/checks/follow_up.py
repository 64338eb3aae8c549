"""Check of the follow-up: each announced task is watched and gets one kind of last event, which is true."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from tests.simulation.checks.outcomes import is_interrupted
from tests.simulation.scenario.plan import Plan, RequestKey
from tests.simulation.world.records import CreateCall, Event, LastEvent, WatchStart, how_known

MAX_LOOK_SECONDS: Final = 45.0
"""Age of what a look knows: that of a shared list, and the time to read it, its detail and its job."""
STATUS_BY_RESULT: Final = {
    "provisioned": ("RUNNING", "RELEASED", "DELETED"),
    "task_failed": ("ERROR",),
    "task_gone": ("RELEASED", "DELETED"),
    "timeout": ("CREATING",),
}
"""Status words of a task of which each result can tell. The job of a task that is gone may say that it was ready."""


Found = Iterator[tuple[bool, str]]
"""Whether it is only a window, and what was found."""


def unwatched(events: Iterable[Event], starts: Sequence[WatchStart], calls: Iterable[CreateCall]) -> Found:
    """Tasks without a watch, and watches that an answer from memory starts, though its message was never lost.

    Of two tasks of one request one may be watched, or none: that they are two is the window.
    """
    tasks: dict[str, RequestKey] = {}
    for event in events:
        if event.succeeded:
            tasks.setdefault(str(event.instance_id), event.delivery.message.request_key)
    watched = {start.task_id for start in starts}
    created = Counter(call.delivery.message.request_key for call in calls if call.task_id is not None)
    for task_id in sorted(tasks.keys() - watched):
        is_second = created[tasks[task_id]] > 1
        yield is_second, "one of two tasks is never followed up" if is_second else f"never followed up: {task_id}"
    for start in starts:
        if start.delivery.is_answered_from_memory and not is_interrupted(start.delivery):
            yield False, f"an answer from memory starts another watch of {start.task_id}"


def wrong_last_events(
    plan: Plan, events: Sequence[Event], last_events: Iterable[LastEvent], status: Callable[[str, float], str]
) -> Iterator[str]:
    """Last events of a task whose success is not published, or that tell of a state that it did not have."""
    for last in last_events:
        if not any(event.instance_id == last.task_id and event.at <= last.at for event in events):
            yield f"{last.result} before the success of {last.task_id}"
            continue
        moments = (last.delivery.at - MAX_LOOK_SECONDS, last.delivery.at, last.at)
        is_known = last.result != "timeout" or not last.delivery.is_in_doubt  # also said if the look is refused
        if is_known and not any(status(last.task_id, at) in STATUS_BY_RESULT[last.result] for at in moments):
            yield f"{last.result}, but {last.task_id} was {status(last.task_id, last.at)}"
        if last.result == "timeout" and last.seconds < (plan.follow_up_timeout or 0.0):
            yield f"timeout of {last.task_id} after {last.seconds:.1f} s"


def one_last_event(last_events: Iterable[LastEvent], starts: Iterable[WatchStart]) -> Found:
    """A last event for each task that is watched, of one kind and with one id.

    Another kind is a window if the state of the task changed between two looks that cannot know of each other.
    """
    by_task: dict[str, list[LastEvent]] = defaultdict(list)
    for last in last_events:
        by_task[last.task_id].append(last)
    for task_id in sorted({start.task_id for start in starts}):
        if not by_task[task_id]:
            yield False, f"a watch does not end: {task_id}"
            continue
        first, *others = by_task[task_id]
        for other in others:
            if (other.id == first.id) is not (other.result == first.result):
                yield False, "two ids of one last event, or one of two"
            if other.result != first.result:
                is_known = how_known(first.delivery, other.delivery) in ("same", "copy")
                yield not is_known, f"two last events of one task: {first.result}, then {other.result}"
