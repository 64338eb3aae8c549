"""Refusals that are there whatever our rate is: told from those of a quota, and no reason to stand still."""

from dataclasses import dataclass
from random import Random

import pytest
from worker.policy.background import Background
from worker.policy.refusals import Refusals

from tests.unit.policy.throttle.service_model import Service, World
from worker.policy.call_result import Throttle


def judged(*steps: tuple[float, int, int]) -> tuple[Background, float | None]:
    """A background after so many refusals of so many calls, at each rate in turn, and what it said last."""
    background, said = Background(), None
    for rate, refused, calls in steps:
        said = background.judge(rate, refused, calls)
    return background, said


def test_a_share_that_stays_is_not_ours() -> None:
    """Half is refused of a hundred a second, and of fifty: back to a hundred, and half is expected from now on."""
    background, said = judged((100.0, 50, 100), (50.0, 25, 50))
    assert said == 100.0
    assert repr(background) == "<Background: 50%>"
    assert background.surplus(50, 100) == 0.0
    assert background.surplus(90, 100) == pytest.approx(90 - 50 - 2 * 50**0.5)


@pytest.mark.parametrize(
    "steps",
    [
        [(100.0, 50, 100), (50.0, 0, 50)],  # it helped
        [(100.0, 50, 100)],  # nothing to compare with yet
        [(100.0, 3, 6), (50.0, 2, 4)],  # too few calls
        [(100.0, 50, 100), (90.0, 45, 90)],  # hardly less than before
        [(100.0, 10, 100), (50.0, 45, 50)],  # much more than before: something else has changed
        [(100.0, 100, 100), (50.0, 50, 50)],  # everything is refused: a quota that is used up does the same
    ],
)
def test_what_may_be_ours_counts_as_ours(steps: list[tuple[float, int, int]]) -> None:
    """Without evidence the rate goes on falling."""
    background, said = judged(*steps)
    assert said is None
    assert background.share == 0.0
    assert background.surplus(7, 10) == 7.0


def test_it_goes_by_itself() -> None:
    """What is no longer seen is no longer expected; what is seen fades slowly, and is found out again."""
    background, _ = judged((100.0, 50, 100), (50.0, 25, 50))
    background.calmed(50, 100, 1.0)
    assert background.share == pytest.approx(0.495)
    background.calmed(0, 100, 1.0)
    assert background.share == pytest.approx(0.01)
    background.calmed(0, 0, 1000.0)
    assert background.share == 0.0


def test_refusals_are_readable() -> None:
    """The counts, and what is expected."""
    refusals = Refusals()
    refusals.granted, refusals.refused = 6, 2
    assert repr(refusals) == "<Refusals: 2 of 8, <Background: 0%>>"


# Against a modelled service, in virtual time.


@dataclass
class Fickle(Service):
    """Throttles a share of the calls, however few there are, and says what is not true of it."""

    share: float = 0.1
    named: Throttle | None = None

    def call(self, now: float) -> tuple[str, float]:
        """How a call that begins now ends, and after how long."""
        return ("429", 0.003) if self.rng.random() < self.share else super().call(now)

    @property
    def throttle(self) -> Throttle | None:
        """What a refusal says."""
        return self.named


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("named", "share", "least"),
    [(None, 0.1, 30), (None, 0.5, 1), (Throttle(100, 1.0), 0.2, 1)],
)
def test_throttling_that_does_not_follow_our_rate_does_not_lower_it(
    seed: int, named: Throttle | None, share: float, least: float
) -> None:
    """Throughput does not wither away, not even in a minute: so many are granted per second at the end of it."""
    service = Fickle(latency=0.3, share=share, named=named, rng=Random(seed))
    world = World(service, 1, seed=seed, ceiling=32).run(60)
    assert len(world.between(40, 60, "ok")) / 20 >= least


def test_replicas_that_share_a_quota_look_the_same() -> None:
    """Under a quota that has a name as many may be refused of fewer calls, until there are few enough for anybody."""
    background = Background()
    assert background.judge(100.0, 50, 100, 100.0) is None
    assert background.judge(10.0, 5, 10, 100.0) is None
    assert background.judge(2.0, 5, 10, 100.0) == 100.0


@pytest.mark.parametrize("replicas", [1, 2, 4, 10])
def test_a_quota_is_never_taken_for_it(replicas: int) -> None:
    """Under a quota refusals follow the rate, also beside replicas that take what one gives back."""
    world = World(Service(100, latency=0.1), replicas, seed=3).run(90)
    assert world.refused(20, 90) <= 0.06
    assert {replica.pace._refusals._background.share for replica in world.replicas} == {0.0}
