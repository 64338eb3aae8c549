"""One replica's flow, over whatever ports: those of a running worker, or their stand-ins in a proof."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from worker.flow.copies import Copies
from worker.flow.fallback import Locks
from worker.flow.gate import OpenGate
from worker.flow.handle import Handler
from worker.flow.ports import Claims, Dcs
from worker.flow.ports import Observer as ObserverPort
from worker.flow.ports import Publisher as PublisherPort
from worker.flow.process import Process, Reading
from worker.flow.repeats import LocksForRepeats
from worker.flow.service import Service
from worker.flow.settle import Settler
from worker.policy.rules import Rules


@dataclass(frozen=True, slots=True)
class Ports:
    """What the flow works with: the rooms of a running worker, or their stand-ins in a proof."""

    dcs: Dcs
    publisher: PublisherPort
    observer: ObserverPort
    claims: Claims | None = None
    locks: Locks | None = None
    """For repeats, where there are no claims."""
    now: Callable[[], float] = time.time
    chance: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class Parts:
    """What the flow is made of."""

    handler: type[Handler] = Handler
    settler: type[Settler] = Settler
    copies: Callable[[], Copies] = Copies
    process: type[Process] = Process


def flow(
    ports: Ports, the_rules: Rules, reading: Reading, parts: Parts | None = None, gate: OpenGate | None = None
) -> Service:
    """One replica's flow over the given ports, behind `gate`; None: one that is open."""
    parts, gate = parts or Parts(), gate or OpenGate()
    handler = parts.handler(the_rules, ports.dcs, gate, ports.observer, now=ports.now, chance=ports.chance)
    settler = parts.settler(ports.publisher, ports.observer, now=ports.now, chance=ports.chance, sleep=ports.sleep)
    process = parts.process(
        reading, the_rules, parts.copies(), ports.claims, handler, settler, ports.observer, now=ports.now
    )
    if ports.locks:
        process.locks = LocksForRepeats(ports.locks, settle=the_rules.settle)
    return Service(process, gate, ports.observer)
