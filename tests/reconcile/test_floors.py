"""What a process may lower itself to, after everything that is done to its value."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakeproc import FakeProc
from floors import FakePrivilege, FlooredKernel
from oomguard.core.change import Outcome
from oomguard.core.decide import TO_LOWER
from oomguard.core.policy import Policy
from oomguard.core.process import Identity, Process
from oomguard.core.rule import Rule, Terms, Value
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler

PID = 10


class Host:
    """One process with a floor, and a reconciler."""

    def __init__(self, folder: Path, *, value: int = 0, floor: int = 0, privilege: FakePrivilege) -> None:
        self.proc = FakeProc(folder / "proc")
        self.proc.process(Process(Identity(PID, PID), b"worker", oom_score_adj=value))
        self.kernel = FlooredKernel(str(self.proc.root), privilege)
        self.kernel.floors[PID] = floor
        self.ledger = Ledger()
        self.reconciler = Reconciler(Policy(), self.ledger, self.kernel, privilege)

    def give(self, *values: int) -> list[Outcome]:
        """Do one pass with a rule for each value; the first one counts, none restores."""
        rules = [Rule(0, (b"worker",), Terms(Value("exact", value)), "p.yaml", 1) for value in values]
        self.reconciler.adopt(Policy(rules=tuple(rules)))
        return list(self.reconciler.everything("policy", 0.0))

    @property
    def state(self) -> tuple[int, int]:
        """The value and the floor."""
        return self.proc.oom_score_adj(PID), self.kernel.floor(PID)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Return a host where the privilege is permitted."""
    made = Host(tmp_path, privilege=FakePrivilege())
    yield made
    made.kernel.close()


def test_a_raise_leaves_the_floor(host: Host) -> None:
    """The process may come down again by itself, so may others that it trusts."""
    host.give(800)
    assert host.state == (800, 0)
    host.give()
    assert host.state == (0, 0)
    assert [effective for *_, effective in host.kernel.writes] == [False, False]


def test_a_lowering_moves_the_floor_and_a_restore_moves_it_back(host: Host) -> None:
    """Put back without the privilege, it could return to immunity whenever it likes."""
    host.give(-900)
    assert host.state == (-900, -900)
    host.give()
    assert host.state == (0, 0)


def test_a_value_that_only_the_moved_floor_allows_is_not_its_own(host: Host) -> None:
    """Else a process could keep immunity when its rule is gone."""
    host.give(-900)
    host.proc.set_oom_score_adj(PID, -899)
    host.reconciler.adopt(Policy())
    assert host.reconciler.planner.left_alone() == []
    host.give()
    assert host.state == (0, 0)


@pytest.mark.parametrize("chosen", [0, 5, 300])
def test_who_chose_another_value_keeps_no_floor_when_the_rule_is_gone(host: Host, chosen: int) -> None:
    """It could return to immunity whenever it likes: what it chose is its own, the floor is ours."""
    host.proc.process(Process(Identity(PID, PID), b"worker", uid=1000))
    rule = Rule(0, (b"worker",), Terms(Value("exact", -900), trust="name"), "p.yaml", 1)
    host.reconciler.adopt(Policy(rules=(rule,)))
    assert host.reconciler.process(PID, "exec", 0.0)
    assert host.state == (-900, -900)
    host.proc.set_oom_score_adj(PID, chosen)
    host.give()
    assert host.state == (chosen, 0)


def test_a_floor_that_a_rule_moved_after_it_was_checked_is_checked_again(host: Host) -> None:
    """Without events, passes alone find that a user's program came under the rule, and left it."""
    rule = Rule(0, (b"worker",), Terms(Value("exact", -900), trust="name"), "p.yaml", 1)
    host.reconciler.adopt(Policy(rules=(rule,)))
    host.proc.process(Process(Identity(PID, PID), b"other", uid=1000))
    host.ledger.record_protection(-900, "", 0, 1)  # of a process that it may have inherited from
    assert list(host.reconciler.everything("resync", 0.0)) == []
    assert host.kernel.refused == [PID]
    host.proc.rename(PID, b"worker")
    assert len(list(host.reconciler.everything("resync", 0.0))) == 1
    assert host.state == (-900, -900)
    host.proc.set_oom_score_adj(PID, 5)
    host.proc.rename(PID, b"other")
    assert len(list(host.reconciler.everything("resync", 0.0))) == 1
    assert host.state == (5, 0)


