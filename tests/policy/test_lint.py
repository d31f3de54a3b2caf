"""Warnings: what is valid and probably not meant."""

import ast
import json
import re
from pathlib import Path

import pytest

from cpu import cpu_bound
from oomguard.core.host import Host
from oomguard.core.match import first_unmet
from oomguard.core.process import Identity, Process
from oomguard.diagnose.policy_check import is_slow
from oomguard.policy.fault import Fault
from oomguard.policy.load import parse
from oomguard.policy.users import Users

from .conftest import layered, sources


def _warnings(text: str, *, host: bool = False) -> tuple[Fault, ...]:
    return parse(sources(text), users=Users() if host else None).warnings


def _codes(text: str) -> list[str]:
    return [fault.code for fault in _warnings(text)]


def _rules(*rules: str, value: str = "1") -> str:
    return "rules:\n" + "".join(f"- {{{rule}, oom_score_adj: {value}}}\n" for rule in rules)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            "vm: {panic_on_oom: 1}",
            (
                "0.yaml:1:20: warning: vm.panic_on_oom: the host panics when memory runs out, "
                "and hangs unless kernel.panic is set"
            ),
        ),
        (
            "vm: {panic_on_oom: 1}\nkernel: {panic: 0}",
            (
                "0.yaml:1:20: warning: vm.panic_on_oom: the host panics when memory runs out, "
                "and hangs unless kernel.panic is set"
            ),
        ),
        (
            "kernel: {panic_on_oops: 1}",
            (
                "0.yaml:1:25: warning: kernel.panic_on_oops: the host panics when it meets a bug, "
                "and hangs unless kernel.panic is set"
            ),
        ),
        (
            "vm: {max_map_count: 0}",
            (
                "0.yaml:1:21: warning: vm.max_map_count: 0 is less than 1024: programs could not map their "
                "libraries, and no program could start"
            ),
        ),
        (
            "vm: {max_map_count: 65529}",
            (
                "0.yaml:1:21: warning: vm.max_map_count: 65529 is less than 65530: that is the kernel's "
                "default, which is too low even for databases and Java"
            ),
        ),
        (
            "vm: {min_free_kbytes: 512}",
            (
                "0.yaml:1:23: warning: vm.min_free_kbytes: 512 KiB is less than 1024 KiB (1.0 MiB): "
                "the kernel itself may fail to allocate under load"
            ),
        ),
        (
            "vm: {mmap_min_addr: 0}",
            (
                "0.yaml:1:21: warning: vm.mmap_min_addr: 0 is less than 4096: an attacker could exploit "
                "null pointer bugs of the kernel"
            ),
        ),
        (
            "vm: {vfs_cache_pressure: 0}",
            (
                "0.yaml:1:26: warning: vm.vfs_cache_pressure: 0 is less than 1: with 0 the kernel never "
                "reclaims dentries and inodes, which can use all memory"
            ),
        ),
        (
            "vm: {overcommit_ratio: 80}",
            (
                "0.yaml:1:24: warning: vm.overcommit_ratio: has no effect, because this policy does not "
                "set vm.overcommit_memory to 2"
            ),
        ),
        (
            "vm: {overcommit_memory: 1, overcommit_kbytes: 80000000}",
            (
                "0.yaml:1:47: warning: vm.overcommit_kbytes: has no effect, because this policy does not "
                "set vm.overcommit_memory to 2"
            ),
        ),
        (
            "vm: {overcommit_memory: 2, overcommit_ratio: 101}",
            "0.yaml:1:46: warning: vm.overcommit_ratio: promises 101 % of RAM, more than the host has",
        ),
        (
            "rules: [{name: x, oom_score_adj: {at_most: -1000}}]",
            (
                "0.yaml:1:34: warning: oom_score_adj: -1000 forbids killing it even if its own "
                "cgroup is out of memory: if it leaks, the cgroup hangs"
            ),
        ),
        (
            "rules: [{name: x, oom_score_adj: -999, trust: name}]",
            "0.yaml:1:47: warning: trust: any user can give a program this name to protect it",
        ),
        (
            "rules: [{cgroup: [/a, '*x*'], oom_score_adj: -999}]",
            (
                "0.yaml:1:23: warning: cgroup: this also matches cgroups that users make, "
                "where oomguard refuses to protect processes"
            ),
        ),
        (
            "rules: [{name: x, oom_score_adj: -999, children: inherit}]",
            "0.yaml:1:50: warning: children: all programs that these start are protected too",
        ),
        (
            _rules("name: a", "name: a"),
            (
                "0.yaml:3:3: warning: never takes effect: the rule at 0.yaml:2 "
                "(name=a) matches the same processes first"
            ),
        ),
    ],
)
def test_what_is_probably_not_meant_is_said(text: str, warning: str) -> None:
    """Each warning has its place, a code and a way out."""
    (fault,) = _warnings(text)
    assert str(fault) == warning
    assert fault.severity == "warning"
    assert fault.code
    assert fault.hint


