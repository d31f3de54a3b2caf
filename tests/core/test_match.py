"""Which rule matches a process."""

import fnmatch
import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu import takes_at_most
from oomguard.core.cgroup import system_unit, user_unit
from oomguard.core.match import Matcher, first_unmet, search
from oomguard.core.name_index import NameIndex
from oomguard.core.name_regex import marked
from oomguard.core.process import Identity, Process, UnknownFactError, full_name
from oomguard.core.rule import Rule, Terms, Value
from oomguard.core.rule_table import RuleTable

VALUE = Value("exact", 100)


def rule(*names: str, number: int = 0, **terms: Any) -> Rule:
    """Return a rule with the given names and terms."""
    made = Terms(VALUE)._replace(**terms)
    return Rule(number, tuple(name.encode() for name in names), made, "test.yaml", number + 1)


def process(comm: str = "x", *arguments: str, **facts: Any) -> Process:
    """Return a process with the given facts."""
    argv = tuple(argument.encode() for argument in arguments)
    return Process(Identity(10, 1), comm.encode(), arguments=argv)._replace(**facts)


def matched(rules: list[Rule], subject: Process) -> int | None:
    """Return the number of the rule that holds the process."""
    found = first(Matcher(rules), subject)
    return None if found is None else found.number


def first(matcher: Matcher, subject: Process, *how: Any) -> Rule | None:
    """Return the first rule that matches the process."""
    found = matcher.matches(subject, matcher.candidates(subject.comm), *how)
    return next((rule for rule, unknown in found if unknown is None), None)


LONG = "chromium-browser-sandbox"


@pytest.mark.parametrize(
    ("pattern", "subject", "holds"),
    [
        ("sshd", process("sshd"), True),
        ("sshd", process("sshd2"), False),
        ("ssh*", process("sshd"), True),
        ("ssh?", process("ssh"), False),
        ("[sr]shd", process("rshd"), True),
        (LONG, process(LONG[:15], f"/usr/lib/{LONG}", "--type=x"), True),
        (LONG, process(LONG[:15], "/usr/bin/python3", f"/opt/{LONG}"), True),
        (LONG, process(LONG[:15], "/usr/bin/chromium-browser"), False),
        (LONG, process(LONG[:15]), False),
        (LONG, process("chromium", LONG), False),
        ("*-sandbox", process(LONG[:15], LONG), True),
        (LONG[:15], process(LONG[:15], LONG), True),
        ("foo) Z 1 (", process("foo) Z 1 ("), True),
        ("Ünïcödé", process("Ünïcödé"), True),
    ],
)
def test_a_name_is_compared_in_full(pattern: str, subject: Process, *, holds: bool) -> None:
    """Short patterns meet comm, longer ones the name recovered from the command line, globs either.

    Among few rules and among many, where what cannot match is left out first.
    """
    for others in ([], FILLER):
        assert (matched([*others, rule(pattern, number=1)], subject) == 1) is holds


@pytest.mark.parametrize(
    ("terms", "subject", "unmet"),
    [
        ({"users": ("root",), "uids": (0,)}, process(uid=0), None),
        ({"users": ("root",), "uids": (0,)}, process(uid=1), "user"),
        ({"users": ("nobody-here",), "uids": ()}, process(uid=0), "user"),
        ({"units": ("ssh.service",)}, process(cgroup="/system.slice/ssh.service"), None),
        ({"units": ("batch-*.service",)}, process(cgroup="/system.slice/batch-1.service/sub"), None),
        ({"units": ("*",)}, process(cgroup="/"), "unit"),
        (
            {"units": ("ssh.service",)},
            process(cgroup="/user.slice/user-1.slice/user@1.service/app.slice/ssh.service"),
            "unit",
        ),
        (
            {"user_units": ("ssh.service",)},
            process(cgroup="/user.slice/user-1.slice/user@1.service/app.slice/ssh.service"),
            None,
        ),
        ({"user_units": ("ssh.service",)}, process(cgroup="/system.slice/ssh.service"), "user_unit"),
        ({"cgroups": ("/system.slice/*",)}, process(cgroup="/system.slice/a/b"), None),
        ({"cgroups": ("/system.slice",)}, process(cgroup="/system.slice/a"), "cgroup"),
        ({"cmdlines": ("--type=renderer",)}, process("x", "chrome", "--type=renderer"), None),
        ({"cmdlines": ("^java .*-Xmx",)}, process("x", "java", "-server"), "cmdline"),
        ({"exes": ("/usr/bin/*",)}, process(exe="/usr/bin/x"), None),
        ({"exes": ("/usr/bin/x",)}, process(exe="/usr/bin/x (deleted)"), None),
        ({"exes": ("*",)}, process(exe=None), "exe"),
        ({}, process(in_container=True), "containers"),
        ({"containers": True}, process(in_container=True), None),
    ],
)
def test_each_condition_names_what_failed(terms: dict[str, Any], subject: Process, unmet: str | None) -> None:
    """`first_unmet` tells the condition, which `explain` shows."""
    assert first_unmet(rule("x", **terms), subject) == unmet