def test_a_refused_name_hides_no_inherited_floor(host: Host) -> None:
    """A child that may run a program called as its parent, which a rule must not protect for its user."""
    host.give(-900)
    started = host.kernel.now_ticks()
    host.proc.process(Process(Identity(11, started), b"worker", parent_pid=PID, uid=1000))
    host.kernel.floors[11] = -900
    outcome = host.reconciler.process(11, "resync", 0.0, in_pass=True)
    assert outcome is not None
    assert (host.proc.oom_score_adj(11), host.kernel.floor(11)) == (0, 0)


def test_a_lowering_that_the_floor_allows_takes_no_privilege(tmp_path: Path) -> None:
    """A daemon that manages its own value keeps the right to, exactly."""
    host = Host(tmp_path, floor=-1000, privilege=FakePrivilege())
    host.give(-900)
    assert host.state == (-900, -1000)
    host.give()
    assert host.state == (0, -1000)


def test_a_lesser_protection_takes_the_greater_ones_right_away(host: Host) -> None:
    """The floor follows the value down and up."""
    host.give(-900)
    host.give(-500)
    assert host.state == (-500, -500)
    host.give(-700)
    assert host.state == (-700, -700)


def test_a_raise_after_a_lowering_gives_the_own_floor_back(host: Host) -> None:
    """As if it had never been lowered."""
    host.give(-900)
    host.give(300)
    assert host.state == (300, 0)
    host.give()
    assert host.state == (0, 0)


def test_a_floor_that_somebody_else_moved_up_does_not_keep_the_own_value_away(tmp_path: Path) -> None:
    """As root with choom does: what is put back later then lies below the floor."""
    host = Host(tmp_path, value=77, privilege=FakePrivilege())
    host.give(400)
    host.kernel.floors[PID] = 90
    host.give()
    assert host.state == (77, 77)


def test_without_the_privilege_a_lowering_is_denied(tmp_path: Path) -> None:
    """And nothing is remembered of it."""
    host = Host(tmp_path, privilege=FakePrivilege(is_permitted=False))
    (outcome,) = host.give(-900)
    assert (outcome.result, outcome.hint) == ("denied", TO_LOWER)
    assert host.state == (0, 0)
    assert not host.ledger.processes


def test_where_it_cannot_be_put_aside_a_restore_moves_the_floor_back(tmp_path: Path) -> None:
    """Every write moves it then, and the last one to where the value began."""
    host = Host(tmp_path, privilege=FakePrivilege(moves_every_floor=True))
    host.give(800)
    assert host.state == (800, 800)
    host.give()
    assert host.state == (0, 0)


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.sampled_from([-1000, -900, -500, 0, 300, 1000])), max_size=6),
    st.sampled_from([0, 200, 1000]),
)
def test_after_any_history_a_restore_gives_value_and_floor_back(
    tmp_path_factory: pytest.TempPathFactory, history: list[int | None], value: int
) -> None:
    """For a process whose floor is its value or 0, as nearly all have."""
    host = Host(tmp_path_factory.mktemp("host"), value=value, privilege=FakePrivilege())
    lowered = False
    for number in history:
        host.give(*([] if number is None else [number]))
        lowered = lowered or host.state[1] != 0
        assert number is None or host.state[0] == number
    host.give()
    assert host.state[0] == value
    # Once moved, all that is known of the floor is that it was not above the value.
    assert host.state[1] == (value if lowered else 0)
    host.kernel.close()


