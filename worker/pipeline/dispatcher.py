"""Dispatcher of one replica: takes deliveries, and drains.

Law `drain`: unready, stop consuming, let calls finish, settle them, hand back what has not started. Deliveries are
processed in tasks that are owned here, so that the loss of the broker never cancels a call.
"""

import asyncio
from typing import Generic, Protocol, TypeVar

from worker.pipeline.ports import CallThrottle, ConsumerControl, Delivery, Observer
from worker.policy.call_result import StaleDeliveryError

ISOLATION_WAIT_SECONDS = 120.0
"""Longest wait of a suspect until no other delivery is in progress."""
DEFECT_PAUSE_SECONDS = 1.0
"""Wait before a delivery that met a defect of the worker, and is not settled, returns to the queue."""


class DeliveryHandler(Protocol):
    """What becomes of deliveries: the pipeline of requests, or the follow-up of created tasks."""

    async def run(self, delivery: Delivery) -> None:
        """Process a delivery until it is settled, or left to the broker."""

    def is_suspect(self, delivery: Delivery) -> bool:
        """Law `poison`: whether the delivery must be processed alone."""

    async def postpone(self, delivery: Delivery, why: str) -> None:
        """Let a delivery wait in the broker, at no cost."""


H = TypeVar("H", bound=DeliveryHandler)


class Dispatcher(Generic[H]):
    """Processes the deliveries of `consumer` until it is drained."""

    def __init__(self, pipeline: H, throttle: CallThrottle, observer: Observer, consumer: ConsumerControl) -> None:
        self._pipeline = pipeline
        self._throttle = throttle
        self._observer = observer
        self._consumer = consumer
        self._running: set[asyncio.Task[None]] = set()
        self._is_isolating = False

    def __repr__(self) -> str:
        return f"<Dispatcher: {len(self._running)} in flight, {self._throttle!r}>"

    @property
    def in_flight(self) -> int:
        """Number of deliveries in progress."""
        return len(self._running)

    def deliver(self, delivery: Delivery) -> None:
        """Start to process a delivery."""
        task = asyncio.get_running_loop().create_task(self._work(delivery))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _work(self, delivery: Delivery) -> None:
        try:
            if self._pipeline.is_suspect(delivery):
                await self._isolate(delivery)
            else:
                await self._pipeline.run(delivery)
        except Exception as error:  # noqa: BLE001 - a defect must cost one delivery, not the worker
            self._observer.failed(error)
            await self._throttle.wait_unless_closed(DEFECT_PAUSE_SECONDS)
            await _returned(delivery)

    async def _isolate(self, delivery: Delivery) -> None:
        """Process a suspect while no other delivery is in progress: a crash then affects it alone.

        A second suspect is postponed.
        """
        if self._is_isolating:
            await self._pipeline.postpone(delivery, "quarantine")
            return
        self._is_isolating = True
        try:
            await self._consumer.pause_and_wait("quarantine")
            others = self._running - {asyncio.current_task()}
            if others and not delivery.is_lost():
                await asyncio.wait(others, timeout=ISOLATION_WAIT_SECONDS)
            await self._pipeline.run(delivery)
        finally:
            self._is_isolating = False
            self._consumer.resume("quarantine")

    async def drain(self, seconds: float) -> int:
        """Stop consuming and let deliveries settle for `seconds`. Returns how many were left to the broker."""
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                await self._consumer.stop()
        except Exception as error:  # noqa: BLE001 - the loss of the broker must not stop the drain
            self._observer.unconfirmed(f"the consumer could not be cancelled: {error}")
        self._throttle.close()
        while self._running and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        unsettled = list(self._running)
        for task in unsettled:
            task.cancel()
        await asyncio.gather(*unsettled, return_exceptions=True)
        return len(unsettled)


async def _returned(delivery: Delivery) -> None:
    try:
        await delivery.reject()
    except StaleDeliveryError:
        return