def test_the_first_matching_rule_wins_whatever_its_kind() -> None:
    """Exact names are looked up first, but that does not let them overtake an earlier glob."""
    rules = [rule("ssh*", number=0), rule("sshd", number=1), rule(number=2, cmdlines=("x",))]
    assert matched(rules, process("sshd", "x")) == 0
    assert matched(rules[1:], process("sshd", "x")) == 1
    assert matched(rules[2:], process("sshd", "x")) == 2


def test_scope_main_passes_on_to_the_next_rule() -> None:
    """A rule that holds only the topmost process does not hold the others, and a later one may."""
    rules = [rule("sshd", number=0, scope="main"), rule("sshd", number=1)]
    assert first(Matcher(rules), process("sshd"), search, lambda *_: False) == rules[1]


def test_a_rule_that_cannot_be_tried_is_told_with_the_reason() -> None:
    """The next ones are tried as well."""

    def slow(pattern: re.Pattern[str], _text: str, _process: Process) -> bool:
        raise UnknownFactError(pattern.pattern)

    rules = [rule(number=0, cmdlines=("slow",)), *(rule(name, number=n + 1) for n, name in enumerate("xyx"))]
    matcher = Matcher(rules)
    found = list(matcher.matches(process("x"), matcher.candidates(b"x"), slow))
    assert [(one.number, unknown and str(unknown)) for one, unknown in found] == [
        (0, "(?:slow)"),
        (1, None),
        (3, None),
    ]


def test_a_name_decides_only_if_the_kernel_cannot_have_cut_it() -> None:
    """The rest of a name of 15 bytes is in the command line, which a process can rewrite."""
    matcher = Matcher([rule("a*")])
    assert matcher.is_decided_by_name(b"a" * 14)
    assert not matcher.is_decided_by_name(b"a" * 15)


def test_names_that_collide_at_15_bytes_are_kept_apart() -> None:
    """748 groups of names in a public rule set are equal in the 15 bytes the kernel keeps."""
    rules = [rule("gnome-terminal-server", number=0), rule("gnome-terminal-client", number=1)]
    assert matched(rules, process("gnome-terminal-", "/usr/libexec/gnome-terminal-client")) == 1


def test_a_full_name_needs_an_argument_that_begins_with_comm() -> None:
    """Where none does, comm is all there is."""
    assert full_name(b"a" * 15, (b"/bin/" + b"a" * 20,)) == b"a" * 20
    assert full_name(b"a" * 15, (b"/bin/" + b"a" * 20 + b" --title",)) == b"a" * 20
    assert full_name(b"a" * 15, (b"/bin/b",)) == b"a" * 15
    for options, length in ((2, 20), (3, 15)):
        script = (b"/bin/b", *(b"-x" for _ in range(options)), b"/bin/" + b"a" * 20)
        assert full_name(b"a" * 15, script) == b"a" * length
    assert full_name(b"short", (b"/bin/shorter",)) == b"short"


# The law: the index finds what a naive reading of the policy finds.