@pytest.mark.parametrize(
    "text",
    [
        "vm: {panic_on_oom: 1}\nkernel: {panic: 10}",
        "vm: {panic_on_oom: 0}",
        "vm: {overcommit_memory: 2, overcommit_ratio: 100}",
        "rules: [{name: x, oom_score_adj: {at_least: -1000}}]",
        "rules: [{name: x, unit: a.service, oom_score_adj: -999, trust: name}]",
        "rules: [{name: x, oom_score_adj: 300, children: inherit}]",
        "rules: [{cgroup: '*x*', oom_score_adj: 300}]",
        "rules: [{cgroup: '*x*', user: root, oom_score_adj: -300}]",
        "rules: [{cgroup: '/a/*x*', oom_score_adj: -300}]",
    ],
)
def test_what_is_meant_is_not_remarked_on(text: str) -> None:
    """The same keys with other values are fine."""
    assert _warnings(text) == ()


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("name: a", "name: a, user: root"),
        ("name: a", "name: a, scope: main"),
        ("name: [a, b, c]", "name: [c, a]"),
        ("name: 'a*'", "name: abc"),
        ("name: 'a*'", "name: 'a*'"),
        ("name: 'a*'", "name: 'ab*'"),
        ("name: 'a*'", "name: 'a?c'"),
        ("name: '*'", "name: [x, '*y']"),
        ("name: '[ab]'", "name: '[ab]'"),
        ("user: root", "name: x, user: root"),
        ("name: a, user: root", "name: a, user: root, trust: name, children: inherit"),
        ("name: a, containers: true", "name: a"),
        ("unit: '*.service'", "unit: '*.service'"),
    ],
)
def test_a_rule_in_the_shadow_of_another_is_found(earlier: str, later: str) -> None:
    """The same or a broader name, and no other condition or the same ones."""
    assert "shadowed-rule" in _codes(_rules(earlier, later, value="{at_least: 1}"))


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("name: a, oom_score_adj: 1", "name: a, oom_score_adj: 1"),
        ("name: 'a*', oom_score_adj: {at_most: -5}", "name: [ab, ac], oom_score_adj: -500"),
        ("name: a, user: x, oom_score_adj: -5", "name: a, user: x, oom_score_adj: -5"),
        ("user: x, oom_score_adj: -5", "name: a, user: x, oom_score_adj: -5"),
        ("name: a, oom_score_adj: -5, trust: name", "name: a, oom_score_adj: 300"),
        ("name: a, unit: u.service, oom_score_adj: -5", "name: a, unit: u.service, oom_score_adj: 300"),
        ("name: a, oom_score_adj: 1000", "name: a, user: x, oom_score_adj: 300"),
        ("name: a, oom_score_adj: keep", "name: a, oom_score_adj: 300"),
    ],
)
def test_an_earlier_rule_wins_if_it_cannot_be_refused_or_both_are(earlier: str, later: str) -> None:
    """What is refused leaves the process to the rules after it."""
    assert "shadowed-rule" in _codes(f"rules: [{{{earlier}}}, {{{later}}}]")


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("name: a, oom_score_adj: {at_most: -500}", "name: a, oom_score_adj: {at_least: 300}"),
        ("name: a, oom_score_adj: -500", "name: a, oom_score_adj: 300"),
        ("name: a, oom_score_adj: 100", "name: a, oom_score_adj: {at_least: 800}"),
        ("name: a, oom_score_adj: -5", "name: a, oom_score_adj: keep"),
        ("name: a, oom_score_adj: -5", "name: a, oom_score_adj: -5, trust: name"),
        ("name: a, oom_score_adj: -5", "name: a, user: x, oom_score_adj: -5"),
        ("name: a, user: x, oom_score_adj: -5", "name: a, user: x, oom_score_adj: 300"),
        # With CAP_SYS_PTRACE, the name of the file counts.
        ("cgroup: /x, oom_score_adj: -5", "name: a, cgroup: /x, oom_score_adj: -5"),
    ],
)
def test_a_rule_for_processes_that_an_earlier_one_is_refused_for_takes_effect(
    earlier: str, later: str
) -> None:
    """It may be meant for them."""
    assert "shadowed-rule" not in _codes(f"rules: [{{{earlier}}}, {{{later}}}]")


def test_names_of_two_rules_that_can_be_refused_shadow_none_with_both() -> None:
    """A process called a that runs the file b is trusted by a rule with both names."""
    assert _codes(_rules("name: a", "name: b", "name: [a, b]")) == []


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("name: a", "name: b"),
        ("name: a", "name: [a, b]"),
        ("name: abc", "name: 'a*'"),
        ("name: 'ab*'", "name: 'a*'"),
        ("name: 'a?'", "name: 'a*'"),
        ("name: '?'", "name: '*'"),
        ("name: a, user: root", "name: a"),
        ("name: a, user: root", "name: a, user: 1"),
        ("name: a, scope: main", "name: a"),
        ("name: a", "name: a, containers: true"),
        ("name: a", "user: root"),
        ("unit: '*'", "name: x"),
    ],
)
def test_a_rule_that_still_matches_something_is_not_called_shadowed(earlier: str, later: str) -> None:
    """Narrow before broad is how rules are meant to be written."""
    assert _codes(_rules(earlier, later)) == []


def test_a_rule_of_a_lower_layer_is_overridden_on_purpose() -> None:
    """As one of the vendor's, of which an administrator need not be warned."""
    rule = _rules("name: a")
    assert parse(layered(rule, rule)).warnings == ()
    assert [fault.code for fault in parse(sources(rule, rule)).warnings] == ["shadowed-rule"]


def test_two_rules_may_shadow_a_third_together() -> None:
    """The later of the two is named: with it the last name is gone."""
    (fault,) = _warnings(_rules("name: a", "name: b", "name: [b, a]", value="{at_least: 1}"))
    assert "0.yaml:3 (name=b)" in fault.message


