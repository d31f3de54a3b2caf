"""The compiled policy, as one is compared with the one before."""

from oomguard.core.policy import DEFAULT_PATH, Emptied, Policy, SysctlSetting, emptied
from oomguard.core.rule import Rule, Terms, Value

TERMS = Terms(Value("exact", 300))


def policy(rules: str, sysctls: str = "", files: str = "abc") -> Policy:
    """Return a policy whose rules and sysctls come from the files named by one letter each."""
    return Policy(
        rules=tuple(Rule(number, (b"x",), TERMS, file, 1) for number, file in enumerate(rules)),
        sysctls=tuple(SysctlSetting("vm.swappiness", 1, file, 1) for file in sysctls),
        files=tuple(files),
    )


def test_a_file_that_lost_all_it_declared_is_emptied() -> None:
    """With the numbers of its rules, and how many sysctls."""
    assert emptied(policy("a", "b"), policy("a")) == [Emptied("b", frozenset(), 1)]
    before = policy("abab", "b")
    assert emptied(before, policy("aa")) == [Emptied("b", frozenset({1, 3}), 1)]
    assert emptied(before, policy("")) == [
        Emptied("a", frozenset({0, 2}), 0),
        Emptied("b", frozenset({1, 3}), 1),
    ]


def test_a_file_that_has_something_left_or_never_had_is_not() -> None:
    """Nor a drop-in that was removed: that is no accident. If the main file is removed, it may be one."""
    before = policy("ab")
    assert emptied(before, policy("a", "b")) == []
    assert emptied(before, policy("a", files="ac")) == []
    assert emptied(policy(""), policy("")) == []
    main = policy("a")._replace(rules=[Rule(0, (b"x",), TERMS, DEFAULT_PATH, 1)], files=(DEFAULT_PATH,))
    assert emptied(main, policy("a")) == [Emptied(DEFAULT_PATH, frozenset({0}), 0)]


def test_the_origin_names_some_files_and_none_that_could_reach_a_terminal() -> None:
    """A folder may have thousands."""
    assert policy("", files="").origin == "0 rules and 0 sysctls from no file"
    names = ("/a\x1b\udcff.yaml", *(f"/{number}.yaml" for number in range(1, 1000)))
    assert policy("")._replace(files=names).origin == (
        r"0 rules and 0 sysctls from /a\x1b\xff.yaml, /1.yaml, /2.yaml, /3.yaml, /4.yaml, /5.yaml, /6.yaml,"
        " /7.yaml and 992 more"
    )


def test_a_label_has_its_patterns_as_they_were_written() -> None:
    """With one backslash where the policy has one: what is printed can be searched for and pasted."""
    terms = TERMS._replace(cmdlines=(r"-jar \S+\.jar",), units=(r"app-a\x2db@*.service",))
    assert Rule(0, (b"java",), terms, "a", 1).label == (
        r"name=java cmdline=-jar \S+\.jar unit=app-a\x2db@*.service"
    )