LETTERS = "ab"
names = st.text(LETTERS, min_size=1, max_size=18)
regexes = st.sampled_from(["^a", "b$", "^(ab|ba)$", "a.*b", "^a{3,}$", "(a|b)b$", "^[^a]", "^.{16,}$", "a?"])
patterns = st.one_of(
    names, st.text(LETTERS + "*?", min_size=1, max_size=5), regexes.map(lambda text: marked(text).decode())
)
cgroups = st.sampled_from(
    ["/", "/system.slice/a.service", "/user.slice/user-1.slice/user@1.service/app.slice/b.service", "/a"]
)


@st.composite
def rules(draw: st.DrawFn) -> list[Rule]:
    """Generate a policy's rules."""
    made = []
    for number in range(draw(st.integers(0, 6))):
        terms = Terms(
            VALUE,
            users=("u",) if draw(st.booleans()) else (),
            uids=(draw(st.integers(0, 2)),),
            units=draw(st.sampled_from([(), ("a.service",), ("*.service",)])),
            user_units=draw(st.sampled_from([(), ("b.service",)])),
            cgroups=draw(st.sampled_from([(), ("/system*",), ("/", "/a")])),
            cmdlines=draw(st.sampled_from([(), ("^a", "bb"), ("b$",)])),
            exes=draw(st.sampled_from([(), ("/bin/*",)])),
            containers=draw(st.booleans()),
        )
        given_names = tuple(name.encode() for name in draw(st.lists(patterns, max_size=3)))
        made.append(Rule(number, given_names, terms, "f", number))
    return made


@st.composite
def processes(draw: st.DrawFn) -> Process:
    """Generate a process, its name cut to 15 bytes as the kernel does."""
    name = draw(names)
    return Process(
        Identity(2, 2),
        name.encode()[:15],
        arguments=draw(st.sampled_from([(name.encode(),), (b"/bin/" + name.encode(), b"b"), ()])),
        uid=draw(st.integers(0, 2)),
        cgroup=draw(cgroups),
        exe=draw(st.sampled_from([None, "/bin/a", "/opt/a", "/bin/a (deleted)"])),
        in_container=draw(st.booleans()),
    )


def naive(rule: Rule, process: Process) -> bool:
    """Read a rule as the manual states it, with no index and nothing shared with the program."""
    terms, comm = rule.terms, process.comm.decode()
    whole = comm
    if len(comm) == 15:
        bases = [a.decode().rsplit("/", 1)[-1] for a in process.arguments[:4]]
        whole = next((base for base in bases if base.startswith(comm)), comm)

    def glob(pattern: str, text: str) -> bool:
        return fnmatch.fnmatchcase(text, pattern)

    def named(pattern: str) -> bool:
        if pattern.startswith("\0"):
            return any(re.search(pattern[1:], text, re.DOTALL) for text in (comm, whole))
        if any(c in pattern for c in "*?["):
            return glob(pattern, comm) or glob(pattern, whole)
        return pattern == (whole if len(pattern) > 15 else comm)

    unit, inner = system_unit(process.cgroup), user_unit(process.cgroup)
    return (
        (not rule.names or any(named(name.decode()) for name in rule.names))
        and (terms.containers or not process.in_container)
        and (not terms.users or process.uid in terms.uids)
        and (not terms.units or any(unit and glob(p, unit) for p in terms.units))
        and (not terms.user_units or any(inner and glob(p, inner) for p in terms.user_units))
        and (not terms.cgroups or any(glob(p, process.cgroup) for p in terms.cgroups))
        and (
            not terms.cmdlines
            or any(re.search(p, b" ".join(process.arguments).decode()) for p in terms.cmdlines)
        )
        and (
            not terms.exes
            or any(process.exe and glob(p, process.exe.removesuffix(" (deleted)")) for p in terms.exes)
        )
    )


FILLER = [rule(f"*{n}-never", number=0) for n in range(20)] + [
    rule(number=0, cmdlines=(f"never {n}",)) for n in range(20)
]
"""So many that a command line is asked first which of them it can be about."""