def test_users_this_host_does_not_have_are_only_said_for_this_host() -> None:
    """A policy may be checked on one machine and used on another."""
    text = "rules: [{name: x, user: [root, nosuchuser, 4242, ٤٢], oom_score_adj: 1}]"
    assert _warnings(text) == ()
    fault, of_digits = _warnings(text, host=True)
    assert str(fault) == "0.yaml:1:32: warning: user: this host has no user nosuchuser"
    assert fault.code == "unknown-user"
    assert of_digits.path == "rules[0].user[3]", "only ASCII digits are a uid"


def test_a_glob_of_users_is_said_for_every_host() -> None:
    """All other conditions on text but cmdline take them."""
    (fault,) = _warnings('rules: [{name: x, user: "*", oom_score_adj: 1}]')
    assert (fault.code, fault.message) == ("unknown-user", "* is a glob, but user takes names and uids")


def test_what_needs_no_warnings_gets_the_same_policy() -> None:
    """Such as a plan."""
    files = sources(_rules("name: bash", "name: bash"))
    warned = parse(files)
    assert len(warned.warnings) == 3
    assert parse(files, lints=False) == (warned.policy, ())


def test_warnings_come_in_the_order_of_files_and_lines() -> None:
    """Whatever check they come from."""
    first = "rules:\n- {name: a, oom_score_adj: -1000}\n"
    second = (
        "rules:\n- {name: b, oom_score_adj: -1000}\n- {name: a, oom_score_adj: -1000}\n"
        "vm: {panic_on_oom: 1}\n"
    )
    found = parse(sources(first, second)).warnings
    assert [(fault.file, fault.line, fault.path) for fault in found] == [
        ("0.yaml", 2, "rules[0].oom_score_adj"),
        ("1.yaml", 2, "rules[0].oom_score_adj"),
        ("1.yaml", 3, "rules[1]"),
        ("1.yaml", 3, "rules[1].oom_score_adj"),
        ("1.yaml", 4, "vm.panic_on_oom"),
    ]


def test_what_a_file_for_other_hosts_says_is_not_missing_here() -> None:
    """Nor is what a file for all hosts says, where a file for some overrides it."""
    strict = "vm: {overcommit_memory: 2, overcommit_ratio: 80, panic_on_oom: 1}\nkernel: {panic: 10}\n"
    small = "when: {memory: '< 8GiB'}\nvm: {overcommit_memory: 0}\nkernel: {panic: 0}\n"
    assert [fault.code for fault in parse(layered(small, strict)).warnings] == []
    every = small.partition("\n")[2]
    codes = [fault.code for fault in parse(layered(every, strict)).warnings]
    assert sorted(codes) == ["limit-without-mode", "panic-hangs"]


def test_a_mode_is_not_missing_where_the_limit_cannot_be_calculated() -> None:
    """Without meminfo, the whole group is skipped."""
    strict = "vm: {overcommit_memory: 2, commit_limit: 90%}"
    policy, warnings = parse(sources(strict), host=Host(hostname="x"))
    assert (policy.unresolved, [fault.code for fault in warnings]) == (2, [])


# Rules


@pytest.mark.parametrize(
    ("conditions", "warns"),
    [
        ("name: '*'", True),
        ("cmdline: '.*'", True),
        ("cmdline: ^", True),
        ("exe: /*", True),
        ("cgroup: ['/*', /x]", True),
        ("user: '*'", False),
        ("user: root, name: '*'", False),
        ("cmdline: '.*x'", False),
    ],
)
def test_to_protect_everything_is_to_protect_nothing(conditions: str, *, warns: bool) -> None:
    """A user is no glob."""
    assert ("protects-all" in _rule(f"{conditions}, oom_score_adj: -500")) == warns


@pytest.mark.parametrize(
    ("value", "warns"), [("-500", True), ("{at_most: 5}", True), ("keep", False), ("{at_least: 5}", False)]
)
def test_trust_is_for_values_that_may_lower(value: str, *, warns: bool) -> None:
    """Others need none."""
    assert ("trust-name" in _rule(f"name: foo, trust: name, oom_score_adj: {value}")) == warns


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        (
            "/usr/bin/python3 /opt/app.py --port 80",
            r"name: python3 and cmdline: '/usr/bin/python3 /opt/app\.py --port 80'",
        ),
        (
            "/usr/lib/jvm/java -jar /srv/x.jar",
            r"name: java and cmdline: '/usr/lib/jvm/java -jar /srv/x\.jar'",
        ),
        ("[kswapd0]", 'name: kswapd0; if a process has this very name, "[[]kswapd0]"'),
        ("/opt/Some App/bin/x", 'name: x or exe: "/opt/Some App/bin/x"'),
    ],
)
def test_a_name_as_ps_shows_it_becomes_one(name: str, hint: str) -> None:
    """And the command line what it is."""
    (fault,) = _warnings(f"rules: [{{name: {json.dumps(name)}, oom_score_adj: 5}}]")
    assert hint in fault.hint, fault.hint


def _rule(text: str) -> list[str]:
    return [fault.code for fault in _warnings(f"rules: [{{{text}}}]")]


