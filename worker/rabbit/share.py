"""How much each consumer may hold, so that all of them together never hold more than the prefetch that is set.

A prefetch cannot be changed under way: it is granted to a new consumer. What a cancelled one has in hand stays there,
and counts until it is settled.
"""

from typing import Final

_WORTH_IT: Final = 4
"""A part of what is wanted from which another consumer is worth its while."""


class Share:
    """One consumer's part."""

    __slots__ = ("granted", "in_hand")

    def __init__(self, granted: int) -> None:
        self.granted = granted
        self.in_hand = 0


class Shares:
    """The parts of all consumers of one channel, by consumer tag; at most `ceiling` together."""

    def __init__(self, ceiling: int) -> None:
        self.active: dict[str, Share] = {}
        self._ceiling = ceiling
        self._ended: set[Share] = set()

    def __repr__(self) -> str:
        return f"<Shares: {self.granted} granted, {self._left_over} left over>"

    @property
    def granted(self) -> int:
        """What the present consumers may hold."""
        return sum(share.granted for share in self.active.values())

    @property
    def _left_over(self) -> int:
        return sum(share.in_hand for share in self._ended)

    def more(self, prefetch: int) -> int:
        """What another consumer may hold, so that `prefetch` is reached; 0: none, or none yet."""
        wanted = prefetch - self.granted
        room = min(wanted, self._ceiling - self.granted - self._left_over)
        return room if room >= min(wanted, max(1, wanted // _WORTH_IT)) else 0

    def end(self) -> str:
        """One consumer is cancelled; its tag."""
        tag, share = self.active.popitem()
        self._ended = {*(ended for ended in self._ended if ended.in_hand), share}
        return tag

    def settled(self, share: Share) -> None:
        """A delivery of a share was answered."""
        share.in_hand -= 1
        if not share.in_hand:
            self._ended.discard(share)