@settings(max_examples=500, deadline=None)
@given(rules(), st.lists(processes(), min_size=1, max_size=4), st.booleans())
def test_compiled_rules_agree_with_a_naive_reading(
    policy: list[Rule], subjects: list[Process], is_long: bool
) -> None:
    """For any policy and process the index and the memo find the same rule as plain reading."""
    policy = FILLER + policy if is_long else policy
    matcher = Matcher(policy)
    for subject in subjects:
        expected = next((rule for rule in policy if naive(rule, subject)), None)
        assert first(matcher, subject) == expected


def test_many_globs_and_patterns_cost_a_process_no_more_than_a_few() -> None:
    """A thousand of each: what is tried on a process is counted, not how long it takes."""
    globs = [rule(f"program-{n}-*", number=n) for n in range(1000)]
    patterns = [rule(number=1000 + n, cmdlines=(f"--job={n} ",)) for n in range(1000)]
    matcher = Matcher(globs + patterns)
    tried: list[str] = []

    def counted(pattern: re.Pattern[str], text: str, subject: Process) -> bool:
        tried.append(pattern.pattern)
        return search(pattern, text, subject)

    def decide(comm: str, *arguments: str) -> int | None:
        found = first(matcher, process(comm, *arguments), counted)
        return None if found is None else found.number

    assert decide("kworker/u8:0-ev") is None
    assert decide("program-7-whate", "/usr/bin/program-7-whatever") == 7
    assert len(tried) == 2, "all patterns as one, for each of the two"
    assert decide("x", "x", "--job=12 ") == 1012


def test_a_thousand_units_users_and_cgroups_cost_a_process_no_more_than_a_few() -> None:
    """What the user and the cgroup of a process rule out is not tried on the next that has them."""
    rules = [rule(number=n, units=(f"u{n}.service",)) for n in range(500)]
    rules += [rule(number=500 + n, cgroups=(f"/c{n}/*",)) for n in range(500)]
    rules += [rule(number=1000 + n, users=(str(n),), uids=(n,)) for n in range(1000)]
    matcher = Matcher(rules)

    def decide(comm: str, uid: int, cgroup: str) -> tuple[int | None, int]:
        """Return the rule, and how many were tried."""
        tried: list[str] = []

        class Counted(Process):
            __slots__ = ()

            @property
            def in_container(self) -> bool:  # asked once for each rule that is tried
                tried.append(comm)
                return False

        facts = Counted(Identity(2, 2), comm.encode(), uid=uid, cgroup=cgroup)
        found = first(matcher, facts)
        return (None if found is None else found.number), len(tried)

    assert decide("a", 5000, "/system.slice/u8.service") == (8, 1)
    assert decide("b", 5000, "/c7/x") == (507, 1)
    assert decide("c", 3, "/system.slice/u8.service") == (8, 1)
    assert decide("d", 3, "/other") == (1003, 1)
    assert decide("e", 5000, "/other") == (None, 0)


def test_what_any_user_can_choose_does_not_fill_the_memory() -> None:
    """Names and cgroups, as many as there is time for."""
    matcher = Matcher([rule("x*"), rule(number=1, cgroups=("/a/*",))])
    for number in range(5000):
        first(matcher, process(f"x{number}"))
    for number in range(5000):
        first(matcher, process("x", cgroup=f"/b/{number}"))
    assert min(len(matcher._memo), len(matcher._somewhere)) > 0
    assert max(len(matcher._memo), len(matcher._somewhere)) < 2500
    matcher.forget()
    assert not matcher._memo
    assert not matcher._somewhere


def test_a_name_of_many_rules_is_in_the_way_of_no_other() -> None:
    """A thousand jobs of one interpreter: what is compared with another name is counted."""
    index = NameIndex()
    for place in range(1000):
        index.add(b"python3", place)
    for place in range(1000, 1100):
        index.add(b"name-%d" % place, place)
    index.build()
    assert set(index.find(b"python3")) >= set(range(1000))
    assert all(place in index.find(b"name-%d" % place) for place in range(1000, 1100))
    assert max(len([*index.find(b"other-%d" % at)]) for at in range(1000)) < 100