@pytest.mark.parametrize(
    ("conditions", "why"),
    [
        ("name: oomguard", "oomguard never matches itself"),
        ("name: [kswapd0, kthreadd]", "the kernel never kills its threads"),
        ("unit: user.slice", "not in the slice itself"),
        ("unit: ssh.service, user_unit: a.service", "is not in a user's unit"),
        ("unit: [getty@.service, a@.service]", "nothing runs in a template, but in its instances"),
        ("unit: 'x*.service', user_unit: a.service", "is not in a user's unit"),
        ("user_unit: [app.slice, '*.slice']", "not in the slice itself"),
        ("user_unit: app@.service", "nothing runs in a template, but in its instances"),
        ("exe: [/usr/lib/x/, /usr/lib/y/]", "paths of executables do not end in /"),
        ("exe: /usr/bin/../lib/x", "the kernel shows no //, /./ and /../ as in /usr/bin/../lib/x"),
        ("exe: //x", "as in //x"),
        ("exe: [/x (deleted), '/y* (deleted)']", "oomguard removes (deleted) from the path"),
        ("cgroup: /system.slice", "processes are in the units below it"),
        ("cgroup: /system.slice/", "cgroup paths do not end in /"),
        ("unit: a.service, cgroup: /system.slice/b.service", "not in the unit a.service"),
        ("cmdline: '.{4097}'", "at least 4097 characters"),
    ],
)
def test_a_rule_that_no_process_can_match_is_found(conditions: str, why: str) -> None:
    """And why, and what to write."""
    (fault,) = _warnings(f"rules: [{{{conditions}, oom_score_adj: 5}}]")
    assert (fault.code, fault.severity) == ("never-matches", "warning")
    assert why in fault.message
    assert fault.hint


@pytest.mark.parametrize(
    ("conditions", "hint"),
    [
        (r"exe: '/opt/a\b/'", r'exe: "/opt/a\\b/*" to match everything below'),
        (r"cgroup: '/a\b/'", r'cgroup: "/a\\b/*" to match everything below'),
        (r"""cgroup: '/a"b.slice'""", r'cgroup: "/a\"b.slice/*"'),
        (f"exe: {'/opt' * 20}/", f'exe: "{"/opt" * 20}/*" to match everything below'),
    ],
)
def test_the_path_that_is_suggested_can_be_pasted(conditions: str, hint: str) -> None:
    """It is quoted as YAML, and whole."""
    (fault,) = _warnings(f"rules: [{{{conditions}, oom_score_adj: 5}}]")
    assert fault.hint == f"write {hint}"
    assert _rule(f"{hint.removesuffix(' to match everything below')}, oom_score_adj: 5") == []


def test_the_path_that_is_suggested_for_a_slice_is_one_that_processes_are_in() -> None:
    """Systemd puts user-1000.slice into user.slice, and all in -.slice, whose cgroup is /."""
    (fault,) = _warnings("rules: [{unit: user-1000.slice, oom_score_adj: 5}]")
    assert fault.hint == 'write cgroup: "/user.slice/user-1000.slice/*" to match all of them'
    rule = parse(sources("rules: [{cgroup: /user.slice/user-1000.slice/*, oom_score_adj: 5}]")).policy.rules[
        0
    ]
    inside = Process(Identity(5, 1), b"a", cgroup="/user.slice/user-1000.slice/session-2.scope")
    assert first_unmet(rule, inside) is None
    (fault,) = _warnings("rules: [{unit: '-.slice', oom_score_adj: 5}]")
    assert fault.hint == 'write cgroup: "/*" to match all of them'


@pytest.mark.parametrize(
    "conditions",
    [
        "name: [oomguard, x]",
        "name: [kswapd0, x]",
        "name: 'chromium-browser *'",
        "unit: [user.slice, ssh.service]",
        "unit: 'user.sl*'",
        "unit: user@1000.service, user_unit: a.service",
        "unit: 'user*', user_unit: a.service",
        "unit: 'user@*.service', user_unit: a.service",
        "unit: '[u]ser@1.service', user_unit: a.service",
        "unit: '*', user_unit: a.service",
        "exe: [/usr/lib/x/, /usr/lib/x/y]",
        "exe: '/usr/lib/x//*'",
        "exe: /opt/..x/.y",
        "cgroup: '/system.slice/*'",
        "cgroup: [/sys/fs/cgroup/a, /system.slice/b.service]",
        "cgroup: /",
        "unit: a.service, cgroup: /system.slice/a.service",
        "unit: a.service, cgroup: /system.slice/a.service/b",
        "cmdline: ['.{4097}', x]",
        "cmdline: '.{4096}'",
    ],
)
def test_a_rule_that_some_process_can_match_is_not_called_unmatchable(conditions: str) -> None:
    """What may match is left alone."""
    assert _rule(f"{conditions}, oom_score_adj: 5") == []


@pytest.mark.parametrize(
    "name", ["bash", "python3", "python3.11", "'python*'", "java", "node", "[x, perl5.36]"]
)
def test_a_bare_interpreter_is_too_little(name: str) -> None:
    """It holds for everything that runs in it."""
    assert _rule(f"name: {name}, oom_score_adj: 300") == ["interpreter-name"]
    assert _rule(f"name: {name}, oom_score_adj: -300") == ["interpreter-name"]


@pytest.mark.parametrize(
    "rule",
    [
        "name: bash, unit: a.service, oom_score_adj: 300",
        "name: java, cmdline: jenkins, oom_score_adj: 300",
        "name: python3, user: root, oom_score_adj: -300",
        "name: bash, oom_score_adj: keep",
        "name: [pythonista, bashful, 'a*', javac], oom_score_adj: 300",
        "name: php-fpm, oom_score_adj: -300",
        "name: 'php-fpm*', oom_score_adj: 300",
    ],
)
def test_an_interpreter_with_something_beside_its_name_is_fine(rule: str) -> None:
    """That says which of them is meant; and other programs may begin like one."""
    assert _rule(rule) == []


