"""The ceiling on the daemon's own CPU time, with both clocks as arguments."""

import os
import select
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from oomguard.daemon.ceiling import CAPACITY_SECONDS, LIMIT_PERCENT, Ceiling
from oomguard.daemon.loop import Loop


def used(ceiling: Ceiling, share: float, *, seconds: int) -> list[float]:
    """Return the CPU time used by the end of each second, if it works at `share` between its pauses."""
    step, now, cpu, awake_at = 0.002, 0.0, 0.0, 0.0
    totals: list[float] = []
    while len(totals) < seconds:
        now += step
        if now >= awake_at:
            cpu += step * share
            awake_at = now + ceiling.pause(now, cpu)
        if now >= len(totals) + 1:
            totals.append(cpu)
    return totals


@pytest.mark.parametrize("share", [0.12, 0.2, 0.5, 0.67, 1.0])
def test_a_burst_is_over_after_ten_seconds_whatever_is_wanted(share: float) -> None:
    """From then on it stays below the limit, in every second."""
    totals = used(Ceiling(0.0, 0.0), share, seconds=120)
    assert max(after - before for before, after in pairwise(totals[11:])) * 100 < LIMIT_PERCENT
    assert totals[9] <= CAPACITY_SECONDS + 1


@pytest.mark.parametrize("share", [0.12, 0.3, 1.0])
def test_a_burst_does_not_end_in_a_long_pause(share: float) -> None:
    """Programs that start then would have no value for seconds."""
    ceiling = Ceiling(0.0, 0.0)
    now, cpu, longest = 0.0, 0.0, 0.0
    while now < 60.0:
        now += 0.002
        cpu += 0.002 * (0.7 if now < 2.0 else share)
        pause = ceiling.pause(now, cpu)
        now += pause
        longest = max(longest, pause)
    assert ceiling.is_reached
    assert longest < 0.2


@pytest.mark.parametrize("share", [0.01, 0.05, 0.07])
def test_who_stays_below_is_never_paused(share: float) -> None:
    """Not in a day either."""
    ceiling = Ceiling(0.0, 0.0)
    assert not any(ceiling.pause(float(second), second * share) for second in range(86_400))
    assert not ceiling.is_reached


def test_short_peaks_far_apart_are_free() -> None:
    """A pass over a large host takes half a second of CPU each minute."""
    ceiling, cpu = Ceiling(0.0, 0.0), 0.0
    for minute in range(1000):
        for tenth in range(600):
            cpu += 0.1 if tenth < 5 else 0.001
            assert not ceiling.pause(minute * 60 + tenth / 10, cpu)


def test_the_first_pass_over_fifty_thousand_processes_is_not_paused() -> None:
    """It takes 3 s of CPU, all at once."""
    ceiling = Ceiling(0.0, 0.0)
    assert not any(ceiling.pause(tick / 100, tick / 100) for tick in range(300))


def test_it_is_over_only_after_a_quiet_time() -> None:
    """What begins and ends is said; half a minute apart at least."""
    ceiling = Ceiling(0.0, 0.0)
    cpu = used(ceiling, 1.0, seconds=20)[-1]
    reached = []
    for second in range(20, 80):
        ceiling.pause(second, cpu)
        reached.append(ceiling.is_reached)
    assert reached == sorted(reached, reverse=True)
    assert 25 < sum(reached) < 40


def test_one_long_turn_delays_the_next_little() -> None:
    """50 ms of CPU time take 0.7 s to pay for; it goes on after 0.1 s, a little at a time."""
    ceiling = Ceiling(0.0, 0.0)
    assert ceiling.pause(0.1, CAPACITY_SECONDS + 0.05) == pytest.approx(0.1)
    assert ceiling.pause(0.15, CAPACITY_SECONDS + 0.05) == pytest.approx(0.05)
    assert ceiling.pause(0.2, CAPACITY_SECONDS + 0.05) == 0.0
    assert ceiling.pause(0.2, CAPACITY_SECONDS + 0.052) == pytest.approx(0.1)


def test_a_debt_is_paid_before_work_goes_on() -> None:
    """One turn may take long: reading 50,000 pids, say."""
    ceiling = Ceiling(0.0, 0.0)
    assert ceiling.pause(CAPACITY_SECONDS + 1, CAPACITY_SECONDS + 1) > 1
    assert ceiling.is_reached


