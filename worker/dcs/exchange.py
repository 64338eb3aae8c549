"""One HTTP exchange: a whole-call deadline, a bounded reply, no redirect, and an ending typed by evidence."""

import time
from collections.abc import Callable, Mapping

from worker.dcs.deadline import Deadline
from worker.dcs.evidence import NotSentError, Witness
from worker.dcs.message import Reply, Request, TooLargeError, Wire
from worker.policy.fault import CallStatus, Evidence, Fault, Remedy
from worker.policy.pulse import Pulse

Told = Callable[[str, str, float], None]
"""Is told of every call: operation, status label, seconds."""
Begun = Callable[[str, str, str], Mapping[str, str]]
"""Is told that a call begins (operation, method, URL), and gives the headers that it carries besides."""


class Exchange:
    """Sends requests over one wire. Endings are values; only cancellation is raised. `deadline`: seconds."""

    def __init__(
        self,
        wire: Wire,
        *,
        deadline: float,
        told: Told,
        pulse: Pulse,
        begun: Begun | None = None,
    ) -> None:
        self._wire = wire
        self._deadline = Deadline(deadline)
        self._told = told
        self._pulse = pulse
        self._begun = begun

    async def send(self, operation: str, request: Request) -> Reply | Fault:
        """Send `request` and read the whole reply within the deadline."""
        if self._begun is not None:
            request.headers.update(self._begun(operation, request.method, request.url))
        started = time.perf_counter()
        ending = await self._send(request)
        label = str(ending.status) if isinstance(ending, Reply) else ending.label
        self._told(operation, label, time.perf_counter() - started)
        return ending

    async def _send(self, request: Request) -> Reply | Fault:
        witness = Witness(self._pulse)
        try:
            with self._deadline.kept():
                return await self._wire.send(request, witness)
        except TimeoutError:
            return _broken(witness.was_connected, CallStatus.TIMEOUT, f"no answer within {self._deadline.seconds:g} s")
        except NotSentError as error:
            return _broken(False, CallStatus.FROZEN, str(error))
        except TooLargeError as error:
            return _broken(True, CallStatus.OVERSIZE, str(error))
        except Exception as error:  # noqa: BLE001 - law 1, fail closed: an unknown ending is ambiguous
            status = CallStatus.RESET if witness.was_connected else CallStatus.CONNECTION_REFUSED
            return _broken(witness.was_connected, status, f"{type(error).__name__}: {error}"[:300])


def _broken(was_connected: bool, status: CallStatus, message: str) -> Fault:
    evidence = Evidence.AMBIGUOUS if was_connected else Evidence.NEVER_SENT
    return Fault(evidence, Remedy.RETRY, status, message)
