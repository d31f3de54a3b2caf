"""From policy files to the compiled policy."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oomguard.core.policy import Policy, SysctlSetting
from oomguard.core.rule import Rule, Terms, Value
from oomguard.core.serialize import decode, encode
from oomguard.policy.fault import FAULTS_LIMIT, PolicyError, Problem
from oomguard.policy.load import load, parse
from oomguard.policy.messages import validation
from oomguard.policy.messages.unknown_key import unknown_key

from .conftest import Install, layered, sources

if TYPE_CHECKING:
    from oomguard.policy.fault import Fault


def _policy(*texts: str | bytes) -> Policy:
    return parse(sources(*texts)).policy


def _faults(*texts: str | bytes) -> "tuple[Fault, ...]":
    with pytest.raises(PolicyError) as caught:
        parse(sources(*texts))
    return caught.value.faults


def _terms(conditions: str) -> Terms:
    (rule,) = _policy(f"rules: [{{{conditions}, oom_score_adj: 1}}]").rules
    return rule.terms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only words\n",
        "---\n",
        "{}",
        "vm: {}\nrules: []\n",
        "vm:\n  # swappiness: 10\nkernel:\nrules:\n",
        "rules: ~\nvm: null\n",
        b"\xef\xbb\xbf",
    ],
)
def test_a_policy_that_says_nothing_is_valid(text: str | bytes) -> None:
    """Defaults hold, and nothing is changed."""
    policy = _policy(text)
    assert policy._replace(files=(), digest="") == Policy()


def test_errors_come_before_warnings() -> None:
    """They are why the policy is invalid, and many messages show only the first."""
    assert [fault.code for fault in _faults("", "nmae: x")] == ["unknown-key", "empty-file"]


@pytest.mark.parametrize(
    ("text", "codes"), [("", ["empty-file"]), (" \n\n", ["empty-file"]), ("# on purpose\n", [])]
)
def test_a_file_without_even_a_comment_is_a_warning(text: str, codes: list[str]) -> None:
    """As a full disk leaves it; comments alone are what somebody wrote."""
    assert [fault.code for fault in parse(sources("rules: []", text)).warnings] == codes


def test_every_key_reaches_the_policy() -> None:
    """One rule with all of them."""
    (rule,) = _policy(
        """
rules:
  - name: [postgres, "mysqld*", 'grün']
    exe: /usr/bin/*
    cmdline: ['-D .*', "x"]
    user: [root, 1000, nosuchuser]
    unit: "batch-*.service"
    user_unit: [app.slice, "*"]
    cgroup: "*/batch"
    oom_score_adj: {at_most: -900}
    scope: main
    children: inherit
    trust: name
    containers: true
