"""`oomguard test`: what is printed of cases that pass, that differ, and that cannot be read."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from oomguard.__main__ import main
from oomguard.core.policy import Layer
from oomguard.policy.cases.case_file import load_cases
from oomguard.policy.source import Sources, read_layers

POLICY = """\
vm:
  swappiness: 10
rules:
  - name: sshd
    scope: main
    oom_score_adj: {at_most: -900}
  - name: nginx
    oom_score_adj: -500
  - name: chrome
    oom_score_adj: {at_least: 300}
"""
CASES = """\
policy: policy.yaml
users: {alice: 1000}
cases:
  - case: the listener is protected, and its sessions are not
    processes:
      - {name: bash, user: alice, parent: sshd, expect: {oom_score_adj: 0, rule: none}}
      - {name: sshd, unit: ssh.service, expect: {oom_score_adj: -900, rule: name=sshd}}
      - {name: nginx, user: alice, expect: {rule: "policy.yaml:7", refused: uid 1000 could}}
    expect:
      vm: {swappiness: 10}
"""
WRONG = """\
policy: policy.yaml
cases:
  - case: all of this is wrong
    processes:
      - {name: sshd, expect: -901}
      - name: nginx
        user: 1000
        expect: {oom_score_adj: -500, rule: none, refused: uid 1001}
      - {name: bash, expect: {rule: name=bash}}
    expect:
      vm: {swappiness: {value: 11, refused: never}, page-cluster: 4}
  - case: this is not
    processes: [{name: chrome, expect: 300}]
"""
DIFFERENCES = """\
wrong.yaml:5: all of this is wrong: sshd[100]
    - oom_score_adj: -901
    + oom_score_adj: -900
      name=sshd (policy.yaml:4)
wrong.yaml:8: all of this is wrong: nginx[101]
    - oom_score_adj: -500
    + oom_score_adj: 0
    - rule: none
    + rule: name=nginx (policy.yaml:7)
    - refused: uid 1001
    + refused: uid 1000 could give any program this name
      name=nginx (policy.yaml:7): refused: uid 1000 could give any program this name
wrong.yaml:9: all of this is wrong: bash[102]
    - rule: name=bash
    + rule: none
      no rule matches it
wrong.yaml:11: all of this is wrong: vm.swappiness
    - value: 11
    + value: 10
    - refused: never
    + refused: no
      set at policy.yaml:2
wrong.yaml:11: all of this is wrong: vm.page-cluster
    - value: 4
    + value: 3
      the policy does not set it
