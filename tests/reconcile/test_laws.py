"""What holds for any policy and any processes: applied is done, and restored is as before."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakeproc import FakeProc, due
from oomguard.core.change import Change
from oomguard.core.choices import ValueKind
from oomguard.core.policy import Policy
from oomguard.core.process import Identity, Process
from oomguard.core.rule import Rule, Terms, Value
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler

COMMS = (b"a", b"b", b"foo) Z 1 (", b"", b"\xff\n")
CGROUPS = ("/", "/system.slice/a.service", "/user.slice/user-1.slice/user@1.service/app.slice/b.service")
SCORES = st.sampled_from([-1000, -500, -1, 0, 1, 300, 1000])
KINDS: list[ValueKind] = ["exact", "keep", "at_most", "at_least"]

fast = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Generate rules with every kind of value, some of which trust a name."""
    rules = []
    for number in range(draw(st.integers(0, 4))):
        terms = Terms(
            Value(draw(st.sampled_from(KINDS)), draw(SCORES)),
            users=("u",) if draw(st.booleans()) else (),
            uids=(draw(st.integers(0, 1)),),
            units=draw(st.sampled_from([(), (), ("*.service",)])),
            scope=draw(st.sampled_from(["all", "main"])),
            trust=draw(st.sampled_from(["verified", "name"])),
            containers=draw(st.booleans()),
        )
        if not terms.users:
            terms = terms._replace(uids=())
        names = draw(st.sampled_from([(), (b"a",), (b"b", b"foo*"), (b"*",)]))
        rules.append(Rule(number, names, terms, "f", number + 1))
    return Policy(rules=tuple(rules))


@st.composite
def observations(draw: st.DrawFn) -> list[Process]:
    """Generate a forest of processes, each with a value that nobody else has.

    Distinct values, since a child that has what its parent was given is taken for one that
    inherited it.
    """
    count = draw(st.integers(0, 6))
    values = draw(
        st.lists(
            st.integers(-999, 999).filter(lambda v: v not in (-500, -1, 0, 1, 300)),
            min_size=count,
            max_size=count,
            unique=True,
        )
    )
    return [
        Process(
            Identity(pid, pid),
            draw(st.sampled_from(COMMS)),
            parent_pid=draw(st.sampled_from([1, *range(10, pid)])),
            uid=draw(st.integers(0, 1)),
            cgroup=draw(st.sampled_from(CGROUPS)),
            in_container=draw(st.booleans()),
            in_user_namespace=draw(st.booleans()),
            oom_score_adj=value,
        )
        for pid, value in zip(range(10, 10 + count), values, strict=True)
    ]


class World:
    """A tree with processes, and what keeps it."""

    def __init__(self, folder: str, processes: list[Process]) -> None:
        self.proc = FakeProc(Path(folder) / "proc")
        for process in processes:
            self.proc.process(process)
        self.procfs = self.proc.procfs()
        self.reconciler = Reconciler(Policy(), Ledger(), self.procfs)

    def keep(self, policy: Policy) -> None:
        """Do one pass with a policy."""
        self.reconciler.adopt(policy)
        assert {outcome.result for outcome in self.reconciler.everything("policy", 0.0)} <= {
            "applied",
            "refused",
        }
        managed, ledger = self.reconciler.managed, self.reconciler.ledger
        assert (managed.matched, ledger.in_force) == (len(managed.rule_of), len(ledger.processes))

    def due(self) -> list[Change]:
        """Return what another pass would write."""
        return [change for change in due(self.reconciler) if change.obstacle is None]


@fast
@given(observations(), policies())
def test_applying_a_plan_leaves_nothing_but_what_was_refused(
    processes: list[Process], policy: Policy
) -> None:
    """For any policy and processes; a second pass writes nothing."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(folder, processes)
        world.keep(policy)
        assert world.due() == []
        world.procfs.close()


@fast
@given(observations(), st.lists(policies(), min_size=1, max_size=3))
def test_restoring_after_any_policies_gives_back_the_start(
    processes: list[Process], policies: list[Policy]
) -> None:
    """However many policies were in force one after another."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(folder, processes)
        start = world.proc.oom_score_adjs()
        for policy in policies:
            world.keep(policy)
        world.keep(Policy())
        assert world.proc.oom_score_adjs() == start
        assert world.due() == []
        world.procfs.close()


@fast
@given(observations(), policies(), st.data())
def test_what_drifts_is_healed_or_left_but_never_fought_over_at_rest(
    processes: list[Process], policy: Policy, data: st.DataObject
) -> None:
    """Somebody rewrites some values; one pass settles it, and a restore gives that process no third value."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(folder, processes)
        start = world.proc.oom_score_adjs()
        world.keep(policy)
        rewritten = {}
        if processes:
            rewritten = data.draw(
                st.dictionaries(st.sampled_from(sorted(start)), st.integers(-1000, 1000), max_size=3)
            )
        for pid, value in rewritten.items():
            world.proc.set_oom_score_adj(pid, value)
        world.keep(policy)
        assert world.due() == []
        given = world.proc.oom_score_adjs()
        world.keep(Policy())
        for pid, value in world.proc.oom_score_adjs().items():
            if pid in rewritten:
                assert value in (start[pid], rewritten[pid], given[pid])
            else:
                assert value == start[pid]
        world.procfs.close()


@fast
@given(observations(), policies())
def test_planning_writes_nothing(processes: list[Process], policy: Policy) -> None:
    """A dry run is a plan nobody applied."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(folder, processes)
        start = world.proc.oom_score_adjs()
        world.reconciler.adopt(policy)
        first = world.due()
        assert world.due() == first
        assert world.proc.oom_score_adjs() == start
        world.procfs.close()
