"""What is undone is mended at once, then ever more rarely; what the user changes never waits."""

import pytest

from kubeocean.syncer.topdown.damping import LONGEST, QUIET, Damper


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fight(damper: Damper[str], clock: Clock, times: int, key: str = "copy", meaning: str = "red") -> list[float]:
    """Mend something as soon as it may be, `times` in a row; return for how long each mend had to wait."""
    waits = []
    for _ in range(times):
        waits.append(damper.pause(key, meaning))
        clock.now += waits[-1]
        damper.mended(key, meaning)
    return waits


def test_the_first_mend_is_immediate_and_the_next_ones_wait_ever_longer(clock: Clock) -> None:
    waits = fight(Damper(clock), clock, 13)
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, LONGEST, LONGEST]


def test_a_pause_runs_off_and_tells_its_whole_length_all_the_while(clock: Clock) -> None:
    damper = Damper[str](clock)
    fight(damper, clock, 5)
    clock.now += 3
    assert (damper.pause("copy", "red"), damper.length("copy", "red")) == (5, 8)
    clock.now += 6
    assert (damper.pause("copy", "red"), damper.length("copy", "red")) == (0, 8)


def test_a_mend_tells_for_how_long_it_has_to_do(clock: Clock) -> None:
    damper = Damper[str](clock)
    assert [damper.mended("copy", "red") for _ in range(4)] == [0, 1, 2, 4]


@pytest.mark.parametrize("every", [2, 60, 180, 400])
def test_who_comes_back_now_and_then_is_mended_at_once_each_time(clock: Clock, every: float) -> None:
    damper = Damper[str](clock)
    for _ in range(20):
        assert damper.pause("copy", "red") == 0
        damper.mended("copy", "red")
        clock.now += every


def test_a_fight_that_slows_down_is_soon_none_any_more(clock: Clock) -> None:
    damper = Damper[str](clock)
    fight(damper, clock, 9)
    clock.now += 200
    damper.mended("copy", "red")
    clock.now += 60
    assert damper.pause("copy", "red") == 0


def test_another_meaning_and_another_object_never_wait(clock: Clock) -> None:
    damper = Damper[str](clock)
    fight(damper, clock, 9)
    assert damper.pause("copy", "red") > 0
    assert damper.pause("copy", "blue") == 0
    assert damper.pause("other", "red") == 0
    assert fight(damper, clock, 3, meaning="blue") == [0, 0, 1]


def test_quiet_makes_an_object_new_again(clock: Clock) -> None:
    damper = Damper[str](clock)
    fight(damper, clock, 9)
    clock.now += QUIET
    assert fight(damper, clock, 3) == [0, 0, 1]


def test_the_longest_pause_is_not_yet_quiet(clock: Clock) -> None:
    damper = Damper[str](clock)
    fight(damper, clock, 20)
    clock.now += LONGEST
    damper.mended("copy", "red")
    assert damper.pause("copy", "red") == LONGEST


def test_what_is_forgotten_or_quiet_takes_no_memory(clock: Clock) -> None:
    damper = Damper[str](clock)
    for number in range(100):
        damper.mended(f"copy-{number}", "red")
        clock.now += 1
    damper.forget("copy-99")
    assert len(damper) == 99
    clock.now = QUIET + 49
    damper.mended("another", "red")
    assert len(damper) == 50
    clock.now += QUIET
    assert damper.pause("yet another", "red") == 0
    assert not len(damper)