wrong.yaml: 2 cases, 6 expectations: 1 case failed
"""


class Run(NamedTuple):
    """What came of one call."""

    code: int
    out: str

    @property
    def json(self) -> Any:
        """Return what was printed, parsed."""
        return json.loads(self.out)


Test = Callable[..., Run]


@pytest.fixture
def oomguard_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Test:
    """Return what calls `oomguard test` in a folder with a policy and two case files."""
    for name, text in {"policy": POLICY, "cases": CASES, "wrong": WRONG}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Run:
        monkeypatch.setattr(sys, "argv", ["oomguard", "test", *arguments])
        code = main()
        captured = capsys.readouterr()
        assert captured.err == ""
        return Run(code, captured.out)

    return call


def test_cases_that_hold_are_counted(oomguard_test: Test) -> None:
    """Exit 0."""
    assert oomguard_test("cases.yaml") == Run(0, "cases.yaml: 1 case, 4 expectations: all as expected\n")


def test_each_difference_is_shown_as_a_diff_with_its_line(oomguard_test: Test) -> None:
    """Exit 1; what holds is not shown."""
    assert oomguard_test("wrong.yaml") == Run(1, DIFFERENCES)


def test_json_has_every_comparison(oomguard_test: Test) -> None:
    """Of each file, with the faults of one that is not valid."""
    Path("bad.yaml").write_text("cases: 1\n")
    run = oomguard_test("--json", "cases.yaml", "wrong.yaml", "bad.yaml")
    assert run.code == 78
    assert [one["file"] for one in run.json] == ["cases.yaml", "wrong.yaml", "bad.yaml"]
    right, wrong, bad = run.json
    assert [one["passed"] for one in right["cases"]] == [True]
    assert [one["passed"] for one in wrong["cases"]] == [False, True]
    assert wrong["cases"][0]["compared"][0] == {
        "what": "sshd[100]",
        "line": 5,
        "by": "name=sshd (policy.yaml:4)",
        "differences": [{"key": "oom_score_adj", "expected": "-901", "found": "-900"}],
    }
    assert bad["cases"] == []
    assert [(fault["line"], fault["path"]) for fault in bad["faults"]] == [(1, "cases")]


def test_a_bad_file_stops_no_other(oomguard_test: Test) -> None:
    """Exit 78, with the faults where `check` has them."""
    Path("bad.yaml").write_text("cases: 1\n")
    run = oomguard_test("bad.yaml", "wrong.yaml")
    assert run.code == 78
    assert run.out.startswith("bad.yaml:1:8: cases: must be a list of cases, got 1\n")
    assert run.out.endswith(DIFFERENCES)


def test_a_bad_policy_is_reported_as_check_does(oomguard_test: Test) -> None:
    """With its own file and line."""
    Path("policy.yaml").write_text("rules: [{nam: a, oom_score_adj: 1}]\n")
    run = oomguard_test("cases.yaml")
    assert run == Run(78, "policy.yaml:1:10: unknown key nam\n    did you mean name?\n")


def test_a_policy_that_is_missing_is_reported_with_the_line_that_names_it(oomguard_test: Test) -> None:
    """And how its path is read; the usual hint would have a policy created where nobody wants one."""
    Path("web.yaml").write_text(
        "cases: [{case: a, policy: nosuch.yaml, processes: [{name: a, expect: 0}]}]\n"
    )
    named = "    web.yaml:1 names it, with a path relative to its own folder\n"
    assert oomguard_test("web.yaml") == Run(78, f"nosuch.yaml: no such file\n{named}")
    assert "create it" in oomguard_test("--policy", "nosuch.yaml", "web.yaml").out


def test_another_policy_can_be_tested(oomguard_test: Test) -> None:
    """In place of the one that the file names, and of those that cases name."""
    Path("other.yaml").write_text("rules: [{name: chrome, oom_score_adj: 301}]\n")
    Path("own.yaml").write_text(
        "cases: [{case: a, policy: {}, processes: [{name: chrome, expect: {oom_score_adj: 301}}]}]\n"
    )
    assert oomguard_test("--policy", "other.yaml", "own.yaml").code == 0
    assert oomguard_test("own.yaml").code == 1


def test_a_folder_that_cannot_be_listed_is_no_folder_without_cases(oomguard_test: Test) -> None:
    """Cases that were not read must not pass."""
    Path("tests/hidden").mkdir(parents=True)
    Path("tests/hidden").chmod(0)
    is_root = os.geteuid() == 0
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if is_root else []
    command = [*without, sys.executable, "-m", "oomguard", "test", "--policy=policy.yaml", "tests"]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (78, "")
        assert done.stdout.startswith("tests/hidden: cannot be read: Permission denied\n")
        Path("tests/cases.yaml").write_text(Path("cases.yaml").read_text())
    done = subprocess.run([*command, "cases.yaml", "--json"], capture_output=True, text=True, check=False)
    folder, file = json.loads(done.stdout)
    assert (done.returncode, folder["faults"][0]["file"], file["faults"]) == (78, "tests/hidden", [])


def test_a_rule_that_could_not_be_tried_is_not_one_that_does_not_match(oomguard_test: Test) -> None:
    """As `explain` has it."""
    Path("slow.yaml").write_text(
        "policy: {rules: [{cmdline: '(a+)+$', oom_score_adj: 5}]}\n"
        f"cases: [{{case: slow, processes: [{{name: a, cmdline: {'a' * 60}!, expect: 5}}]}}]\n"
    )
    run = oomguard_test("slow.yaml")
    assert run.code == 1
    assert "a `cmdline` pattern takes too long on it" in run.out
    assert "no rule matches it" not in run.out


def test_the_policy_can_come_from_standard_input(oomguard_test: Test) -> None:
    """It is read once, for all case files and hosts; it cannot be a case file, too."""
    case = "{case: a, host: {memory: %dGiB}, processes: [{name: x, expect: 301}]}"
    Path("own.yaml").write_text(f"cases: [{case % 1}, {case % 2}]\n")
    command = [sys.executable, "-m", "oomguard", "test", "--policy", "-"]
    given = "rules: [{name: x, oom_score_adj: 301}]\nvm: {admin_reserve_kbytes: 1%}\n"

    def run(*files: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *files], input=given, capture_output=True, text=True, check=False)

    Path("same.yaml").write_text(Path("own.yaml").read_text())
    done = run("own.yaml", "same.yaml")
    assert (done.returncode, done.stdout.count("2 expectations: all as expected")) == (0, 2)
    done = run("-")
    assert (done.returncode, done.stdout) == (2, "")
    assert "standard input can be read only once" in done.stderr


def test_cases_from_standard_input_have_one_name() -> None:
    """The one of a policy from there, in differences, the summary and JSON."""
    cases = "policy: {}\ncases: [{case: a, processes: [{name: x, expect: 4}]}]\n"

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "oomguard", "test", *words, "-"]
        return subprocess.run(command, input=cases, capture_output=True, text=True, check=False).stdout

    first, *_, last = run().splitlines()
    assert first == "<stdin>:2: a: x[100]"
    assert last == "<stdin>: 1 case, 1 expectation: 1 case failed"
    assert json.loads(run("--json"))[0]["file"] == "<stdin>"


def test_drop_ins_belong_to_the_policy_whoever_owns_them(oomguard_test: Test) -> None:
    """A repository is not root's."""
    Path("policy.d").mkdir(mode=0o777)
    drop_in = Path("policy.d/50-batch.yaml")
    drop_in.write_text("rules: [{unit: 'batch-*.service', oom_score_adj: 800}]\n")
    drop_in.chmod(0o666)
    Path("batch.yaml").write_text(
        "policy: policy.yaml\ncases: [{case: a, processes: [{name: x, unit: batch-1.service, expect: 800}]}]"
    )
    assert oomguard_test("batch.yaml").code == 0


