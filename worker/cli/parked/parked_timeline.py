"""The tale of a request that is parked, or on its way."""

from schemas import names
from schemas.journal import EMPTY, Kind
from worker.cli.parked.request import ParkedRequest
from worker.cli.parked.timeline import RequestTimeline, TimelineStep, read_journal


def timeline_of_parked(request: ParkedRequest, *, is_parked: bool = True) -> RequestTimeline:
    """What a copy of the request tells."""
    headers = request.parked.headers
    # Without state headers beside it the journal is the sender's own.
    journal = EMPTY if names.STATE.isdisjoint(headers) else read_journal(headers)
    ends_with_parking = bool(journal) and journal is not None and journal.entries[-1].did is Kind.PARKED
    end = TimelineStep(request.parked_at, f"parked: {request.reason}", {"did": "parked", "got": request.reason})
    return RequestTimeline(
        request.sender.request_id,
        request.sender.project_id,
        request.sender.region,
        request.sender.name,
        request.envelope.first_received_at or None,
        journal,
        "parked" if is_parked else "on its way",
        end if is_parked and not ends_with_parking else None,
    )


def is_parked(request: ParkedRequest) -> bool:
    """Whether the headers say so."""
    return names.PARKED_REASON in request.parked.headers
