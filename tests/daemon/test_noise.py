"""Whose changes of name and user are dropped, with time as an argument."""

from oomguard.daemon.noise import (
    LONGEST_MUTE_SECONDS,
    MUTE_SECONDS,
    MUTED_LIMIT,
    PROCESS_LIMIT,
    TOTAL_LIMIT,
    Noise,
)


def test_a_process_that_changes_too_often_is_muted_and_heard_again() -> None:
    """The others are heard all the time."""
    noise = Noise()
    assert not noise.take([7] * PROCESS_LIMIT, 1.0)
    assert noise.take([7, 8], 1.5)
    assert noise.muted == {7}
    assert not noise.all_renames
    assert not noise.expire(1.4 + MUTE_SECONDS)
    assert noise.expire(1.5 + MUTE_SECONDS)
    assert not noise.is_any


def test_changes_now_and_then_are_no_noise() -> None:
    """However long that goes on."""
    noise = Noise()
    assert not any(noise.take([7] * PROCESS_LIMIT, float(second)) for second in range(1000))


def test_what_was_queued_before_a_process_was_muted_counts_no_more() -> None:
    """The queue holds thousands of events, which do not mute everybody."""
    noise = Noise()
    assert noise.take([7] * 1000, 1.0)
    assert not noise.take([7] * 20_000, 1.1)
    assert not noise.all_renames


def test_many_processes_that_change_a_little_too_often_mute_all_renames() -> None:
    """None of them alone is worth it."""
    noise = Noise()
    for turn in range(10):
        noise.take(list(range(TOTAL_LIMIT // 10)), 1.0 + turn / 100)
    assert not noise.is_any
    assert noise.take([1], 1.2)
    assert noise.all_renames
    assert noise.muted == frozenset()
    assert noise.expire(1.2 + MUTE_SECONDS)
    assert not noise.is_any


def test_no_more_are_muted_than_the_filter_can_name() -> None:
    """Whoever has more processes than that has all renames dropped, those of others, too."""
    noise = Noise()
    for pid in range(10 * MUTED_LIMIT):
        noise.take([pid] * (PROCESS_LIMIT + 1), 1.0)
    assert len(noise.muted) == MUTED_LIMIT
    assert noise.all_renames


def test_whoever_begins_again_is_muted_for_longer() -> None:
    """Each time ends with a pass, and that is what it costs."""
    noise, now, times = Noise(), 100.0, []
    for _ in range(6):
        noise.take(list(range(TOTAL_LIMIT + 1)), now)
        begun = now
        while noise.all_renames:
            now += 1.0
            noise.expire(now)
        times.append(now - begun)
    assert times == [10.0, 20.0, 40.0, 80.0, 80.0, 80.0]
    noise.take(list(range(TOTAL_LIMIT + 1)), now + LONGEST_MUTE_SECONDS + 1)
    assert noise.all_renames
    assert noise.expire(now + LONGEST_MUTE_SECONDS + 1 + MUTE_SECONDS)