"""
    ).rules
    assert rule == Rule(
        number=0,
        names=(b"postgres", b"mysqld*", "grün".encode()),
        terms=Terms(
            value=Value("at_most", -900),
            users=("root", "1000", "nosuchuser"),
            uids=(0, 1000),
            units=("batch-*.service",),
            user_units=("app.slice", "*"),
            cgroups=("*/batch",),
            cmdlines=("-D .*", "x"),
            exes=("/usr/bin/*",),
            scope="main",
            children="inherit",
            trust="name",
            containers=True,
        ),
        file="0.yaml",
        line=3,
    )


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("0", Value("exact", 0)),
        ("-1000", Value("exact", -1000)),
        ("keep", Value("keep")),
        ("'keep'", Value("keep")),
        ("{at_most: 0}", Value("at_most", 0)),
        ("{at_least: 1000}", Value("at_least", 1000)),
    ],
)
def test_each_kind_of_value_is_understood(said: str, value: Value) -> None:
    """Zero is a value like any other."""
    (rule,) = _policy(f"rules: [{{name: x, oom_score_adj: {said}}}]").rules
    assert rule.terms.value == value


def test_settings_reach_the_policy() -> None:
    """Zero and false are values, not absences."""
    policy = _policy("commit_headroom: 0\nforce: false\nresync_interval: 1")
    assert policy.commit_headroom_percent == 0
    assert policy.force is False
    assert policy.resync_interval_seconds == 1


def test_sysctls_stand_in_the_order_of_the_table_with_their_lines() -> None:
    """Hyphens in names are theirs."""
    policy = _policy("kernel: {panic: -1}\nvm:\n  page-cluster: 0\n  overcommit_memory: 2\n")
    assert policy.sysctls == (
        SysctlSetting("vm.overcommit_memory", 2, "0.yaml", 4),
        SysctlSetting("vm.page-cluster", 0, "0.yaml", 3),
        SysctlSetting("kernel.panic", -1, "0.yaml", 1),
    )


def test_rules_stand_in_the_order_of_the_files() -> None:
    """Numbers run through, lines are those of each file."""
    rule = "- {name: %s, oom_score_adj: 1}\n"
    policy = _policy("rules:\n" + rule % "a" + rule % "b", "", "rules:\n\n" + rule % "c")
    assert [(one.number, one.names, one.source) for one in policy.rules] == [
        (0, (b"a",), "0.yaml:2"),
        (1, (b"b",), "0.yaml:3"),
        (2, (b"c",), "2.yaml:3"),
    ]
    assert policy.files == ("0.yaml", "1.yaml", "2.yaml")


def test_rules_that_differ_only_in_name_share_their_terms() -> None:
    """Fifteen thousand rules need not hold fifteen thousand equal tuples."""
    first, second, third = _policy(
        "rules:\n- {name: a, user: root, oom_score_adj: 1}\n"
        "- {name: b, user: root, oom_score_adj: 1}\n- {name: c, oom_score_adj: 1}\n"
    ).rules
    assert first.terms is second.terms
    assert third.terms is not first.terms


@pytest.mark.parametrize(
    "pattern", ["(?i:java)", "a{2,3}", r"\bjava\b", "[[a]", "-Xmx[0-9]+g ", "x" * 1000, "(a)|(b)", r"C:\\\\1"]
)
def test_regular_expressions_are_kept_as_written(pattern: str) -> None:
    """Also those that Python warns of, and those with a space at the end."""
    assert _terms(f"cmdline: '{pattern}'").cmdlines == (pattern,)


@pytest.mark.parametrize(
    "pattern",
    [
        "(" * 500 + ")" * 500,
        "a{99999999999999999999}",
        "(?P<x>",
        "[z-a]",
        "(?<=a*)b",
        "x" * 1001,
        "(?i)a",
        "(?P<x>a)",
        r"(a)\1",
    ],
)
def test_regular_expressions_that_can_not_be_used_are_refused(pattern: str) -> None:
    """Whatever way Python fails, and what can not be joined with others."""
    (fault,) = _faults(f"rules: [{{cmdline: '{pattern}', oom_score_adj: 1}}]")
    assert fault.code in {"regex", "too-long"}
    assert len(str(fault)) < 300


@pytest.mark.parametrize("glob", ["*", "?", "[a]", "[!a]", "[]]", "[]a]b", "[[]", "x]", "!x"])
def test_globs_are_kept_as_written(glob: str) -> None:
    """A closing bracket that comes first stands for itself."""
    (rule,) = _policy(f"rules: [{{name: '{glob}', oom_score_adj: 1}}]").rules
    assert rule.names == (glob.encode(),)


@pytest.mark.parametrize("glob", ["[", "[]", "[!]", "[!]a", "[a][b", "a["])
def test_globs_with_an_open_set_are_refused(glob: str) -> None:
    """Python's fnmatch would take the bracket for itself, which nobody means."""
    (fault,) = _faults(f"rules: [{{name: '{glob}', oom_score_adj: 1}}]")
    assert fault.code == "glob"


def test_the_same_value_in_two_files_is_no_contradiction() -> None:
    """The first file is named as its source."""
    policy = _policy("vm: {swappiness: 10}\nforce: true", "vm: {swappiness: 10}\nforce: true")
    assert policy.sysctls == (SysctlSetting("vm.swappiness", 10, "0.yaml", 1),)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("vm: {min_free_kbytes: 3%}", "vm: {min_free_kbytes: '3.0 %'}"),
        ("vm: {min_free_kbytes: 1GiB}", "vm: {min_free_kbytes: 1024 MiB}"),
        ("vm: {min_free_kbytes: 1GiB}", "vm: {min_free_kbytes: 1048576}"),
        ("vm: {dirty_bytes: 1MiB}", "vm: {dirty_bytes: 1048576}"),
        ("vm: {min_free_kbytes: {ram: 3%, max: 1GiB}}", "vm: {min_free_kbytes: {max: 1024MiB, ram: '3%'}}"),
        ("vm: {commit_limit: {leave: 1GiB}}", "vm: {commit_limit: {leave: 1024MiB}}"),
        ("recorder: off", "recorder: false"),
        ("pressure: off", "pressure: false"),
        ("pressure: {some: 10%, over: 2s}", "pressure: {over: '2s', some: '10%'}"),
        ("pressure: {some: 10%, over: 2s}", "pressure: {some: 10%}"),
    ],
)
def test_one_value_in_two_spellings_is_no_contradiction(one: str, other: str) -> None:
    """Quotes, units and the order of keys do not count."""
    assert _policy(one, other).sysctls[1:] == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("vm: {min_free_kbytes: 1MiB}", "vm: {min_free_kbytes: 1048576}"),
        ("vm: {nr_hugepages: 1KiB}", "vm: {nr_hugepages: 1024}"),
        ("vm: {min_free_kbytes: 3%}", "vm: {min_free_kbytes: {ram: 3%, max: 1GiB}}"),
        ("vm: {swappiness: {at_least: 10}}", "vm: {swappiness: {at_most: 10}}"),
        ("recorder: off", "recorder: true"),
    ],
)
def test_two_values_that_look_alike_are_a_contradiction(one: str, other: str) -> None:
    """A number is in the unit of its sysctl."""
    assert [fault.code for fault in _faults(one, other)] == ["contradiction"]