def test_no_attack_is_paid_for_long_after_its_end() -> None:
    """Timers go on during a pause; a storm of forks can have them use more than what comes back."""
    ceiling = Ceiling(0.0, 0.0)
    for second in range(3600):
        ceiling.pause(second, second * 0.3)
    assert ceiling.pause(3600, 3600 * 0.3) <= 70


def at_the_ceiling(*, debt: float = 0.01) -> Loop:
    """Return a loop that has used up its burst, and more."""
    loop = Loop()
    loop.ceiling = Ceiling(time.monotonic(), time.process_time() - CAPACITY_SECONDS - debt)
    return loop


def test_a_loop_at_its_ceiling_sleeps_most_of_the_time() -> None:
    """However much work there is."""
    loop = at_the_ceiling()
    start, start_cpu = time.monotonic(), time.process_time()
    while time.monotonic() - start < 1.5:
        if loop.turn(busy=True):
            end = time.process_time() + 0.002
            while time.process_time() < end:
                pass
    assert (time.process_time() - start_cpu) * 100 < LIMIT_PERCENT * 1.5


def test_a_paused_loop_still_serves_signals_and_timers() -> None:
    """SIGTERM ends it at once, and the watchdog does not."""
    loop = at_the_ceiling(debt=4.0)
    assert loop.ceiling.pause(time.monotonic(), time.process_time()) > 40
    served: list[str] = []
    loop.define("watchdog", lambda _: served.append("watchdog"))
    loop.set_after("watchdog", 0.1)
    before = signal.getsignal(signal.SIGUSR1)
    try:
        loop.on_signal(signal.SIGUSR1, lambda: served.append("signal"))
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        start = time.monotonic()
        while len(served) < 2 and time.monotonic() - start < 5.0:
            assert not loop.turn(busy=True)
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGUSR1, before)
    assert served == ["signal", "watchdog"]


def test_what_is_ready_is_handled_before_a_pause() -> None:
    """The kernel tells of pressure only once."""
    loop, handled = Loop(), list[int]()
    loop.ceiling = Ceiling(time.monotonic(), time.process_time() - 60)
    fd, other = os.pipe()
    try:
        loop.watch(fd, lambda: handled.append(fd))
        time.sleep(0.1)  # CPU time is read every 0.05 s
        assert not loop.turn(busy=False, ready=[(fd, select.EPOLLIN)]), "it did not pause"
        assert handled == [fd]
    finally:
        os.close(fd)
        os.close(other)


def test_a_timer_that_another_one_moved_waits() -> None:
    """Though both were due."""
    loop, ran = Loop(), list[str]()

    def move(now: float) -> None:
        loop.set("b", now + 100)
        loop.set("c", None)

    loop.define("a", move)
    for name in ("b", "c", "d"):
        loop.define(name, lambda _: ran.append("b, c or d"))
    for name in ("a", "b", "c", "d"):
        loop.set(name, 0.0)
    loop.turn(busy=True)
    assert ran == ["b, c or d"]
    assert loop.is_set("b")


@pytest.mark.parametrize("seconds", [1.0, 60.0])
def test_a_timer_that_two_set_is_due_at_the_earlier(seconds: float) -> None:
    """Whoever was first."""
    loop, ran = Loop(), list[float]()
    loop.define("a", ran.append)
    for when in (seconds, 61.0 - seconds):
        loop.set_earlier("a", when)
    loop._run_timers(1.0)
    assert ran == [1.0]


def test_a_loop_that_is_always_busy_leaves_the_processor_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a real-time priority nothing else would get it, and RLIMIT_RTTIME would end the daemon."""
    slept, now = list[float](), 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", slept.append)
    loop = Loop()
    for _ in range(1000):
        now += 0.01
        loop.wait(busy=True)
    assert sum(slept) == pytest.approx(0.1, rel=0.1), "1 % of 10 s"


def test_a_loop_sleeps_until_the_first_of_its_timers() -> None:
    """Whichever was set first."""
    loop, fired = Loop(), list[str]()
    loop.define("later", lambda _: fired.append("later"))
    loop.define("soon", lambda _: fired.append("soon"))
    loop.set_after("later", 30.0)
    loop.set_after("soon", 0.01)
    loop.turn(busy=False)
    assert fired == ["soon"]


def test_what_cannot_be_watched_is_not(tmp_path: Path) -> None:
    """As when the kernel has no memory: who tries again must be able to stop first."""
    loop = Loop()
    with (tmp_path / "file").open("w") as file:
        with pytest.raises(PermissionError):  # of epoll, for any regular file
            loop.watch(file.fileno(), print)
        assert not loop.watches(file.fileno())
        loop.unwatch(file.fileno())
