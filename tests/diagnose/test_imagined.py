"""What `oomguard test` decides in memory is what the reconciler does with a tree of files."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fakeproc import FakeProc
from oomguard.core.cgroup import in_user_slice
from oomguard.core.name_regex import marked
from oomguard.core.policy import Policy
from oomguard.core.process import Identity, Process
from oomguard.core.rule import Rule, Terms, Value
from oomguard.diagnose.case_runner import run_case
from oomguard.policy.cases.actors import Actor, Expected
from oomguard.policy.cases.case_file import Case
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler

NAMES = ["a", "ab", "long-name-of-a-daemon", "sshd\n"]
DOCKER = "/system.slice/docker-1.scope"
CGROUPS = [
    "/",
    "/system.slice/a.service",
    DOCKER,
    "/user.slice/user-7.slice/session-1.scope",
    "/user.slice/user-7.slice/user@7.service/app.slice/a.service",
]
VALUES = st.one_of(
    st.builds(Value, st.sampled_from(["exact", "at_most", "at_least"]), st.integers(-1000, 1000)),
    st.just(Value("keep")),
)


@st.composite
def rules(draw: st.DrawFn) -> tuple[Rule, ...]:
    """Generate the rules of a policy."""
    patterns = [
        *(name.encode() for name in NAMES),
        b"*",
        b"a*",
        marked("^a"),
        marked("n$"),
        marked("^(a|b)+$"),
    ]
    made = []
    for number in range(draw(st.integers(1, 4))):
        uids = draw(st.sampled_from([(), (), (0,), (7,)]))
        terms = Terms(
            draw(VALUES),
            users=tuple(map(str, uids)),
            uids=uids,
            units=draw(st.sampled_from([(), (), ("a.service",), ("*",)])),
            user_units=draw(st.sampled_from([(), (), (), ("a.*",)])),
            cgroups=draw(st.sampled_from([(), (), ("/system.slice/*",)])),
            cmdlines=draw(st.sampled_from([(), (), ("^a",)])),
            scope=draw(st.sampled_from(["all", "all", "main"])),
            trust=draw(st.sampled_from(["verified", "name"])),
            containers=draw(st.booleans()),
        )
        names = tuple(draw(st.lists(st.sampled_from(patterns), max_size=2, unique=True)))
        made.append(Rule(number, names, terms, "p.yaml", number + 1))
    return tuple(made)


@st.composite
def actors(draw: st.DrawFn) -> tuple[Actor, ...]:
    """Generate processes that have their values themselves."""
    made: list[Actor] = []
    for pid in range(100, 100 + draw(st.integers(1, 5))):
        name = draw(st.sampled_from(NAMES)).encode()
        parent = draw(st.sampled_from([None, *range(len(made))]))
        cgroup, is_nested = draw(st.sampled_from(CGROUPS)), draw(st.booleans())
        process = Process(
            Identity(pid, pid),
            name[:15],
            parent_pid=1 if parent is None else 100 + parent,
            arguments=(name,),
            uid=draw(st.sampled_from([0, 7, 1000])),
            saved=draw(st.sampled_from([None, None, 0])),
            cgroup=cgroup,
            in_pid_namespace=is_nested and (cgroup == DOCKER or in_user_slice(cgroup)),
            in_container=is_nested and cgroup == DOCKER,
            in_user_namespace=draw(st.booleans()),
            oom_score_adj=draw(st.integers(-1000, 1000)),
        )
        made.append(Actor(process, expected=Expected(pid, 1001)))
    return tuple(made)


@settings(max_examples=150)
@given(rules(), actors())
def test_files_and_memory_lead_to_the_same_values(rules: tuple[Rule, ...], actors: tuple[Actor, ...]) -> None:
    """For any rules and processes; whatever value was expected in vain is the one that a pass leaves."""
    policy = Policy(rules=rules)
    result = run_case("c.yaml", Case("any", 1, policy, {"MemTotal": 1}, {}, actors, {}))
    found = {one.line: int(one.differences[0].found) for one in result.compared}
    with tempfile.TemporaryDirectory() as folder:
        proc = FakeProc(Path(folder) / "proc")
        for actor in actors:
            proc.process(actor.process)
        procfs = proc.procfs()
        try:
            list(Reconciler(policy, Ledger(), procfs).everything("policy", now=0.0))
        finally:
            procfs.close()
        assert found == proc.oom_score_adjs()