def test_of_a_folder_all_case_files_are_run(oomguard_test: Test, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that end in .yaml, however deep; a file that is named twice is run once."""
    Path("tests/deep").mkdir(parents=True)
    for name in ("b.yaml", "deep/a.yaml"):
        Path("tests", name).write_text("cases: [{case: a, policy: {}, processes: [{name: a, expect: 0}]}]\n")
    Path("tests/README").write_text("not a case file\n")
    lines = [f"tests/{name}: 1 case, 1 expectation: all as expected\n" for name in ("b.yaml", "deep/a.yaml")]
    assert oomguard_test("tests", "tests/b.yaml") == Run(0, "".join(lines))
    Path("empty").mkdir()
    run = oomguard_test("empty", "tests/nosuch.yaml")
    assert run.code == 78
    assert run.out == (
        "empty: no case files below this folder\n    their names end in .yaml\n"
        "tests/nosuch.yaml: no such file\n    write the path of a case file, or of a folder of them\n"
    )


def test_a_path_is_relative_to_the_case_file(oomguard_test: Test) -> None:
    """Whatever folder the caller is in."""
    Path("tests").mkdir()
    Path("tests/cases.yaml").write_text(CASES.replace("policy: policy", "policy: ../policy", 1))
    assert oomguard_test("tests/cases.yaml").code == 0


def test_a_host_has_facts_of_its_own_and_those_of_the_file(oomguard_test: Test) -> None:
    """Values that depend on the host are resolved for that of the case."""
    Path("hosts.yaml").write_text(
        """\
policy:
  vm:
    min_free_kbytes: {ram: 3%, min: 64MiB, max: 2GiB}
    commit_limit: {leave: 512MiB}
    max_map_count: {at_least: 262144}
host: {memory: 64GiB, swap: none, kernel: 6.12.0, hostname: db-1, container: false}
cases:
  - case: a database host
    expect: {vm: {min_free_kbytes: 2013265, overcommit_kbytes: 66584576, max_map_count: 262144}}
  - case: one with more memory and huge pages
    host: {memory: 1TiB, huge_pages: 512GiB, sysctls: {vm: {max_map_count: 1048576, nr_hugepages: 512}}}
    expect: {vm: {min_free_kbytes: 2097152, overcommit_kbytes: 535298048, max_map_count: 1048576}}
  - case: a small one, with a kernel that lacks a sysctl
    host: {memory: 1GiB, kernel: "5.4"}
    expect: {vm: {min_free_kbytes: 65536, overcommit_kbytes: 524288, compaction_proactiveness: 0}}
"""
    )
    run = oomguard_test("hosts.yaml")
    assert run.out == (
        "hosts.yaml:15: a small one, with a kernel that lacks a sysctl: vm.compaction_proactiveness\n"
        "    - value: 0\n    + value: this kernel lacks it\n      the policy does not set it\n"
        "hosts.yaml: 3 cases, 9 expectations: 1 case failed\n"
    )


def test_why_a_sysctl_is_refused_is_said(oomguard_test: Test) -> None:
    """As of a process."""
    Path("refused.yaml").write_text(
        "policy: {vm: {overcommit_memory: 2}}\nhost: {memory: 4GiB, committed: 3GiB}\n"
        "cases: [{case: a, expect: {vm: {overcommit_memory: 2}}}]\n"
    )
    run = oomguard_test("refused.yaml")
    assert run.code == 1
    assert "      set at refused.yaml:1: refused: CommitLimit would be " in run.out


def test_what_replaces_a_sysctl_leaves_it_at_zero(oomguard_test: Test) -> None:
    """As the kernel does, which has one value of the two."""
    Path("replaced.yaml").write_text(
        "policy: {vm: {overcommit_kbytes: 8000000, dirty_ratio: 5}}\n"
        "host: {sysctls: {vm: {dirty_bytes: 100000000}}}\n"
        "cases: [{case: a, expect: {vm: {overcommit_ratio: 0, dirty_ratio: 5, dirty_bytes: 0}}}]\n"
    )
    assert oomguard_test("replaced.yaml").code == 0


def test_users_are_those_of_the_case_file_and_not_of_this_host(tmp_path: Path) -> None:
    """Names without a uid are services, each with a uid of its own; root is root."""
    file = tmp_path / "cases.yaml"
    names = ["root", "daemon", "postgres", "mysql", "postgres", "alice"]
    processes = "".join(f"      - {{name: a, user: {name}, expect: 0}}\n" for name in names)
    file.write_text(f"policy: {{}}\nusers: {{alice: 100}}\ncases:\n  - case: a\n    processes:\n{processes}")
    (case,) = load_cases(str(file))
    assert [actor.process.uid for actor in case.actors] == [0, 1, 101, 102, 101, 100]


def test_units_are_where_systemd_puts_them(tmp_path: Path) -> None:
    """A session below its user, a user's unit below the user's service manager."""
    file = tmp_path / "cases.yaml"
    units = [
        "unit: ssh.service",
        "unit: session-3.scope, user: 1000",
        "unit: user@1000.service",
        "unit: init.scope",
        "user_unit: app-firefox-1.scope, user: 1000",
        "cgroup: /a/b",
        "user: 1000",
    ]
    processes = "".join(f"      - {{name: a, {unit}, expect: 0}}\n" for unit in units)
    file.write_text(f"policy: {{}}\ncases:\n  - case: a\n    processes:\n{processes}")
    (case,) = load_cases(str(file))
    assert [actor.process.cgroup for actor in case.actors] == [
        "/system.slice/ssh.service",
        "/user.slice/user-1000.slice/session-3.scope",
        "/user.slice/user-1000.slice/user@1000.service",
        "/init.scope",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-1.scope",
        "/a/b",
        "/",
    ]
    roots = [actor.process.cgroup_is_roots for actor in case.actors]
    assert roots == [True, True, True, True, False, True, True]


def test_a_folder_is_the_root_of_a_host_with_all_its_layers(oomguard_test: Test) -> None:
    """As a repository that is unpacked over a host has them: what comes first wins."""
    rules = "rules: [{{name: a, oom_score_adj: {}}}, {{name: {}, oom_score_adj: 4}}]\n"
    for number, (file, other) in enumerate(
        {"etc/oomguard.d/50-team": "b", "etc/oomguard": "c", "usr/lib/oomguard.d/90-default": "d"}.items(), 1
    ):
        Path("root", file).parent.mkdir(parents=True, exist_ok=True)
        Path("root", f"{file}.yaml").write_text(rules.format(number, other))
    processes = "[{name: a, expect: 1}, {name: b, expect: 4}, {name: c, expect: 4}, {name: d, expect: 4}]"
    Path("layers.yaml").write_text(f"policy: root\ncases: [{{case: all layers, processes: {processes}}}]\n")
    assert oomguard_test("layers.yaml").code == 0


def test_a_child_starts_with_what_its_parent_has_by_then(oomguard_test: Test) -> None:
    """As on a host: it is reset unless a rule matches it, or its parent's rule says otherwise."""
    Path("children.yaml").write_text(
        """\
policy:
  rules:
    - {name: supervisor, oom_score_adj: -800}
    - {name: worker, oom_score_adj: 100}
    - {name: build, children: inherit, oom_score_adj: 500}
    - {name: shell, oom_score_adj: keep}
cases:
  - case: children
    processes:
      - {name: supervisor, oom_score_adj: -10, expect: -800}
      - {name: helper, user: 1000, parent: supervisor, expect: {oom_score_adj: -10, rule: none}}
      - {name: grandchild, user: 1000, parent: helper, expect: -10}
      - {name: worker, parent: supervisor, expect: 100}
      - {name: cc1, parent: build, expect: {oom_score_adj: 500, rule: none}}
      - {name: build, expect: 500}
      - {name: chosen, user: 1000, parent: supervisor, oom_score_adj: 7, expect: 7}
      - {name: shell, pid: 7, oom_score_adj: 300, original: 5, expect: 5}
      - {name: stray, parent: 7, expect: 5}
"""
    )
    assert oomguard_test("children.yaml").out == "children.yaml: 1 case, 9 expectations: all as expected\n"


def test_a_rule_that_should_match_says_why_it_does_not(oomguard_test: Test) -> None:
    """The first condition that fails, and what the process has instead."""
    Path("why.yaml").write_text(
        """\
policy: {rules: [{name: sshd, unit: ssh.service, oom_score_adj: -900}]}
cases:
  - case: a
    processes: [{name: sshd, unit: sshd.service, expect: {rule: name=sshd unit=ssh.service}}]
"""
    )
    assert "name=sshd unit=ssh.service (why.yaml:1) does not match: unit is sshd.service" in (
        oomguard_test("why.yaml").out
    )


def test_a_policy_that_does_not_count_on_the_host_of_a_case_is_named(oomguard_test: Test) -> None:
    """With the condition that the host does not meet, whether it is a file or part of the case file."""
    policy = "{when: {memory: '>= 64GiB'}, vm: {swappiness: 10}, rules: [{name: a, oom_score_adj: 5}]}"
    cases = "[{case: c, processes: [{name: a, expect: 5}], expect: {vm: {swappiness: 10}}}]"
    Path("large.yaml").write_text(policy)
    for file, named in (("large.yaml", "large.yaml"), ("own.yaml", policy)):
        Path("own.yaml").write_text(f"policy: {named}\ncases: {cases}\n")
        run = oomguard_test("own.yaml")
        why = f"{file} does not count: memory is 16.0 GiB, not >= 64GiB\n"
        assert f"no rule matches it; {why}" in run.out
        assert f"the policy does not set it; {why}" in run.out


def test_a_policy_is_read_again_only_for_a_host_that_it_differs_for(
    oomguard_test: Test, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifteen thousand rules take a second each time."""
    Path("policy.yaml").write_text("vm: {min_free_kbytes: 3%}\nrules: [{name: a, oom_score_adj: 5}]\n")
    sizes = [1, 2, 1, 2, 1, 2]
    cases = "".join(
        f"  - {{case: c, host: {{memory: {size}GiB, hostname: h{n}}}, processes: [{{name: a, expect: 5}}]}}\n"
        for n, size in enumerate(sizes)
    )
    Path("hosts.yaml").write_text(f"policy: policy.yaml\ncases:\n{cases}")
    read: list[object] = []

    def counted(layers: tuple[Layer, ...], *, anybodys: bool) -> Sources:
        read.append(layers)
        return read_layers(layers, anybodys=anybodys)

    monkeypatch.setattr("oomguard.policy.cases.case_file.read_layers", counted)
    assert oomguard_test("hosts.yaml").code == 0
    assert len(read) == 2


@pytest.mark.parametrize("kind", ["processes", "chain", "one name"])
def test_a_case_with_many_processes_takes_time_in_proportion(oomguard_test: Test, kind: str) -> None:
    """A slip that takes the square of 5,000 would run for minutes."""
    others = range(1, 5000)
    rows = {
        "processes": [f"{{name: a{n}, expect: 0}}" for n in others],
        "chain": [f"{{name: a{n}, parent: a{n - 1}, expect: 0}}" for n in others],
        "one name": [f"{{name: a, pid: {n + 10}, parent: a0, expect: 0}}" for n in others],
    }[kind]
    listed = "".join(f"      - {row}\n" for row in ["{name: a0, expect: 0}", *rows])
    Path("many.yaml").write_text(f"policy: {{}}\ncases:\n  - case: many\n    processes:\n{listed}")
    begun = time.process_time()
    assert oomguard_test("many.yaml").code == 0
    assert time.process_time() - begun < 30
