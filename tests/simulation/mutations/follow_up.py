"""Mutations of the follow-up: watches that are lost or doubled, and last events that are wrong."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

from schemas.envelope import Envelope
from worker.pipeline.follow_up import FollowUp
from worker.pipeline.settler import Publish, Settler
from worker.policy.follow_up import LastWord, Watch
from worker.policy.outcome import Completed


class AckBeforeWatch(Settler):
    """Settler that acknowledges between the event and the watch."""

    async def _watch(self, delivery: Any, sender_request_id: str | None, completed: Completed) -> None:
        await delivery.ack()
        await super()._watch(delivery, sender_request_id, completed)


class NoWatchAfterRedelivery(Settler):
    """Settler that starts no watch with an answer from memory, though the first one may have been lost."""

    def _publishes(self, delivery: Any, sender_request_id: Any, envelope: Envelope, outcome: Any) -> Iterator[Publish]:
        if isinstance(outcome, Completed) and outcome.succeeded:
            envelope = replace(envelope, interruptions=0)
        return super()._publishes(delivery, sender_request_id, envelope, outcome)


class WatchEveryAnswer(Settler):
    """Settler that starts a watch with every answer from memory."""

    def _publishes(self, delivery: Any, sender_request_id: Any, envelope: Envelope, outcome: Any) -> Iterator[Publish]:
        if isinstance(outcome, Completed) and outcome.succeeded:
            envelope = replace(envelope, interruptions=1)
        return super()._publishes(delivery, sender_request_id, envelope, outcome)


class DropUnfinishedWatch(FollowUp):
    """Follow-up that lets no watch wait for another look."""

    def _wait(self, delivery: Any, watch: Watch) -> Callable[[], Awaitable[None]]:
        async def publish_nothing() -> None:
            delivery.record.confirmed.add("copy")

        return publish_nothing


class TakeCreatingForReady(FollowUp):
    """Follow-up that takes the first look for the last one."""

    async def _look(self, watch: Watch) -> LastWord | None:
        return await super()._look(watch) or LastWord("provisioned", "CREATING")


class NewEventIdEachTime(FollowUp):
    """Follow-up that gives every event a new id."""

    async def _publish_event(self, event: Any, **properties: Any) -> None:
        await self._publisher.event(replace(event, event_id=str(uuid4())), **properties)

    def _event(self, delivery: Any, watch: Watch, word: LastWord) -> Callable[[], Awaitable[None]]:
        publish: Any = super()._event(delivery, watch, word)
        return lambda: self._publish_event(*publish.args, **publish.keywords)
