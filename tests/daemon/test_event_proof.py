"""Process events are proven to flow, against a kernel that any user can silence.

The kernel is a model of drivers/connector/cn_proc.c (Linux 6.6 and later) at its border, so that nothing here
silences the one that runs; tests/vm/test_attacks_events.py silences a real one.
"""

from collections.abc import MutableMapping, MutableSet
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from oomguard.daemon import event_proof as module
from oomguard.daemon.event_proof import EventProof
from oomguard.kernel.connector import Connector

if TYPE_CHECKING:
    from oomguard.daemon.event_proof import FlowChange

DAY = 86_400
PAIR_SECONDS = 4e-6
"""What it takes to bring the count up by one."""


class Kernel(Connector):
    """The kernel's count of listeners, with a subscriber's side of it."""

    def __init__(self, listeners: int) -> None:
        self.listeners = listeners
        self.invalid = 0
        self.renewed = 0
        self.requested = self._hears_requests = False
        self.answer: bool | None = None
        self.is_full = False
        self._event: bool | None = None

    def probe(self) -> None:
        """Send the event, or not."""
        self._event = self.listeners > 0

    def renew(self, count: int) -> None:
        """Add to the count."""
        self.listeners += count
        self.renewed += count

    def hear_requests(self) -> None:
        """Note requests from now on."""
        self.requested, self._hears_requests = False, True

    def ignore_requests(self) -> None:
        """Note none."""
        self._hears_requests = False

    def receive(
        self, pids: MutableSet[int], executed: MutableMapping[int, int] | None = None, *, limit: int
    ) -> bool:
        """Read the queue to its end."""
        self.answer, self._event = (None if self.is_full else self._event), None
        return self.is_full

    # What any user can do

    def send_invalid(self) -> None:
        """Send an invalid operation on a fresh socket."""
        self.invalid += 1
        self._acknowledge()

    def send_ignore(self) -> None:
        """Send IGNORE on a socket that sent an invalid operation."""
        if self.invalid:
            self.invalid -= 1
            self.listeners -= 1
            self._acknowledge()

    def lower(self, count: int) -> None:
        """Do both, again and again."""
        self._acknowledge()
        self.listeners -= count

    def _acknowledge(self) -> None:
        if self.listeners > 0 and self._hears_requests:
            self.requested = True


class Host:
    """A daemon's use of process events after its first pass, and its clock."""

    def __init__(self, listeners: int = 2) -> None:
        self.kernel = Kernel(listeners)
        self.events = EventProof(self.kernel)
        self.slice_seconds = module.BATCH * PAIR_SECONDS
        self.now = 0.0
        self.next_pass = 0.0
        self.turns: list[FlowChange] = []
        self.prove()

    def receive(self) -> None:
        """Take what there is."""
        _, turn = self.events.receive(set(), {}, limit=1000, now=self.now)
        if turn is not None:
            self.turns.append(turn)

    def wake(self) -> None:
        """Let the daemon do what it is woken for, until it sleeps."""
        if self.kernel.requested:
            self.receive()
        while self.events.is_busy:
            self.events.work()
            self.receive()
            self.now += self.slice_seconds

    def prove(self) -> None:
        """Let it find out whether events flow, as it does after each pass."""
        self.events.prove(self.now)
        self.receive()
        self.wake()

    def wait(self, seconds: float) -> None:
        """Let time pass, with what the daemon does at its own times."""
        end = self.now + seconds
        self.wake()
        while True:
            interval = 60.0 if self.events.flow else 1.0
            self.next_pass = min(self.next_pass, self.now + interval)
            guard = self.events.guard_at
            due = self.next_pass if guard is None else min(guard, self.next_pass)
            if due > end:
                break
            self.now = due
            if due == self.next_pass:
                self.next_pass = float("inf")
            self.prove()
        self.now = end


def test_events_that_flow_cost_nothing() -> None:
    """Nothing changes, nothing is done, and nobody is woken."""
    host = Host()
    before = host.kernel.renewed
    host.wait(DAY)
    assert (host.turns, host.events.flow, host.events.guard_at) == ([], True, None)
    assert host.kernel.renewed == before


def test_who_silences_the_kernel_is_noticed_at_once_and_events_are_renewed() -> None:
    """However far the count was taken down, in slices, and with no more than it needs."""
    for count in (50, 3_000, module.REACH - 100):
        host = Host()
        host.kernel.lower(count)
        assert host.kernel.listeners <= 0
        host.wake()
        assert host.turns == ["stopped"]
        assert 0 < host.kernel.listeners <= module.BATCH
        host.wait(module.HOLD_SECONDS + 2)
        assert host.turns == ["stopped", "resumed"]