@pytest.mark.parametrize(
    "rule",
    [
        "name: firefox, oom_score_adj: -100",
        "name: [x, gnome-shell], oom_score_adj: {at_most: -100}",
        "name: tmux, cmdline: main, oom_score_adj: -100",
        "name: code, user_unit: a.service, oom_score_adj: -100",
    ],
)
def test_protection_of_what_users_run_by_name_is_said_to_be_refused(rule: str) -> None:
    """Neither a command line nor a user's unit vouches for anything."""
    (fault,) = _warnings(f"rules: [{{{rule}}}]")
    assert fault.code == "unvouched"
    assert fault.hint == "add user, unit or exe"


@pytest.mark.parametrize(
    "rule",
    [
        "name: firefox, oom_score_adj: 100",
        "name: firefox, oom_score_adj: {at_least: -100}",
        "name: firefox, user: root, oom_score_adj: -100",
        "name: firefox, exe: /usr/bin/firefox, oom_score_adj: -100",
        "name: crond, oom_score_adj: -100",
    ],
)
def test_other_rules_on_what_users_run_are_fine(rule: str) -> None:
    """Those that raise, and those that say whose or which."""
    assert _rule(rule) == []


@pytest.mark.parametrize(
    ("name", "code", "fix", "literally"),
    [
        ("foo|bar", "list-as-name", "name: [foo, bar]", "foo[|]bar"),
        ("(a|b)", "list-as-name", "name: [a, b]", "[(]a[|]b[)]"),
        ("^(sshd|dropbear)$", "list-as-name", "name: [sshd, dropbear]", "[^][(]sshd[|]dropbear[)][$]"),
        ("{a,b}", "list-as-name", "name: [a, b]", "[{]a[,]b[}]"),
        ("my{sql,sqld}_safe", "list-as-name", "name: [mysql_safe, mysqld_safe]", "my[{]sql[,]sqld[}]_safe"),
        ("a, b", "list-as-name", "name: [a, b]", "a[,][ ]b"),
        ("sshd,dropbear", "list-as-name", "name: [sshd, dropbear]", "sshd[,]dropbear"),
        ("^foo$", "regex-as-name", "name: foo", "[^]foo[$]"),
        ("^foo", "regex-as-name", 'name: "foo*"', "[^]foo"),
        ("foo.*", "regex-as-name", 'name: "foo*"', "foo[.]*"),
        (".*foo.*", "regex-as-name", 'name: "*foo*"', "[.]*foo[.]*"),
        (r"^foo\.", "regex-as-name", 'name: "foo[.]*"', r"[^]foo[\\][.]"),
        (r"foo\.sh", "regex-as-name", "name: foo.sh", r"foo[\\][.]sh"),
        ("worker[0-9]+", "regex-as-name", "name: {regex: worker[0-9]+}", "worker[0-9][+]"),
        ("(?i)foo|bar", "regex-as-name", "name: {regex: (?i:foo|bar)}", "[(]?i[)]foo[|]bar"),
        ("^a{3}$", "regex-as-name", "name: {regex: ^a{3}$}", "[^]a[{]3[}][$]"),
        ("(a|b){3,4}", "regex-as-name", "name: {regex: (a|b){3,4}}", "[(]a[|]b[)][{]3[,]4[}]"),
        (
            "^foo(?=x)",
            "regex-as-name",
            "name: {regex: ...} with alternatives, sets and simple repetitions",
            "[^]foo[(]?[=]x[)]",
        ),
        ("/usr/sbin/cron", "path-as-name", "name: cron or exe: /usr/sbin/cron", "[/]usr[/]sbin[/]cron"),
        (
            "/usr/lib/systemd/systemd-logind",
            "path-as-name",
            "name: systemd-logind or exe: /usr/lib/systemd/systemd-logind",
            "[/]usr[/]lib[/]system",
        ),
        ("*/cron", "path-as-name", 'name: cron or exe: "*/cron"', "*[/]cron"),
        ("cron.service", "unit-as-name", "unit: cron.service", "cron[.]service"),
        ("“cron”", "unusual-character", "cron", "[“]cron[”]"),
        ("'cron'", "unusual-character", "cron", "[']cron[']"),
        ("cr\u200bon", "unusual-character", "cron", r"cr[\u200b]on"),
        ("a\u00a0b", "unusual-character", '"a b"', r"a[\xa0]b"),
        ("a–b", "unusual-character", "a-b", "a[–]b"),
        (
            "nginx: worker process",
            "command-line-as-name",
            "name: nginx and cmdline: 'nginx: worker process'",
            "nginx[:][ ]worker[ ]process",
        ),
        (
            "java -jar x.jar",
            "command-line-as-name",
            r"name: java and cmdline: 'java -jar x\.jar'",
            "java[ ]-jar[ ]x[.]jar",
        ),
        (
            "chromium-browser --type=renderer",
            "command-line-as-name",
            "name: chromium-browser and cmdline: 'chromium-browser --type=renderer'",
            "chromium-browse",
        ),
        (
            "*chrome[0-9] --type=renderer*",
            "command-line-as-name",
            "name: *chrome[0-9] and cmdline: '--type=renderer'",
            "*chrome[0-9][ ]--type[=]renderer*",
        ),
    ],
)
def test_a_name_that_looks_like_something_else_is_found(
    name: str, code: str, fix: str, literally: str
) -> None:
    """With what to write instead, and how to write the name if it is one: that has no warning."""
    (fault,) = _warnings(f"rules: [{{name: [x, {json.dumps(name)}], oom_score_adj: 5}}]")
    assert (fault.code, fault.path) == (code, "rules[0].name[1]")
    assert fault.hint.replace(
        '"', ""
    ) == f"write {fix}; if a process has this very name, {literally}".replace('"', "")
    assert fault.severity == "warning"
    policy, warnings = parse(sources(f'rules: [{{name: "{literally}", oom_score_adj: 5}}]'))
    assert warnings == ()
    raw = name.replace("[0-9]", "7").replace("*", "x").encode()
    process = Process(Identity(9, 1), raw[:15], arguments=(raw,))
    assert first_unmet(policy.rules[0], process) is None


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("firefox-{esr,bin}.*", '["firefox-esr*", "firefox-bin*"]'),
        ("^firefox-{esr,bin}$", "[firefox-esr, firefox-bin]"),
        ("^(a,b)$", "[a, b]"),
        ("[!k]worker|kthreadd", '["[!k]worker", kthreadd]'),
        ("x{1,2},y", "[a, b]"),
        ("(?i)a.*,b", '{regex: "(?i:a.*,b)"}'),
    ],
)
def test_a_list_in_one_name_is_divided_where_its_members_end(name: str, names: str) -> None:
    """Or not at all."""
    for fault in _warnings(f"rules: [{{name: {json.dumps(name)}, oom_score_adj: 5}}]"):
        assert fault.hint.startswith(f"write name: {names}; if a process has this very name, ")


