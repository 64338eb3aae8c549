"""Prefetch of one replica: how many requests it takes in at once.

Little's law (https://en.wikipedia.org/wiki/Little%27s_law): more requests than calls at once only wait, and another
replica could work on them. While a suspect is worked on alone, the dispatcher stops the consumer altogether.
Short on purpose: it is one decision.
"""

from typing import Final

LEAST: Final = 8
SPARE: Final = (2, 3)
"""Times the calls at once: a request is in hand for longer than its calls take. The second one to take in less."""


def fitting_prefetch(present: int, calls_at_once: int, ceiling: int) -> int:
    """The prefetch in place of the present one. A power of two, for each change costs calls to the broker."""
    least, most = (max(LEAST, 1 << (calls_at_once * spare - 1).bit_length()) for spare in SPARE)
    return min(ceiling, max(least, min(most, present)))