@pytest.mark.parametrize("told", [True, False], ids=["by its fork", "by its parent"])
@pytest.mark.parametrize(
    ("value", "capabilities", "after"),
    [
        (-900, "0000000000000000", (0, 0)),
        (-899, "0000000000000000", (0, 0)),
        (-1, "0000000000000000", (0, 0)),
        (0, "0000000000000000", (0, 0)),
        (300, "0000000000000000", (300, 0)),
        (0, "000001ffffffffff", (0, -900)),
        (-899, "000001ffffffffff", (-899, -900)),
    ],
)
def test_a_child_cannot_keep_immunity_by_choosing_another_value(
    host: Host, value: int, capabilities: str, after: tuple[int, int], *, told: bool
) -> None:
    """The floor it inherited is taken from it as well, unless it may choose its value freely itself."""
    host.give(-900)
    child = Process(
        Identity(11, host.kernel.now_ticks()), b"sh", parent_pid=PID, uid=1000, oom_score_adj=value
    )
    host.proc.process(child)
    status = host.proc.root / "11" / "status"
    status.write_text(status.read_text().replace(f"CapEff:\t{0:016x}", f"CapEff:\t{capabilities}"))
    host.kernel.floors[11] = -900
    if told:
        host.reconciler.managed.on_fork(PID, 11, 0)
    host.reconciler.managed.asks_parents = not told
    host.reconciler.process(11, "exec", 0.0, in_pass=not told)
    assert (host.proc.oom_score_adj(11), host.kernel.floor(11)) == after


def test_between_passes_no_floor_is_tried_that_only_a_value_would_show(host: Host) -> None:
    """A child that was forked before or after its parent was reset may have a floor of its own."""
    host.give(-900)
    host.give()
    managed = host.reconciler.managed
    at_ns = managed.descents[PID].former_until
    for child, is_certain in ((11, True), (12, False)):
        managed.on_fork(PID, child, at_ns if is_certain else at_ns + 1)
        host.proc.process(Process(Identity(child, host.kernel.now_ticks()), b"sh", parent_pid=PID, uid=1000))
        handle = host.kernel.open(child)
        assert handle is not None
        with handle:
            assert host.reconciler.inheritance.may_have_floor(handle, in_pass=False) is is_certain


def test_what_a_child_forked_before_its_floor_was_taken_loses_its_own(host: Host) -> None:
    """The fork tells, where nothing else does: a value in another service is that service's."""
    host.give(-900)
    managed = host.reconciler.managed
    child = Process(Identity(11, host.kernel.now_ticks()), b"sh", uid=1000)
    grandchild = Process(Identity(12, 99), b"sh", uid=1000, cgroup="/system.slice/a.service")
    for process in (child, grandchild._replace(oom_score_adj=-900)):
        host.proc.process(process)
        host.kernel.floors[process.identity.pid] = -900
    for parent, pid in ((PID, 11), (11, 12)):
        managed.on_fork(parent, pid, 0)
        host.reconciler.process(pid, "exec", 0.0)
        assert (host.proc.oom_score_adj(pid), host.kernel.floor(pid)) == (0, 0)


def family(host: Host, *, started: int, value: int) -> Process:
    """Return a child of the managed process, a program that a rule of its own holds at -500 or below."""
    child = Process(Identity(11, started), b"helper", parent_pid=PID, uid=1000, oom_score_adj=value)
    host.proc.process(child)
    host.kernel.floors[11] = value
    rules = (
        Rule(0, (b"worker",), Terms(Value("exact", -900), trust="name"), "p.yaml", 1),
        Rule(1, (b"helper",), Terms(Value("at_most", -500), trust="name"), "p.yaml", 2),
    )
    host.reconciler.adopt(Policy(rules=rules))
    return child


def run_helper(host: Host, *, value: int, told: bool) -> Process:
    """Have that child, with the floor of its parent, run the program, and return it."""
    host.give(-900)
    child = family(host, started=host.kernel.now_ticks(), value=value)
    host.kernel.floors[11] = -900
    host.reconciler.managed.asks_parents = not told
    if told:
        host.reconciler.managed.on_fork(PID, 11, 0)
    host.reconciler.process(11, "exec", 0.0)
    return child