def test_names_that_no_rule_has_share_one_list_of_rules() -> None:
    """Any user can run 2,000 programs of different names: 5,000 rules without a name would take 78 MiB."""
    rules = [Rule(at, (), Terms(Value("exact", 100), cgroups=("/a",)), "p.yaml", 1) for at in range(100)]
    matcher = Matcher(rules)
    found = [matcher.candidates(b"name-%d" % at) for at in range(5000)]
    assert all(list(one) == rules for one in found)
    assert len({id(one) for one in found}) < 10


def test_a_full_name_ends_where_no_file_name_is_longer() -> None:
    """Its owner chooses the length, and expressions take time for each byte."""
    assert full_name(b"a" * 15, (b"/" + b"a" * 4000,)) == b"a" * 255


def test_a_rule_without_a_name_finds_its_users_subordinate_uids() -> None:
    """As of rootless containers: the index by uid has only the users' own."""
    terms = Terms(Value("exact", 5), users=("a",), uids=(1000,), subuids=(100_000, 165_535))
    rule = Rule(0, (), terms, "f", 1)
    matcher = Matcher([rule])
    process = Process(Identity(2, 2), b"x", uid=100_001)
    assert [one for one, _ in matcher.matches(process, matcher.candidates(b"x"))] == [rule]


def test_the_topmost_of_a_tree_is_not_decided_by_its_name() -> None:
    """Its parent may take the name."""
    rule = Rule(0, (b"a",), Terms(Value("exact", 5), scope="main"), "f", 1)
    assert not Matcher([rule]).is_decided_by_name(b"a")


def test_who_matches_already_or_never_can_takes_no_place_of_those_that_may() -> None:
    """There are few: any user could take them all."""
    rule = Rule(0, (b"a",), Terms(Value("exact", 5), users=("a",), uids=(1000,), cmdlines=("x",)), "f", 1)
    matcher, mine = Matcher([rule]), Process(Identity(2, 2), b"a", uid=1000)
    assert matcher.may_come_to_match(mine, None)
    assert not matcher.may_come_to_match(mine, rule)
    assert not matcher.may_come_to_match(mine._replace(uid=1001), None)


def held(work: Callable[[], object]) -> int:
    """Return how many bytes are held for good by what this does."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_cgroups_with_long_paths_take_no_more_memory() -> None:
    """A user can have 2,048 of 4 KiB. With 512 wide characters each, they took 4 MiB of locked memory."""
    rule = Rule(0, (), Terms(Value("exact", 5), units=("batch.service",)), "f", 1)
    matcher = Matcher([rule])

    def look() -> None:
        for number in range(2000):
            for path in ("\U0001f600" * 450, "x" * 4000):
                process = Process(Identity(2, 2), b"x", cgroup=f"/system.slice/batch.service/{path}{number}")
                assert [one for one, _ in matcher.matches(process, matcher.candidates(b"x"))] == [rule]

    assert held(look) < 0.5 * 2**20


def test_names_that_many_rules_may_match_take_little_memory() -> None:
    """Any user can take 2,000 names of 15 bytes, each of which may be longer: 50 globs would take 22 MiB."""
    table = RuleTable([Terms(VALUE)], ["f"])
    table.extend([b"*name-%d" % at for at in range(50)], [n for at in range(50) for n in (at + 1, 0, 0, at)])
    matcher = Matcher(table)

    def look() -> None:
        for number in range(5000):
            assert len(matcher.candidates(b"hostile%08d" % number)) == 50

    assert held(look) < 2**20


def test_a_new_name_costs_the_same_however_many_are_known() -> None:
    """Those that are remembered are not gone through for it."""
    matcher = Matcher([rule(f"job-{number}", number=number) for number in range(1800)])

    def look(lot: int) -> None:
        for number in range(1800):
            if number % lot == 0:
                matcher.forget()
            assert len(matcher.candidates(b"job-%d" % number)) == 1

    takes_at_most(2, lambda: look(1800), lambda: look(100), "1,800 names at once")