@pytest.mark.parametrize(
    "name",
    [
        *("Isolated Web Content", "Whisper of the House.exe", "Yes, Your Grace.exe", "CONERU -DIM.exe"),
        *("file:// Content", "Web Content", "tmux: server", "(sd-pam)", "npm run build", "Chrome_ChildIOT"),
        *("python3.*", "org.gnome.*", "systemd-*", "worker[0-9]*", "g++", "notepad++", "foo?", "[!a]b", "*"),
        *(
            "systemd/x",
            "kworker/0:1",
            r"C:\windows\sy",
            "postgres:",
            "naïve",
            "进程",
            "a@b",
            "x86_64-linux-gnu-",
        ),
        *(
            "node (vitest 1)",
            "-bash",
            "gmain",
            "MainThread",
            "a.b",
            "Xorg:cs0",
            "oracle_1_db",
            "ora_pmon_DB+1",
        ),
    ],
)
def test_a_name_that_a_process_may_well_have_is_fine(name: str) -> None:
    """Spaces, slashes and brackets occur in names, and many globs have a dot."""
    assert set(_codes(f"rules: [{{name: {json.dumps(name)}, oom_score_adj: 5}}]")) <= {
        "interpreter-name",
        "raised-supervisor",
    }


def test_a_glob_beside_its_own_stem_is_a_glob() -> None:
    """`ld.*` is for ld.bfd and ld.lld where ld has been named, too."""
    assert _codes("rules: [{name: [ld.*, ld], oom_score_adj: 5}]") == []
    assert _codes("rules: [{name: [ld.*, lld], oom_score_adj: 5}]") == ["regex-as-name"]


@pytest.mark.parametrize("key", ["exe", "cgroup", "unit", "user_unit", "user", "cmdline"])
def test_an_unusual_character_is_found_in_every_condition(key: str) -> None:
    """With its code point, because it cannot be seen."""
    (fault,) = _warnings(
        'rules: [{%s: ["/a\u200b.service"], oom_score_adj: 5}]'.replace("/", "/" * (key in {"exe", "cgroup"}))
        % key
    )
    assert (fault.code, fault.path) == ("unusual-character", f"rules[0].{key}[0]")
    assert "U+200B, zero width space" in fault.message


@pytest.mark.parametrize(
    ("slice_", "matched"),
    [
        ("app.slice", "/user.slice/user-1000.slice/user@1000.service/app.slice/a.scope"),
        ("app-a.slice", "/user.slice/user-1000.slice/user@1000.service/app.slice/app-a.slice/a.scope"),
        ("'app-*.slice'", "/user.slice/user-1000.slice/user@1000.service/app.slice/app-a.slice/a.scope"),
    ],
)
def test_the_cgroup_of_a_users_slice_matches_what_is_in_it(slice_: str, matched: str) -> None:
    """It is below the service manager of the user."""
    (fault,) = _warnings(f"rules: [{{user_unit: {slice_}, oom_score_adj: 5}}]")
    cgroup = fault.hint.removeprefix("write ").removesuffix(" to match all of them")
    policy, warnings = parse(sources(f"rules: [{{{cgroup}, oom_score_adj: -5}}]"))
    assert warnings == ()
    assert first_unmet(policy.rules[0], Process(Identity(2, 2), b"x", cgroup=matched)) is None


@pytest.mark.parametrize(
    ("path", "fix"),
    [
        ("/sys/fs/cgroup/system.slice/a.service", "/system.slice/a.service"),
        ("/sys/fs/cgroup/memory/docker/*", '"/docker/*"'),
        ("/sys/fs/cgroup/*", '"/*"'),
        ("/sys/fs/cgroup", "/"),
    ],
)
def test_a_cgroup_by_its_folder_never_matches(path: str, fix: str) -> None:
    """What the kernel says of a process starts below the mount point."""
    (fault,) = _warnings(f"rules: [{{cgroup: '{path}', oom_score_adj: 5}}]")
    assert (fault.code, fault.hint) == ("never-matches", f"write cgroup: {fix}")


@pytest.mark.parametrize(
    ("rules", "codes"),
    [
        ("{name: make, oom_score_adj: 700}", ["raised-supervisor"]),
        ("{name: [x, ninja], oom_score_adj: {at_least: 5}}", ["raised-supervisor"]),
        ("{name: make, children: inherit, oom_score_adj: 700}", []),
        ("{name: make, oom_score_adj: 700}, {name: [cc1, cc1plus], oom_score_adj: 700}", []),
        ("{name: make, oom_score_adj: 700}, {name: 'cc1*', oom_score_adj: 700}", []),
        ("{name: make, oom_score_adj: keep}", []),
        ("{name: make, oom_score_adj: {at_most: 5}}", []),
        ("{name: makepkg-tool, oom_score_adj: 5}", []),
    ],
)
def test_a_raised_supervisor_leaves_its_children_at_0(rules: str, codes: list[str]) -> None:
    """Unless they inherit its value, or a rule is for them."""
    assert _codes(f"rules: [{rules}]") == codes