def test_two_values_in_two_files_are_a_fault_that_names_both_places() -> None:
    """For sysctls and settings alike; of two files in one folder neither overrides the other."""
    found = _faults(
        "vm:\n  swappiness: 10\nforce: true",
        "force: false\nvm: {swappiness: 60}\npressure: off",
        "pressure: {some: 5%}",
    )
    assert [str(fault) for fault in found] == [
        "1.yaml:1:1: force: is false here and true at 0.yaml:3",
        "1.yaml:2:6: vm.swappiness: is 60 here and 10 at 0.yaml:2",
        "2.yaml:1:1: pressure: is {some: 5%} here and off at 1.yaml:3",
    ]


def test_a_pair_in_two_files_excludes_each_other() -> None:
    """Both places are named."""
    (fault,) = _faults("vm: {dirty_ratio: 10}", "{}", "vm: {dirty_bytes: 10000}")
    assert fault.code == "exclusive-pair"
    assert str(fault).startswith("2.yaml:1:6: vm.dirty_bytes: conflicts with vm.dirty_ratio, set at 0.yaml:1")
    (fault,) = _faults("vm: {overcommit_kbytes: 8GiB}", "vm: {commit_limit: 8GiB}")
    assert fault.code == "exclusive-pair", "of the same size, too: they are two ways to set one limit"


def test_a_higher_layer_overrides_a_lower_one() -> None:
    """Each value by itself; rules of all layers count, in their order."""
    rule = "rules: [{name: %s, oom_score_adj: 1}]\n"
    policy = parse(
        layered(
            "vm: {swappiness: 1}\n" + rule % "a",
            "vm: {swappiness: 2, dirty_ratio: 3}\nforce: true\n" + rule % "b",
            "vm: {swappiness: 4, dirty_ratio: 4}\nforce: false\nresync_interval: 5\n" + rule % "c",
        )
    ).policy
    assert [(one.name, one.value, one.file) for one in policy.sysctls] == [
        ("vm.swappiness", 1, "0.yaml"),
        ("vm.dirty_ratio", 3, "1.yaml"),
    ]
    assert (policy.force, policy.resync_interval_seconds) == (True, 5)
    assert [rule.names for rule in policy.rules] == [(b"a",), (b"b",), (b"c",)]


def test_a_higher_layer_removes_the_partner_of_what_it_sets() -> None:
    """The kernel would zero one of the two; what the removed one hides stays hidden."""
    low = "vm: {overcommit_ratio: 80, swappiness: 1}"
    policy = parse(layered("vm: {overcommit_kbytes: 1000}", low, "vm: {overcommit_kbytes: 3}")).policy
    assert [(one.name, one.value) for one in policy.sysctls] == [
        ("vm.overcommit_kbytes", 1000),
        ("vm.swappiness", 1),
    ]


def test_two_files_of_a_lower_layer_conflict_unless_a_higher_one_decides() -> None:
    """The administrator can override what the vendor got wrong."""
    first, second = (
        source._replace(file=f"vendor/{source.file}", layer=1)
        for source in sources("vm: {dirty_ratio: 1, swappiness: 1}", "vm: {dirty_ratio: 2}")
    )
    with pytest.raises(PolicyError) as caught:
        parse((first, second))
    (fault,) = caught.value.faults
    assert str(fault) == "vendor/1.yaml:1:6: vm.dirty_ratio: is 2 here and 1 at vendor/0.yaml:1"
    policy = parse((*sources("vm: {dirty_bytes: 8192}"), first, second)).policy
    assert [one.name for one in policy.sysctls] == ["vm.swappiness", "vm.dirty_bytes"]


def test_faults_of_all_files_come_in_one_run_and_in_order() -> None:
    """Syntax, structure and contradictions, by file and line."""
    found = _faults("rules:\n- x\nvm: 3\nforce: true", "a: b: c", "force: false\nnmae: 1")
    assert [(fault.file, fault.line, fault.code) for fault in found] == [
        ("0.yaml", 2, "wrong-type"),
        ("0.yaml", 3, "wrong-type"),
        ("1.yaml", 1, "syntax"),
        ("2.yaml", 1, "contradiction"),
        ("2.yaml", 2, "unknown-key"),
    ]


