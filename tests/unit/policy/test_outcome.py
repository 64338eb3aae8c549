"""Claims as they are answered."""

from worker.policy.outcome import Granted


def test_a_claim_is_a_first_one_unless_it_says_otherwise() -> None:
    """A claim that tells of no earlier one proves that nothing was sent under any."""
    assert Granted() == Granted(is_first=True, last_sent_at=None)