@pytest.mark.parametrize(
    ("panic", "rules", "codes"),
    [
        (2, "rules: [{unit: a.service, oom_score_adj: 5}]", ["panic-with-limits"]),
        (2, "", ["panic-with-limits"]),
        (1, "rules: [{unit: a.service, oom_score_adj: 5}]", []),
    ],
)
def test_a_panic_on_any_limit_is_found_whatever_the_rules(panic: int, rules: str, codes: list[str]) -> None:
    """1 panics only when the whole host is out of memory."""
    assert _codes(f"vm: {{panic_on_oom: {panic}}}\nkernel: {{panic: 10}}\n{rules}\n") == codes


@pytest.mark.parametrize(
    ("rule", "is_found"),
    [
        ("name: '*'", True),
        ("name: '?*'", True),
        ("name: [sshd, '**']", True),
        ("name: {regex: '.*'}", True),
        ("name: {regex: '^.+$'}", True),
        ("name: {regex: '^'}", True),
        ("exe: '*'", True),
        ("name: {regex: '^$'}", False),
        ("name: {regex: '^.$'}", False),
        ("name: {regex: 'a.*'}", False),
        ("name: '?'", False),
        ("name: 's*'", False),
        ("name: '*', user: root", False),
        ("name: '*', unit: ssh.service", False),
    ],
)
def test_a_rule_that_protects_every_process_is_found(rule: str, is_found: bool) -> None:
    """What raises or keeps every value is a fallback, and protects nothing."""
    assert ("protects-all" in _codes(f"rules: [{{{rule}, oom_score_adj: -900}}]")) == is_found
    for value in ("300", "keep", "{at_least: -900}"):
        assert "protects-all" not in _codes(f"rules: [{{{rule}, oom_score_adj: {value}}}]")


def test_a_limit_in_bytes_is_found() -> None:
    """16 GiB in bytes would be 16 TiB."""
    policy = "vm: {overcommit_memory: 2, overcommit_kbytes: %d}"
    (fault,) = _warnings(policy % (16 * 1024**3))
    assert (fault.code, fault.hint) == ("unwise-value", "the unit is KiB: divide by 1024")
    assert "(16.0 TiB)" in fault.message
    assert _codes(policy % (16 * 1024**2)) == []


def test_a_share_that_every_host_refuses_is_found_without_a_host() -> None:
    """One with a max is refused on small hosts only, and what lowers a value on none.

    The least limit is an amount: on a larger host, it is a smaller share.
    """
    faults = _warnings("vm: {min_free_kbytes: 30%, user_reserve_kbytes: {at_least: 26%}, nr_hugepages: 95%}")
    assert [(fault.path, fault.code) for fault in faults] == [
        ("vm.min_free_kbytes", "unwise-value"),
        ("vm.user_reserve_kbytes", "unwise-value"),
        ("vm.nr_hugepages", "unwise-value"),
    ]
    assert faults[0].message.startswith(
        "30 % of RAM is refused on any host, as is any above 20 %: the kernel would reclaim"
    )
    assert "any above 90 %" in faults[2].message
    assert _codes("vm: {min_free_kbytes: {ram: 30%, max: 2GiB}, admin_reserve_kbytes: {at_most: 30%}}") == []
    assert _codes("vm: {overcommit_memory: 2, commit_limit: 0.005%}") == []


def _two(first: str, second: str) -> str:
    return f"rules:\n- {{{first}}}\n- {{{second}}}\n"


def test_names_that_are_one_to_the_kernel_are_found() -> None:
    """15 bytes of each are the same: the shorter takes all, or only a command line tells."""
    short, long = "name: gnome-keyring-d, oom_score_adj: 1", "name: gnome-keyring-daemon, oom_score_adj: 2"
    (fault,) = _warnings(_two(short, long))
    assert (fault.code, fault.line, fault.hint) == ("names-collide", 3, "move the longer name up")
    assert "gnome-keyring-d" in fault.message
    other = "name: gnome-keyring-dialog, oom_score_adj: 3"
    (fault,) = _warnings(_two(long, other))
    assert (fault.code, fault.line) == ("names-collide", 3)
    assert "gnome-keyring-daemon at 0.yaml:2" in fault.message


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("name: gnome-keyring-daemon, oom_score_adj: 2", "name: gnome-keyring-d, oom_score_adj: 1"),
        (
            "name: gnome-keyring-daemon, user: 1000, oom_score_adj: 2",
            "name: gnome-keyring-dialog, user: 1001, oom_score_adj: 3",
        ),
        ("name: gnome-keyring-daemon, oom_score_adj: 2", "name: gnome-keyring-dialog, oom_score_adj: 2"),
        ("name: gnome-keyrings, oom_score_adj: 2", "name: gnome-keyrings-x, oom_score_adj: 1"),
        (
            "name: gnome-keyring-daemon, unit: a.service, oom_score_adj: 2",
            "name: gnome-keyring-dialog, oom_score_adj: 3",
        ),
    ],
)
def test_names_that_can_be_told_apart_are_fine(first: str, second: str) -> None:
    """The longer one first, one value, a shorter name, another condition."""
    assert _codes(_two(first, second)) == []