@pytest.mark.parametrize("told", [True, False], ids=["by its fork", "by its parent"])
def test_a_child_with_a_rule_of_its_own_cannot_keep_more_either(host: Host, *, told: bool) -> None:
    """What it took by the floor it inherited is not its own, and is not put back later."""
    child = run_helper(host, value=-899, told=told)
    assert (host.proc.oom_score_adj(11), host.kernel.floor(11)) == (-500, -500)
    assert host.ledger.entry(child.identity) is not None
    host.give(-900)
    assert (host.proc.oom_score_adj(11), host.kernel.floor(11)) == (0, 0)


@pytest.mark.parametrize("told", [True, False], ids=["by its fork", "by its parent"])
def test_a_child_that_raised_itself_keeps_no_floor_under_a_rule_of_its_own(host: Host, *, told: bool) -> None:
    """It would lower itself to that later, and the rule allows what it chose itself."""
    run_helper(host, value=0, told=told)
    assert (host.proc.oom_score_adj(11), host.kernel.floor(11)) == (-500, -500)
    host.give(-900)
    assert (host.proc.oom_score_adj(11), host.kernel.floor(11)) == (0, 0)


@pytest.mark.parametrize("has_rule", [True, False])
def test_a_child_that_started_before_its_parent_was_set_has_its_own_value(
    host: Host, *, has_rule: bool
) -> None:
    """Something lowered it, but not a floor that oomguard moved."""
    host.give(-900)
    ((process, entry),) = host.ledger.processes.items()
    host.ledger.record(process, entry._replace(since_ticks=100))
    family(host, started=50, value=-700)
    if not has_rule:
        host.reconciler.adopt(Policy(rules=host.reconciler.policy.rules[:1]))
    host.reconciler.managed.asks_parents = True
    assert host.reconciler.process(11, "resync", 0.0) is None
    assert host.proc.oom_score_adj(11) == -700


def test_a_value_that_moves_in_time_puts_off_no_floor(host: Host) -> None:
    """Else who was immune could stay it by writing now one value and now another."""
    host.give(-900)
    host.reconciler.adopt(Policy())
    handle = host.kernel.open(PID)
    assert handle is not None
    with handle:
        change = host.reconciler.next_change(handle, "policy")
        assert change is not None
        host.proc.set_oom_score_adj(PID, -899)
        outcome = host.reconciler._apply(change, handle, 0.0)
        assert outcome is not None
        assert outcome.result == "applied"
    assert host.state == (0, 0)


def test_children_are_reset_from_the_value_that_a_program_saved_for_them(host: Host) -> None:
    """Sshd was set to -900 at its start, saves that, sets itself to -1000, and each session to -900."""
    rule = Rule(0, (b"worker",), Terms(Value("at_most", -900), scope="main"), "p.yaml", 1)
    host.reconciler.adopt(Policy(rules=(rule,)))
    host.reconciler.process(PID, "exec", 0.0)
    assert host.state == (-900, -900)
    host.proc.set_oom_score_adj(PID, -1000)
    assert host.reconciler.process(PID, "drift", 0.0) is None
    assert not host.ledger.processes
    managed = host.reconciler.managed
    for child, name in ((11, b"worker"), (12, b"sh")):
        managed.on_fork(PID, child, 10**30)
        host.proc.process(Process(Identity(child, 10**6), name, parent_pid=PID, oom_score_adj=-1000))
        assert host.reconciler.process(child, "exec", 0.0) is None
        host.proc.set_oom_score_adj(child, -900)
        host.kernel.floors[child] = -900
        host.reconciler.process(child, "exec", 0.0)
        assert (host.proc.oom_score_adj(child), host.kernel.floor(child)) == (0, 0)
        host.proc.set_oom_score_adj(child, -900)  # and once is enough: from now on it is its own choice
        assert host.reconciler.process(child, "exec", 0.0) is None
