"""The tale of a request that is parked, or on its way."""

from schemas import names
from schemas.journal import EMPTY, Kind
from worker.cli.explaining.tale import Step, Tale, read_journal
from worker.cli.parked.story import Story


def of_story(story: Story, *, is_parked: bool = True) -> Tale:
    """What a copy of the request tells."""
    headers = story.parked.headers
    # Without state headers beside it the journal is the sender's own.
    journal = EMPTY if names.STATE.isdisjoint(headers) else read_journal(headers)
    is_told = bool(journal) and journal is not None and journal.entries[-1].did is Kind.PARKED
    end = Step(story.parked_at, f"parked: {story.reason}", {"did": "parked", "got": story.reason})
    return Tale(
        story.sender.request_id,
        story.sender.project_id,
        story.sender.region,
        story.sender.name,
        story.envelope.first_received_at or None,
        journal,
        "parked" if is_parked else "on its way",
        end if is_parked and not is_told else None,
    )


def is_parked(story: Story) -> bool:
    """Whether the headers say so."""
    return names.PARKED_REASON in story.parked.headers
