"""Shares: however consumers come and go, they never hold more than what is set, and get what is wanted in the end."""

from hypothesis import given
from hypothesis import strategies as st

from worker.rabbit.consumer import PrefetchShare, PrefetchShares


def test_more_is_granted_beside_what_there_is() -> None:
    """Another consumer gets the difference."""
    shares = PrefetchShares(64)
    assert shares.grantable(16) == 16
    shares.active["a"] = PrefetchShare(16)
    assert (shares.grantable(16), shares.grantable(64)) == (0, 48)
    assert repr(shares) == "<PrefetchShares: 16 granted, 0 left over>"


def test_what_a_cancelled_consumer_holds_counts() -> None:
    """A new one gets what is left, as soon as that is worth it, and the rest later."""
    shares, first = PrefetchShares(64), PrefetchShare(64)
    shares.active["a"], first.in_hand = first, 64
    assert shares.cancel() == "a"
    assert shares.grantable(64) == 0
    while not (more := shares.grantable(64)):
        shares.settled(first)
    assert (more, first.in_hand) == (16, 48)
    shares.active["b"] = PrefetchShare(more)
    while first.in_hand:
        shares.settled(first)
    assert shares.grantable(64) == 48


def test_few_need_not_wait_for_many() -> None:
    """One at a time is granted as soon as there is room for one."""
    shares, first = PrefetchShares(2), PrefetchShare(2)
    shares.active["a"], first.in_hand = first, 2
    shares.cancel()
    assert shares.grantable(1) == 0
    shares.settled(first)
    assert shares.grantable(1) == 1


class Channel:
    """Consumers that are delivered to as fast as they may be."""

    def __init__(self, ceiling: int) -> None:
        self.shares = PrefetchShares(ceiling)
        self.made: list[PrefetchShare] = []
        self.prefetch = ceiling

    def adjust(self, prefetch: int) -> None:
        """Grant what is wanted."""
        self.prefetch = prefetch
        while self.shares.granted > prefetch:
            self.shares.cancel()
        if more := self.shares.grantable(prefetch):
            self.made.append(PrefetchShare(more))
            self.shares.active[str(len(self.made))] = self.made[-1]

    def play(self, step: str, number: int) -> None:
        """Change the prefetch, cancel a consumer, deliver, or settle."""
        busy = [share for share in self.made if share.in_hand]
        if step == "cancel" and self.shares.active:
            self.shares.cancel()
        elif step == "deliver":
            for share in self.shares.active.values():
                share.in_hand = min(share.granted, share.in_hand + number)
        elif step == "settle" and busy:
            self.shares.settled(busy[number % len(busy)])
        self.adjust(number if step == "prefetch" else self.prefetch)


steps = st.tuples(st.sampled_from(("prefetch", "cancel", "deliver", "settle")), st.integers(1, 64))


@given(st.lists(steps, max_size=80))
def test_the_prefetch_never_exceeds_its_ceiling(played: list[tuple[str, int]]) -> None:
    """In any order; and once all is settled, everything that is wanted is granted."""
    channel = Channel(64)
    for step, number in played:
        channel.play(step, number)
        assert sum(share.in_hand for share in channel.made) <= 64
        assert channel.shares.granted <= channel.prefetch
    for share in channel.made:
        while share.in_hand:
            channel.shares.settled(share)
    channel.adjust(channel.prefetch)
    assert channel.shares.granted == channel.prefetch
