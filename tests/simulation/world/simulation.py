"""One run: the replicas and their surroundings, from the first message to the last timer."""

from random import Random
from typing import Final

from tests.simulation.checks.laws import Facts, judge
from tests.simulation.scenario.call_endings import Classify
from tests.simulation.scenario.fault_points import Points
from tests.simulation.scenario.plan import Errand, Plan
from tests.simulation.scenario.request_bodies import body, task_body
from tests.simulation.world.broker import Broker
from tests.simulation.world.claims import Store
from tests.simulation.world.dcs import Cloud
from tests.simulation.world.event_loop import EndlessError, Timers, VirtualLoop
from tests.simulation.world.faults import Strikes
from tests.simulation.world.records import HANDED, Matter, Message
from tests.simulation.world.replica import Replica
from tests.simulation.world.run import Run
from tests.simulation.world.shared import Assemble, Surroundings
from worker.policy import error_table

LONGEST: Final = 100_000.0
"""Virtual seconds within which every run ends."""
STEPS: Final = 20_000
"""Callbacks within which every run ends."""


class World:
    """Everything that takes part in one run."""

    def __init__(self, plan: Plan, assemble: Assemble, classify: Classify, *, with_notes: bool) -> None:
        rng = Random(plan.seed)
        self.loop = VirtualLoop()  # type: ignore[abstract] # it has what is used
        self.run = Run(plan)
        self._with_notes = with_notes
        self._is_over = False
        self._plan = plan
        self._points = Points(plan, Random(plan.seed + 1))
        timers = self._timers = Timers(self.loop)
        self.cloud = Cloud(timers, rng, plan)
        self.broker = Broker(timers, rng, plan, self.cloud.cut)
        self.store = Store()
        shared = Surroundings(
            timers,
            self.broker,
            self.cloud,
            self.store,
            plan,
            rng,
            assemble,
            classify,
            self._pass_by,
            self._say,
            self._violate,
        )
        self.replicas = [Replica(shared, name) for name in "ABC"[: plan.replicas]]
        self._strikes = Strikes(timers, self.broker, self.store, self.replicas, self._send)

    def play(self) -> Run:
        """Let the run happen, and judge it."""
        run = self.run
        with self.loop:
            for replica in self.replicas:
                self._timers.after(0.0, replica.start)
            for number, errand in enumerate(self._plan.errands):
                self._send_all(number, errand)
            for timed in self._plan.timed:
                self._timers.after(timed.at, self._strikes.at, timed)
            try:
                self.loop.run(until=LONGEST, steps=STEPS)
                if self._plan.has_echo:
                    self._echo()
                    self.loop.run(until=LONGEST, steps=STEPS)
                self._check_over()
            except EndlessError as error:
                self._violate("-", f"the run does not end: {error}")
            self._judge()
            self._is_over = True
        run.points, run.struck = self._points.passed, self._points.struck
        run.seconds, run.calls = self.loop.now, len(self.cloud.calls)
        return run

    def _judge(self) -> None:
        sent = {(n, c) for n, e in enumerate(self._plan.errands) for c in ((False, True) if e.clashes else (False,))}
        is_sound = self._plan.claims and self.store.is_sound
        broker = self.broker
        facts = Facts(
            *(self._plan, self.cloud.calls, broker.events, broker.parked, broker.handed),
            is_sound,
            sent,
            self.cloud.asked,
        )
        verdict = judge(facts)
        self.run.windows += verdict.windows
        for violation in (*self.loop.errors, *verdict.violations):
            self._violate("-", violation)

    def _check_over(self) -> None:
        busy = [replica.name for replica in self.replicas if replica.flow.in_flight]
        if self.broker.left or busy:
            self._violate("-", f"the run does not end: {self.broker.left} requests left, busy: {busy}")

    def _send_all(self, number: int, errand: Errand) -> None:
        for at in (errand.at, *errand.copies):
            self._timers.after(at, self._send, (number, False))
        for at in errand.clashes:
            self._timers.after(at, self._send, (number, True))
        if errand.strangers:
            self.cloud.add_strangers(task_body(number, one_name=self._plan.one_name), errand.strangers)

    def _send(self, matter: Matter, prefer: Replica | None = None) -> None:
        self._say("sender", "sends request %s%s", (matter[0], " for another task" if matter[1] else ""))
        self.broker.put(Message(matter, self._body(matter), {}, prefer=prefer))

    def _echo(self) -> None:
        """Let every replica say what it remembers of every request."""
        everyone = [(number, replica) for number in range(len(self._plan.errands)) for replica in self.replicas]
        for second, (number, replica) in enumerate(everyone, 1):
            self._timers.after(float(second), self._send, (number, False), replica)

    def _body(self, matter: Matter) -> bytes:
        errand = self._plan.errands[matter[0]]
        return body(matter, errand.not_after, errand.project, one_name=self._plan.one_name, is_broken=errand.is_broken)

    def _pass_by(self, replica: Replica, point: str) -> str | None:
        fault = self._points.pass_by(point)
        handed = HANDED.get(None)
        if handed is not None and self._plan.errands[handed.message.matter[0]].kills == point:
            fault = "crash"
        if fault is None:
            return None
        self._say(replica.name, "point %s, %s: %s", (len(self._points.passed) - 1, point, fault))
        return self._strikes.strike(replica, fault, handed)

    def _say(self, who: str, text: str, arguments: tuple[object, ...] = ()) -> None:
        if self._with_notes:
            self.run.notes.append((self.loop.now, who, text % arguments))

    def _violate(self, who: str, text: str) -> None:
        if not self._is_over:
            self._say(who, "!!! %s", (text,))
            self.run.violations.append(text)


def play(plan: Plan, assemble: Assemble, classify: Classify = error_table.row, *, with_notes: bool = False) -> Run:
    """Run a plan."""
    return World(plan, assemble, classify, with_notes=with_notes).play()