def test_a_count_too_low_for_one_attempt_is_reached_in_several() -> None:
    """Each brings it nearer; meanwhile processes are looked for."""
    host = Host()
    host.kernel.lower(5 * module.REACH)
    host.wake()
    assert not host.events.flow
    host.wait(600)
    assert host.turns == ["stopped", "resumed"]


def test_an_attempt_goes_as_far_on_a_host_where_it_takes_long() -> None:
    """Or where the daemon pauses at its limit of CPU time."""
    host = Host()
    host.slice_seconds = 1.0
    host.kernel.lower(100 * module.BATCH)
    host.wake()
    assert host.kernel.listeners > 0
    host.wait(module.HOLD_SECONDS + 2)
    assert host.turns == ["stopped", "resumed"]


def test_a_count_out_of_reach_is_reported_once_and_polled_for() -> None:
    """It takes weeks to bring it up by what one attempt a minute adds; most hosts are rebooted before."""
    host = Host()
    host.kernel.lower(10**9)
    host.wait(DAY)
    assert host.turns == ["stopped"]
    assert not host.events.flow
    assert host.kernel.renewed <= module.REACH * (DAY / module.LONGEST_RETRY_SECONDS + 10)


def test_a_last_step_taken_later_does_not_go_unnoticed() -> None:
    """The step from one listener to none is not acknowledged; whoever waits before it finds more of them."""
    host = Host()
    for _ in range(10):
        for _ in range(100):
            host.kernel.send_invalid()
        host.wait(5)
        while host.kernel.listeners > 1 and host.kernel.invalid > 1:
            host.kernel.send_ignore()
        host.wait(5)
        host.kernel.send_ignore()
        host.wait(module.GUARD_SECONDS)
        assert host.kernel.listeners > 0 or not host.events.flow


@given(st.lists(st.sampled_from(["invalid", "ignore", "many", "wait", "short wait"]), max_size=60))
@example([*5 * ["invalid"], *4 * ["many"], "short wait", "many", "many", "wait", "ignore"])
def test_no_patience_silences_the_kernel_unnoticed(steps: list[str]) -> None:
    """Not even with operations prepared long before, on any number of sockets: a second later it is known."""
    host = Host()
    for step in steps:
        match step:
            case "invalid":
                host.kernel.send_invalid()
            case "ignore":
                host.kernel.send_ignore()
            case "many":
                for _ in range(module.CUSHION):
                    host.kernel.send_ignore() if host.kernel.invalid > 3 else host.kernel.send_invalid()
            case "wait":
                host.wait(5)
            case _:
                host.wait(0.4)
        host.wake()
    host.wait(module.GUARD_SECONDS)
    assert host.kernel.listeners > 0 or not host.events.flow


def test_who_goes_on_for_a_day_is_reported_once_and_costs_little() -> None:
    """Attempts become rare; and only the first may seem to have been enough."""
    host = Host()
    for _ in range(DAY // 10):
        host.kernel.lower(50_000)
        host.wait(10)
    assert len(host.turns) <= 3
    assert host.kernel.renewed <= module.REACH * (DAY / module.LONGEST_RETRY_SECONDS + 10)


def test_who_begins_again_whenever_events_flow_is_reported_ever_less_often() -> None:
    """Each time it takes twice as long until events are relied on, up to an hour."""
    host = Host()
    for _ in range(DAY // 10):
        if host.events.flow:
            host.kernel.lower(50)
        host.wait(10)
    assert len(host.turns) < 2 * (24 + 10)
    assert host.kernel.renewed < 1_000_000


def test_an_attack_long_ago_is_forgotten() -> None:
    """Then events are relied on again as soon as the first time."""
    host = Host()
    for _ in range(5):
        host.kernel.lower(50)
        host.wait(module.HOLD_SECONDS + 2)
        assert host.events.flow
        host.wait(module.LONGEST_HOLD_SECONDS)


def test_a_queue_that_runs_over_says_nothing_about_silence() -> None:
    """The event may have been among those that were dropped."""
    host = Host()
    host.kernel.is_full = True
    host.prove()
    assert host.turns == []
    host.kernel.is_full = False
    host.kernel.listeners = 0
    host.prove()
    assert host.turns == ["stopped"]


def test_a_count_prepared_before_the_start_is_noticed() -> None:
    """Raised before it is proven, it would be one, and the last step down is not acknowledged."""
    host = Host(listeners=1 - module.CUSHION)
    host.kernel.lower(1)
    host.wait(module.GUARD_SECONDS)
    assert host.kernel.listeners > 0 or not host.events.flow


def test_a_kernel_that_is_silent_from_the_start_is_noticed() -> None:
    """A user may have been there before."""
    host = Host(listeners=-3_000)
    assert host.turns == ["stopped"]
    assert host.kernel.listeners > 0
