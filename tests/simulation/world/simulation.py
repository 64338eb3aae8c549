"""One run of a plan: the replicas and their world, from the first message to the last timer."""

from random import Random
from typing import Final

from tests.simulation.checks.laws import RunFacts, check_laws
from tests.simulation.scenario.call_endings import Classify
from tests.simulation.scenario.fault_points import FaultPoints
from tests.simulation.scenario.plan import Plan, PlannedRequest, RequestKey, message_body, task_body
from tests.simulation.world.assembly import Assemble, SharedWorld
from tests.simulation.world.broker import Broker
from tests.simulation.world.claims import ClaimStore
from tests.simulation.world.dcs import SimulatedDcs
from tests.simulation.world.event_loop import RunTooLongError, Timers, VirtualEventLoop
from tests.simulation.world.faults import FaultInjector
from tests.simulation.world.records import CURRENT_DELIVERY, Message, RunResult
from tests.simulation.world.replica import Replica
from worker.policy import error_table

MAX_VIRTUAL_SECONDS: Final = 100_000.0
"""Bound of virtual time of a run."""
MAX_CALLBACKS: Final = 50_000
"""Bound of the work of a run: 14 requests of a throttled project that learnt a low rate need more than 20,000."""


class Simulation:
    """The world of one run: event loop, broker, DCS, claims, replicas."""

    def __init__(self, plan: Plan, assemble: Assemble, classify: Classify, *, with_timeline: bool) -> None:
        rng = Random(plan.seed)
        self.loop = VirtualEventLoop()  # type: ignore[abstract] # it has what is used
        self.result = RunResult(plan)
        self._with_timeline = with_timeline
        self._is_over = False
        self._plan = plan
        self._points = FaultPoints(plan, Random(plan.seed + 1))
        timers = self._timers = Timers(self.loop)
        self.dcs = SimulatedDcs(timers, rng, plan)
        self.broker = Broker(timers, rng, plan, self.dcs.on_delivery_returned)
        self.claim_store = ClaimStore(plan.claims_away)
        shared = SharedWorld(
            timers,
            self.broker,
            self.dcs,
            self.claim_store,
            plan,
            rng,
            assemble,
            classify,
            self._pass_point,
            self._log,
            self._report_violation,
        )
        self.replicas = [Replica(shared, name) for name in "ABC"[: plan.replicas]]
        self._fault_injector = FaultInjector(timers, self.broker, self.claim_store, self.replicas, self._send)

    def simulate(self) -> RunResult:
        """Make the run, and check the laws."""
        result = self.result
        with self.loop:
            for replica in self.replicas:
                self._timers.after(0.0, replica.start)
            for number, request in enumerate(self._plan.requests):
                self._send_all(number, request)
            for timed_faults in self._plan.timed_faults:
                self._timers.after(timed_faults.at, self._fault_injector.inject_at_time, timed_faults)
            try:
                self.loop.run(until=MAX_VIRTUAL_SECONDS, max_callbacks=MAX_CALLBACKS)
                if self._plan.repeats_at_end:
                    self._repeat_every_request()
                    self.loop.run(until=MAX_VIRTUAL_SECONDS, max_callbacks=MAX_CALLBACKS)
                self._check_over()
            except RunTooLongError as error:
                self._report_violation("-", f"the run does not end: {error}")
            self._judge()
            self._is_over = True
        result.points, result.injected = self._points.passed, self._points.injected
        result.seconds, result.calls = self.loop.now, len(self.dcs.calls)
        return result

    def _judge(self) -> None:
        sent = {(n, c) for n, e in enumerate(self._plan.requests) for c in ((False, True) if e.clashes else (False,))}
        is_sound = self._plan.claims and self.claim_store.is_sound
        are_claims_common = self._plan.claims and self.claim_store.are_claims_common
        broker = self.broker
        facts = RunFacts(
            *(self._plan, self.dcs.calls, broker.events, broker.parked, broker.deliveries),
            is_sound,
            are_claims_common,
            sent,
            self.dcs.dcs_calls,
            broker.watch_starts,
            broker.last_events,
            lambda task_id, at: self.dcs.created_tasks()[task_id].status(at),
            self.claim_store.emptied_at,
        )
        verdict = check_laws(facts)
        self.result.windows += verdict.windows
        for violation in (*self.loop.errors, *verdict.violations):
            self._report_violation("-", violation)

    def _check_over(self) -> None:
        busy = [replica.name for replica in self.replicas if replica.dispatcher.in_flight]
        if self.broker.remaining or busy:
            self._report_violation("-", f"the run does not end: {self.broker.remaining} requests left, busy: {busy}")

    def _send_all(self, number: int, request: PlannedRequest) -> None:
        for at in (request.at, *request.copies):
            self._timers.after(at, self._send, (number, False))
        for at in request.clashes:
            self._timers.after(at, self._send, (number, True))
        if request.unrelated_tasks:
            self.dcs.add_unrelated_tasks(
                task_body(number, has_shared_name=self._plan.has_shared_name), request.unrelated_tasks
            )

    def _send(self, request_key: RequestKey, preferred_replica: Replica | None = None) -> None:
        self._log("sender", "sends request %s%s", (request_key[0], " for another task" if request_key[1] else ""))
        self.broker.enqueue(Message(request_key, self._body(request_key), {}, preferred_replica=preferred_replica))

    def _repeat_every_request(self) -> None:
        """Send every request to every replica again: each must answer with the outcome that it remembers."""
        everyone = [(number, replica) for number in range(len(self._plan.requests)) for replica in self.replicas]
        for second, (number, replica) in enumerate(everyone, 1):
            self._timers.after(float(second), self._send, (number, False), replica)

    def _body(self, request_key: RequestKey) -> bytes:
        request = self._plan.requests[request_key[0]]
        return message_body(
            request_key,
            request.not_after,
            request.project,
            has_shared_name=self._plan.has_shared_name,
            is_invalid=request.is_invalid,
            is_cut=self._plan.is_cut,
        )

    def _pass_point(self, replica: Replica, point: str) -> str | None:
        fault = self._points.pass_point(point)
        delivery = CURRENT_DELIVERY.get(None)
        if delivery is not None and self._plan.requests[delivery.message.request_key[0]].kills_at == point:
            fault = "crash"
        if fault is None:
            return None
        self._log(replica.name, "point %s, %s: %s", (len(self._points.passed) - 1, point, fault))
        return self._fault_injector.inject(replica, fault, delivery)

    def _log(self, who: str, text: str, arguments: tuple[object, ...] = ()) -> None:
        if self._with_timeline:
            self.result.timeline.append((self.loop.now, who, text % arguments))

    def _report_violation(self, who: str, text: str) -> None:
        if not self._is_over:
            self._log(who, "!!! %s", (text,))
            self.result.violations.append(text)


def simulate(
    plan: Plan, assemble: Assemble, classify: Classify = error_table.row, *, with_timeline: bool = False
) -> RunResult:
    """Run a plan, and check the laws."""
    return Simulation(plan, assemble, classify, with_timeline=with_timeline).simulate()