def test_a_file_that_is_no_policy_at_all_is_not_explained_line_by_line() -> None:
    """A thousand faults are enough; the rest is counted."""
    found = _faults("rules:\n" + "- x\n" * 5000)
    assert len(found) == FAULTS_LIMIT + 1
    assert found[-1].message == "4,000 more errors are not shown"
    assert len(_faults("rules:\n" + "- x\n" * FAULTS_LIMIT)) == FAULTS_LIMIT


def test_only_the_keys_that_are_shown_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """To find what one means takes 0.1 ms, and a file may have 100,000."""
    explained: list[str] = []

    def explain(key: str, *rest: Any) -> Problem:
        explained.append(key)
        return unknown_key(key, *rest)

    monkeypatch.setattr(validation, "unknown_key", explain)
    found = _faults("vm:\n" + "".join(f"  key{number}: 1\n" for number in range(5000)))
    assert len(explained) == FAULTS_LIMIT
    assert found[-2].path == "vm.key999"
    assert found[-1].message == "4,000 more errors are not shown"


def test_an_alias_is_validated_where_it_stands() -> None:
    """A list of names may be given once and used twice."""
    first, second = _policy(
        "rules:\n- {name: &db [postgres, mysqld], user: root, oom_score_adj: 1}\n"
        "- {name: *db, oom_score_adj: 2}\n"
    ).rules
    assert first.names == second.names == (b"postgres", b"mysqld")


def test_the_digest_of_a_policy_is_the_same_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a verb knows that the daemon uses the policy, and shows what the daemon still applies of it."""
    (tmp_path / "policy.yaml").write_text("rules: []\n")
    monkeypatch.chdir(tmp_path)
    assert load("policy.yaml").policy.digest == load(str(tmp_path / "policy.yaml")).policy.digest


def test_the_digest_follows_every_name_and_every_byte() -> None:
    """Two policies with one digest are the same policy."""
    texts: tuple[tuple[str, ...], ...] = (
        ("force: true",),
        ("force: true ",),
        ("force: true", ""),
        ("", "force: true"),
        ("",),
    )
    digests = [_policy(*text).digest for text in texts]
    assert len(set(digests)) == len(texts)
    assert all(len(digest) == 64 for digest in digests)
    assert _policy("force: true").digest == digests[0]


def test_loading_reads_the_drop_ins(install: Install) -> None:
    """From disk to policy in one call."""
    path = install("force: true", b="vm: {swappiness: 1}", a="resync_interval: 5")
    policy, warnings = load(path)
    assert (policy.force, policy.resync_interval_seconds, len(policy.sysctls)) == (True, 5, 1)
    assert warnings == ()
    assert [file.rpartition("/")[2] for file in policy.files] == ["a.yaml", "b.yaml", "policy.yaml"]


def test_a_compiled_policy_survives_its_way_to_the_daemon() -> None:
    """Encoding and decoding give back the same policy."""
    policy = _policy(
        "vm: {overcommit_memory: 2}\ncommit_headroom: 0\n"
        "rules:\n- {name: ['ü*', a], user: 0, oom_score_adj: keep}\n"
        "- {unit: '*', oom_score_adj: {at_least: 3}}\n"
    )
    assert decode(encode(policy)) == policy


def _big(rules: int) -> str:
    lines: list[Any] = [
        f"- name: program-{number:05d}\n  oom_score_adj: {number % 1000}" for number in range(rules)
    ]
    return "rules:\n" + "\n".join(lines)


def test_fifteen_thousand_rules_load_in_about_a_second() -> None:
    """The bound is generous: a slow machine is not a fault of the loader's."""
    text = _big(15_000)
    start = time.process_time()
    policy = _policy(text)
    assert time.process_time() - start < 5
    assert len(policy.rules) == 15_000
    assert len({id(rule.terms) for rule in policy.rules}) == 1000


@pytest.mark.parametrize("rule", ["{name: '*%d', oom_score_adj: 1}", "{nmae%d: x}", "{name: /%d}"])
def test_time_does_not_explode_with_odd_rules(rule: str) -> None:
    """Many globs with one beginning, or as many faults as rules."""
    text = "rules:\n" + "".join(f"- {rule % number}\n" for number in range(15_000))
    start = time.process_time()
    try:
        _policy(text)
    except PolicyError as error:
        assert len(error.faults) == FAULTS_LIMIT + 1
    assert time.process_time() - start < 10


def test_regular_expressions_on_names_are_bounded_together() -> None:
    """They bound the time for one name: 4,000 nodes."""
    rules = "".join(f'  - {{name: {{regex: "^program{n}[0-9]+$"}}, oom_score_adj: 1}}\n' for n in range(2000))
    with pytest.raises(PolicyError) as caught:
        parse(sources(f"rules:\n{rules}"))
    (fault,) = caught.value.faults
    assert fault.code == "too-many-regexes"
    assert 180 < fault.line < 380
    assert fault.path == f"rules[{fault.line - 2}].name"