# Patterns


def _slow(*patterns: str) -> list[str]:
    rules = f"rules: [{{cmdline: {json.dumps(patterns)}, oom_score_adj: 5}}]"
    found = parse(sources(rules), trial=is_slow).warnings
    assert {fault.code for fault in found} <= {"slow-pattern"}
    return [fault.path for fault in found]


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+$",
        r"(a|a)*$",
        r"(a|aa)+$",
        r"^(([a-z])+.)+[A-Z]([a-z])+$",
        r"(\w+\s?)+;",
        r"(?=(a+)+b)c",
        r"a*a*a*a*a*a*b",
        r"java (.*x)*-jar",
        r"(?i:(A+)+)$",
        r"(a{1,30}){1,30}b",
    ],
)
def test_a_pattern_that_goes_on_for_ever_is_found(pattern: str) -> None:
    """By trying it on what it repeats."""
    assert _slow("x", pattern) == ["rules[0].cmdline[1]"]


@pytest.mark.parametrize(
    "pattern",
    [
        "--serve$",
        "java .*-jar .*jenkins",
        r"^/usr/bin/python3? .*",
        "(foo|bar)+ baz",
        "(--[a-z]+ )*end",
        r"(?<=a)b(?!c)",
        "(?>a+)+$",
        "a++b",
        r"(?:[^/]*/)+x$",
        "x?|[^a-z0-9]*",
        r"\N{EM DASH}+",
        r"(?#\q, \xzz or [)a",
        "(?x:a  # \\q or [\n)",
    ],
)
def test_a_pattern_that_ends_soon_is_fine(pattern: str) -> None:
    """Ordinary ones, and those that never go back; 3.11 has atomic groups. A comment is no expression."""
    assert _slow(pattern) == []


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["^(foo|bar)$", "a.{0,99}b"], [1]),
        ([".{0,19}x", "(a?){30}b", "^chrom.*"], [0, 1]),
        (["a.{0,10}b", "a.{0,8}d"], [0]),
        ([f"^{letter}[a-{letter}]" for letter in "bcdefghijklmnopqrstuvwxyz"], []),
        ([f"^x[{one}-{two}]" for one in "abcd" for two in "mnopqrstu"], [0]),
        (["(^|/)(init|Xorg|ssh|systemd|dbus|gdm|gnome|lightdm|sddm|kdeinit|plasma|mate)$"], []),
        ([f"^p(rocess|rogram)-?{number}.*x" for number in range(20)], []),
    ],
)
def test_expressions_on_names_that_take_too_many_steps_are_found(names: list[str], found: list[int]) -> None:
    """One by itself, or all together, which the first of them tells; in steps, on any host the same."""
    listed = json.dumps([{"regex": name} for name in names])
    faults = parse(sources(f"rules: [{{name: {listed}, oom_score_adj: 5}}]"), trial=is_slow).warnings
    assert {fault.code for fault in faults} <= {"slow-pattern"}
    assert sorted(fault.path for fault in faults) == [f"rules[0].name[{at}]" for at in found]
    assert all((" together " in fault.message) is (found == [0]) for fault in faults)


def test_twenty_slow_patterns_are_enough() -> None:
    """The others are counted: a limit in time would give other warnings on other hosts."""
    rules = (
        f"rules: [{{cmdline: {json.dumps([f'(a+)+{number}$' for number in range(40)])}, oom_score_adj: 5}}]"
    )
    with cpu_bound(10, "a check of 40 slow patterns"):
        *slow, untried = parse(sources(rules), trial=is_slow).warnings
    assert [fault.path for fault in slow] == [f"rules[0].cmdline[{number}]" for number in range(20)]
    assert untried.path == "rules[0].cmdline[20]"
    assert untried.message.startswith("20 patterns from here on not tested")


def test_a_pattern_is_tried_only_where_there_is_time_for_it() -> None:
    """The daemon's reader has none: it counts other warnings only."""
    assert _codes("rules: [{cmdline: '(a+)+$', oom_score_adj: 5}]") == []


@pytest.mark.parametrize(
    ("rule", "codes"),
    [
        ("name: sshd, oom_score_adj: -900", ["handed-on"]),
        ("name: [cron, 'sshd*'], scope: main, oom_score_adj: {at_least: 5}", ["handed-on"]),
        ("name: sshd, oom_score_adj: keep", []),
        ("name: sshd-keygen, oom_score_adj: -900", []),
        ("unit: ssh.service, oom_score_adj: -900", []),
    ],
)
def test_a_value_that_sshd_would_hand_on_is_warned_of(rule: str, codes: list[str]) -> None:
    """To every session, whatever its scope; what is left alone hands on its own."""
    assert _codes(f"rules: [{{{rule}}}]") == codes


def test_every_warning_is_documented() -> None:
    """docs/lint.md has an item for each code, and no other."""
    root = Path(__file__).parents[2]
    codes = {"immune", "unvouched"}  # those in one word
    codes |= {"ignored-file", "open-folder", "empty-file"}  # and those found before any lint
    source = root / "src/oomguard"
    for module in (*(source / "policy/lint").glob("*.py"), source / "diagnose/host_check.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                codes.update(re.findall(r"\A[a-z]+(?:-[a-z0-9]+)+\Z", node.value))
    codes -= {"ananicy-cpp", "utf-8", "may-be-denied"}
    documented = re.findall(r"^- `([a-z0-9-]+)`: ", (root / "docs/lint.md").read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(set(documented))
    assert set(documented) == codes, set(documented) ^ codes
