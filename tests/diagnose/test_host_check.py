"""`check --host`: what a policy meets on this host. Each warning, and what does not bring it about."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fakeproc import FakeProc
from oomguard.core.decide import Rights
from oomguard.core.process import Identity, Process
from oomguard.diagnose.host_check import Fit, fit
from oomguard.kernel.host_facts import observe_host
from oomguard.kernel.procfs import Procfs
from oomguard.policy.fault import Fault
from oomguard.policy.load import load
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.matching import Itself
from oomguard.reconcile.preview import Preview
from oomguard.reconcile.reconciler import Reconciler

Check = Callable[[str], dict[str, Fault]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root of a host that has no configuration."""
    path = tmp_path / "root"
    path.mkdir()
    return path


def held(file: str, procfs: Procfs, root: Path) -> Fit:
    """Return what a policy meets on that host, for one who may do everything."""
    reconciler = Reconciler(load(file, host=observe_host(procfs)).policy, Ledger(), procfs)
    return fit(Preview(reconciler, Rights(os.geteuid())), file, root=str(root))


@pytest.fixture
def check(root: Path, proc: FakeProc, procfs: Procfs, tmp_path: Path) -> Check:
    """Return what holds a policy against that host and returns what it finds, by code."""
    for name, value in {"vm.swappiness": 60, "vm.overcommit_memory": 0, "kernel.panic": 0}.items():
        proc.sysctl(name, value)
    file = tmp_path / "policy.yaml"

    def check(policy: str) -> dict[str, Fault]:
        file.write_text(policy)
        faults = held(str(file), procfs, root).faults
        assert all(fault.hint for fault in faults)
        assert len({fault.code for fault in faults}) == len(faults)
        return {fault.code: fault for fault in faults}

    return check


def put(root: Path, name: str, text: str) -> str:
    """Write a file below the root and return its path."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


SWAPPINESS = "vm: {swappiness: 10}\n"


def test_a_host_that_wants_nothing_else_is_fine(check: Check) -> None:
    """No files, no daemons, no processes."""
    assert check(SWAPPINESS + "rules: [{name: x, oom_score_adj: -5}]\n") == {}


def test_another_value_in_sysctl_d_is_named_with_its_line(check: Check, root: Path) -> None:
    """The line that counts: a later name wins over an earlier one."""
    put(root, "usr/lib/sysctl.d/10-a.conf", "vm.swappiness = 10\n")
    assert check(SWAPPINESS) == {}
    file = put(root, "etc/sysctl.d/20-b.conf", "# x\n; y\n-vm/swappiness=30\n")
    found = check(SWAPPINESS)["sysctl-elsewhere"]
    assert f"sysctl.d sets 30 ({file}:3), the policy 10" in found.message
    assert found.path == "vm.swappiness"
    put(root, "etc/sysctl.d/30-c.conf", "vm.swappiness=10\n")
    assert check(SWAPPINESS) == {}


def test_the_partner_of_a_sysctl_is_named_too(check: Check, root: Path, proc: FakeProc) -> None:
    """Writing vm.dirty_bytes makes vm.dirty_ratio 0. It denies a 0 there, not in overcommit_kbytes."""
    proc.sysctl("vm.dirty_ratio", 20)
    proc.sysctl("vm.dirty_bytes", 0)
    file = put(root, "etc/sysctl.d/20-b.conf", "vm.dirty_bytes = 1048576\n")
    found = check("vm: {dirty_ratio: 10}")["sysctl-elsewhere"]
    assert f"sysctl.d sets vm.dirty_bytes to 1048576 ({file}:1), which makes this one 0" in found.message
    put(root, "etc/sysctl.d/30-c.conf", "vm.dirty_ratio = 10\nvm.dirty_bytes = 0\n")
    assert check("vm: {dirty_ratio: 10}") == {}
    proc.sysctl("vm.overcommit_ratio", 50)
    file = put(root, "etc/sysctl.d/40-d.conf", "vm.overcommit_ratio = 70\nvm.overcommit_kbytes = 0\n")
    found = check("vm: {overcommit_ratio: 70}")["sysctl-elsewhere"]
    assert f"sets vm.overcommit_kbytes to 0 ({file}:2), which makes this one 0" in found.message


def test_a_tuned_profile_that_wants_another_value_is_named(check: Check, root: Path, proc: FakeProc) -> None:
    """With what it includes, and its section [vm]; a profile that is not active is not read."""
    proc.sysctl("vm.dirty_ratio", 20)
    put(root, "usr/lib/tuned/base/tuned.conf", "[sysctl]\nvm.swappiness=30\nvm.dirty_ratio=5\n")
    file = put(root, "etc/tuned/mine/tuned.conf", "[main]\ninclude=base\n[sysctl]\nvm.dirty_ratio = 9\n")
    assert check(SWAPPINESS) == {}
    put(root, "etc/tuned/active_profile", "mine\n")
    assert "TuneD's profile mine sets 30" in check(SWAPPINESS)["tuned-profile"].message
    assert f"sets 9 ({file}:4)" in check("vm: {dirty_ratio: 10}")["tuned-profile"].message
    assert check("vm: {swappiness: 30}") == {}
    put(root, "etc/tuned/post_loaded_profile", "last\n")
    file = put(root, "etc/tuned/profiles/last/tuned.conf", "[vm]\ndirty_bytes=40%\n")
    assert f"mine last sets 40 ({file}:2)" in check("vm: {dirty_ratio: 10}")["tuned-profile"].message
    put(root, "usr/lib/tuned/base/tuned.conf", "[main]\ninclude=mine\n")  # a circle ends
    assert check(SWAPPINESS) == {}


def test_kubelet_is_said_to_want_its_own_values(check: Check, proc: FakeProc) -> None:
    """Where it runs, and only if they differ."""
    assert check("kernel: {panic: 30}") == {}
    proc.process(Process(Identity(20, 1), b"k3s-server"))
    assert "kubelet sets 10, the policy 30" in check("kernel: {panic: 30}")["kubelet-value"].message
    assert check("kernel: {panic: 10}") == {}


def test_other_daemons_that_write_the_same_values_are_named(
    check: Check, proc: FakeProc, procfs: Procfs, root: Path, tmp_path: Path
) -> None:
    """Another oomguard by its policy; the daemon of this policy is none of them."""
    command = (b"python3", b"-P", b"-m", b"oomguard.daemon")
    own = str(tmp_path / "policy.yaml").encode()
    proc.process(Process(Identity(20, 1), b"python3", arguments=(*command, own, b"/run/oomguard", b"/proc")))
    proc.process(Process(Identity(21, 1), b"vim", arguments=(b"vim", b"oomguard.daemon")))
    assert check("rules: []") == {}
    proc.process(
        Process(Identity(22, 1), b"python3", arguments=(*command, b"/etc/other.yaml", b"/x", b"/proc"))
    )
    assert "another oomguard, with the policy /etc/other.yaml (pid 22)" in check("")["rival-daemon"].message
    file = str(tmp_path / "policy.yaml")
    itself = Itself(os.getpid(), Identity(22, 1))  # it is to use this policy instead
    reconciler = Reconciler(load(file, host=observe_host(procfs)).policy, Ledger(), procfs, itself=itself)
    assert not fit(Preview(reconciler, Rights(os.geteuid())), file, root=str(root)).faults
    proc.end(22)
    proc.process(Process(Identity(23, 1), b"ananicy-cpp"))
    assert "ananicy-cpp (pid 23)" in check("")["rival-daemon"].message
    proc.end(23)
    proc.process(Process(Identity(24, 1), b"python3", arguments=(b"python3", b"/usr/bin/ananicy", b"start")))
    assert "Ananicy (pid 24)" in check("")["rival-daemon"].message


def test_a_unit_with_another_value_is_named(check: Check, root: Path, proc: FakeProc) -> None:
    """By the file and line that has the last word, drop-ins of its template included."""
    proc.process(Process(Identity(20, 1), b"db", cgroup="/system.slice/system-db.slice/db@7.service"))
    rule = "rules:\n- {name: db, oom_score_adj: -800}\n"
    assert check(rule) == {}
    put(root, "usr/lib/systemd/system/db@.service", "[Service]\nOOMScoreAdjust=low\n")
    assert check(rule) == {}, "systemd ignores it"
    put(root, "usr/lib/systemd/system/db@.service", "[Service]\nOOMScoreAdjust=-800\n")
    assert check(rule) == {}
    put(root, "etc/systemd/system/db@.service.d/x.conf", "[Service]\nOOMScoreAdjust=-0x320\n")
    assert check(rule) == {}, "systemd reads hexadecimal numbers, and octal ones"
    file = put(root, "etc/systemd/system/db@.service.d/x.conf", "[Service]\n# x\nOOMScoreAdjust=-500\n")
    found = check(rule)["unit-value"]
    assert f"db@7.service has OOMScoreAdjust=-500 ({file}:3), the rule wants -800" in found.message
    assert (found.line, found.path) == (2, "rules[0]")
    assert check("rules:\n- {name: db, oom_score_adj: {at_least: -600}}\n") == {}
    assert check("rules:\n- {name: db, oom_score_adj: keep}\n") == {}
    put(root, "etc/systemd/system/db@.service.d/y.conf", "[Service]\nOOMScoreAdjust=\n")
    assert check(rule) == {}, "an empty value resets those before it"
    put(root, "etc/systemd/system/db@.service.d/y.conf", "[Unit]\nOOMScoreAdjust=-700\n")
    assert f"({file}:3)" in check(rule)["unit-value"].message, "systemd ignores it in another section"


def test_a_rule_that_misses_the_processes_with_its_name_says_what_they_have(
    check: Check, proc: FakeProc
) -> None:
    """By the first of them; not if it matches another, and not if an earlier rule matches them."""
    cgroup = "/system.slice/system-db.slice/db@7.service"
    for pid in (20, 21):
        proc.process(Process(Identity(pid, 1), b"db", uid=5, cgroup=cgroup))
    rule = "{name: db, unit: %s, oom_score_adj: -5}"
    found = check(f"rules: [{rule % 'db.service'}]")["missed-process"]
    assert found.message == "does not match any of 2 processes with its name: db[20] has unit db@7.service"
    assert check(f"rules: [{rule % 'db@7.service'}]") == {}
    assert check(f"rules: [{{user: 5, oom_score_adj: 5}}, {rule % 'db.service'}]") == {}
    assert (
        check("rules: [{name: [db, x], user: root, oom_score_adj: 5}]")["missed-process"].path == "rules[0]"
    )
    proc.process(Process(Identity(22, 1), b"x", uid=0))
    assert check("rules: [{name: [db, x], user: root, oom_score_adj: 5}]") == {}
    proc.process(Process(Identity(23, 1), b"zz", in_container=True))
    found = check("rules: [{name: zz, oom_score_adj: 5}]")["missed-process"]
    assert (found.message, found.hint) == (
        "does not match the process with its name: zz[23] is in a container",
        "add containers: true",
    )


def test_rules_of_systemd_oomd_are_named_where_something_is_protected(
    check: Check, root: Path, proc: FakeProc
) -> None:
    """Of the unit or a slice above it, if the rules are there and act; an empty line takes them back."""
    cgroup = "/system.slice/system-db.slice/db@7.service"
    proc.process(Process(Identity(20, 1), b"db", cgroup=cgroup))
    rule = "rules: [{name: db, oom_score_adj: %d}]"
    file = put(root, "etc/systemd/system/system-db.slice.d/x.conf", "[Slice]\nOOMRules=hot cold\n")
    assert check(rule % -500) == {}
    put(root, "usr/lib/systemd/oomd/rules.d/hot.oomrule", "[Rule]\nMemoryPressureAbove=10%\n")
    assert check(rule % -500) == {}
    put(root, "etc/systemd/oomd/rules.d/hot.oomrule", "[Rule]\nSwapUsageMax=90%\nAction=kill-by-swap\n")
    found = check(rule % -500)["oomd-rules"]
    assert found.message == (
        f"systemd-oomd kills in system-db.slice by its own rules, whatever the value: OOMRules=hot ({file}:2)"
    )
    assert check(rule % 500) == {}
    put(root, "run/systemd/system/system-db.slice.d/y.conf", "[Slice]\nOOMRules=\n")
    assert check(rule % -500) == {}
    put(root, "etc/systemd/system/db@.service", "[Service]\nOOMRules=hot\n")
    assert "kills in db@7.service" in check(rule % -500)["oomd-rules"].message


def test_a_unit_that_systemd_stops_whole_is_named_where_one_process_is_chosen(
    check: Check, root: Path, proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By OOMPolicy=, which is `stop` unless the unit or the manager says so, or the unit has Delegate=."""
    put(root, "sys/fs/cgroup/cgroup.controllers", "memory\n")
    service = "/system.slice/system-db.slice/db@7.service"
    scope = "/user.slice/user-5.slice/user@5.service/app.slice/app-web.scope"
    for pid, name, cgroup in ((20, b"db", service), (21, b"tab", scope), (22, b"job", "/x.scope")):
        proc.process(Process(Identity(pid, 1), name, cgroup=cgroup))
        proc.hold(pid, rss_pages=1, score=1)
    rule = "rules: [{name: %s, oom_score_adj: 300}]"
    assert check(rule % "db") == check(rule % "tab") == {}, "all of each unit is chosen"
    for pid, cgroup in ((30, service), (31, scope), (32, "/x.scope")):
        proc.process(Process(Identity(pid, 1), b"other", cgroup=cgroup))
        proc.hold(pid, rss_pages=1, score=1)
    found = check(rule % "db")["unit-stops"]
    assert found.message == "if the kernel kills one process of db@7.service, systemd stops all others in it"
    assert found.hint == "systemctl edit db@7.service, and below [Service] OOMPolicy=continue"
    assert "of app-web.scope" in check(rule % "tab")["unit-stops"].message
    assert "/user.conf, DefaultOOMPolicy" in check(rule % "tab")["unit-stops"].hint
    assert check(rule % "job") == check("rules: [{name: db, oom_score_adj: -300}]") == {}
    with monkeypatch.context() as patched:
        patched.setattr("oomguard.diagnose.host_check._VENDOR", "/")
        assert check(rule % "db") == {}, "no administrator wrote it"
    main = "rules: [{name: [db, other], scope: main, oom_score_adj: {at_most: -300}}]"
    proc.process(Process(Identity(33, 1), b"other", parent_pid=20, cgroup=service))
    proc.hold(33, rss_pages=1, score=1)
    assert "unit-stops" in check(main)

    unit = "usr/lib/systemd/system/db@.service"
    for text, is_told in (
        ("[Service]\nOOMPolicy=continue\n", False),
        ("[Service]\nOOMPolicy=kill\nDelegate=yes\n", True),
        ("[Service]\nOOMPolicy=\nDelegate=pids\n", False),
        ("[Service]\nDelegate=no\n", True),
    ):
        put(root, unit, text)
        assert ("unit-stops" in check(rule % "db")) is is_told, text
    put(root, "usr/lib/systemd/system.conf", "[Manager]\nDefaultOOMPolicy=continue\n")
    put(root, "etc/systemd/user.conf.d/oom.conf", "[Manager]\nDefaultOOMPolicy=continue\n")
    assert check(rule % "db") == check(rule % "tab") == {}
    put(root, "etc/systemd/system.conf", "[Manager]\nDefaultOOMPolicy=stop\n")
    assert "unit-stops" in check(rule % "db"), "the file in /etc replaces the one below"
    put(root, "run/systemd/system.conf.d/a.conf", "DefaultOOMPolicy=continue\n")
    assert "unit-stops" in check(rule % "db"), "not in its section"
    (root / "sys/fs/cgroup/cgroup.controllers").unlink()
    assert check(rule % "db") == {}


def test_a_unit_of_a_user_is_not_compared_with_its_manager(check: Check, root: Path, proc: FakeProc) -> None:
    """OOMScoreAdjust= of user@1000.service is the manager's; its units have their own."""
    cgroup = "/user.slice/user-1000.slice/user@1000.service/app.slice/a.service"
    proc.process(Process(Identity(20, 1), b"a", uid=1000, cgroup=cgroup))
    put(root, "usr/lib/systemd/system/user@.service", "[Service]\nOOMScoreAdjust=100\n")
    assert check("rules:\n- {user_unit: a.service, oom_score_adj: 300}\n") == {}
    assert check("rules:\n- {name: a, oom_score_adj: 300}\n") == {}


def test_a_limit_that_looks_like_bytes_is_named_once(check: Check, proc: FakeProc) -> None:
    """By the memory of this host where it is not said of any host."""
    policy = "vm: {overcommit_memory: 2, overcommit_kbytes: %d}\n"
    proc.sysctl("vm.overcommit_kbytes", 0)
    assert "looks like a number of bytes" in check(policy % (8 * 1024**3))["unwise-value"].message
    assert "unwise-value" not in check(policy % (16 * 1024**3))
    assert "unwise-value" not in check(policy % (8 * 1024**2))


def test_processes_that_would_be_refused_are_counted(check: Check, proc: FakeProc) -> None:
    """With the first of them and the way out."""
    proc.process(Process(Identity(20, 1), b"db", uid=0))
    rule = "rules:\n- {name: x, oom_score_adj: 1}\n- {name: db, oom_score_adj: -800}\n"
    assert check(rule) == {}
    proc.process(Process(Identity(21, 1), b"db", uid=1000))
    assert check(rule)["refused-process"].message.startswith("refused for 1 process, db[21]: uid 1000")
    proc.process(Process(Identity(22, 1), b"db", uid=1000))
    found = check(rule)["refused-process"]
    assert found.message.startswith("refused for 2 processes, such as db[21]: uid 1000")
    assert found.path == "rules[1]"


def test_the_interlock_is_asked_beforehand(check: Check, proc: FakeProc) -> None:
    """With its numbers."""
    proc.sysctl("vm.overcommit_ratio", 50)
    proc.meminfo(MemTotal=1000, SwapTotal=0, Committed_AS=700)
    found = check("vm: {overcommit_memory: 2, overcommit_ratio: 60}")["refused-now"]
    assert "would be refused now, with vm.overcommit_memory: CommitLimit would be 600 KiB" in found.message
    proc.meminfo(MemTotal=1000, SwapTotal=0, Committed_AS=100)
    assert check("vm: {overcommit_memory: 2, overcommit_ratio: 60}") == {}


def test_what_this_host_cannot_spare_or_only_just_can_is_named(check: Check, proc: FakeProc) -> None:
    """By its memory: what is refused, and what is unwise."""
    proc.sysctl("vm.min_free_kbytes", 67584)
    found = check("vm: {min_free_kbytes: 4194304}")
    assert found.keys() == {"refused-now"}
    assert "4194304 KiB (4.0 GiB) is more than 3355443 KiB (3.2 GiB)" in found["refused-now"].message
    found = check("vm: {min_free_kbytes: 1048576}")
    assert found.keys() == {"unwise-value"}
    assert "on this host, 1048576 KiB (1.0 GiB) is more than 838860 KiB" in found["unwise-value"].message
    assert check("vm: {min_free_kbytes: 131072}") == {}


def test_a_rule_with_exe_says_what_it_takes(check: Check, root: Path) -> None:
    """Unless the daemon's unit, or a drop-in of it, has the capability."""
    rule = "rules: [{exe: /usr/bin/x, oom_score_adj: 5}]"
    put(root, "usr/lib/systemd/system/oomguard.service", "[Service]\nCapabilityBoundingSet=CAP_NET_ADMIN\n")
    assert "lacks CAP_SYS_PTRACE" in check(rule)["exe-unreadable"].message
    assert check("rules: [{name: x, oom_score_adj: 5}]") == {}
    drop_in = "etc/systemd/system/oomguard.service.d/exe.conf"
    put(root, drop_in, "[Service]\nCapabilityBoundingSet=CAP_SYS_PTRACE\n")
    assert check(rule) == {}
    for lines, is_granted in (
        ("=", False),
        ("=\nCapabilityBoundingSet=cap_sys_ptrace", True),
        ("=~CAP_SYS_ADMIN", False),
        ("=CAP_SYS_PTRACE\nCapabilityBoundingSet=~CAP_SYS_PTRACE CAP_CHOWN", False),
        ("=CAP_SYS_PTRACE\nCapabilityBoundingSet=~CAP_CHOWN", True),
    ):
        put(root, drop_in, f"[Service]\nCapabilityBoundingSet{lines}\n")
        assert ("exe-unreadable" not in check(rule)) == is_granted
    (root / drop_in).unlink()
    for names, is_granted in (("CAP_SYS_ADMIN", True), ("CAP_SYS_PTRACE", False)):
        unit = f"[Service]\nCapabilityBoundingSet=~{names}\n"
        put(root, "usr/lib/systemd/system/oomguard.service", unit)
        assert ("exe-unreadable" not in check(rule)) == is_granted


def test_an_executable_by_a_link_never_matches(check: Check, root: Path) -> None:
    """The kernel shows where it leads. In containers, the path may be another."""
    put(root, "usr/lib/systemd/system/oomguard.service", "[Service]\nCapabilityBoundingSet=CAP_SYS_PTRACE\n")
    put(root, "usr/bin/x9", "")
    (root / "usr/bin/x").symlink_to("x9")
    (root / "bin").symlink_to("usr/bin")
    rule = "rules: [{exe: %s, oom_score_adj: 5}]"
    for path in ("/bin/x", "/bin/x9", "/usr/bin/x"):
        found = check(rule % path)["never-matches"]
        assert (found.path, found.hint) == ("rules[0]", "write exe: /usr/bin/x9")
        assert path in found.message
    for path in ("/usr/bin/x9", "[/bin/x9, /usr/bin/x9]", "/usr/bin/y", "/bin/*", "/bin/x, containers: true"):
        assert check(rule % path) == {}


def test_too_much_that_is_protected_is_said(
    check: Check, proc: FakeProc, procfs: Procfs, root: Path, tmp_path: Path
) -> None:
    """More than all the rest together. As in `rank`, init is neither protected nor counted."""
    for pid, name, pages in ((1, b"init", 900_000), (20, b"db", 225_000), (21, b"web", 25_000)):
        proc.process(Process(Identity(pid, 1), name))
        proc.hold(pid, rss_pages=pages, score=0 if pid == 1 else 667)
    policy = "rules: [{name: %s, oom_score_adj: -500}]"
    message = check(policy % "db")["little-killable"].message
    assert "protected processes use 878.9 MiB, all others 97.7 MiB" in message
    assert check(policy % "web") == {}
    found = held(str(tmp_path / "policy.yaml"), procfs, root)
    assert found.memory == "Protected processes use 97.7 MiB, all others 878.9 MiB."


def test_a_sysctl_that_is_not_there_is_an_error(check: Check) -> None:
    """The only one: the daemon would pass it over."""
    found = check("vm: {stat_interval: 5}")["missing-sysctl"]
    assert found.severity == "error"


def test_nothing_a_file_or_process_says_reaches_the_terminal(
    check: Check, root: Path, proc: FakeProc, tmp_path: Path
) -> None:
    """Control characters of others are escaped."""
    put(root, "etc/sysctl.d/\x1b[31m.conf", "vm.swappiness=\x1b[2J\n")
    proc.process(Process(Identity(20, 1), b"\x1b[2J", uid=1000))
    command = (b"python3", b"-m", b"oomguard.daemon", b"\x1b[2J\n", b"/x", b"/proc")
    proc.process(Process(Identity(22, 1), b"python3", arguments=command))
    found = check(SWAPPINESS + "rules: [{name: '?*[J]', oom_score_adj: -5}]\n")
    assert {"sysctl-elsewhere", "rival-daemon", "refused-process"} <= found.keys()
    assert all(fault.one_line.isprintable() for fault in found.values())


def test_a_bound_conflicts_only_with_values_that_it_would_change(check: Check, root: Path) -> None:
    """A file of sysctl.d that sets more than at_least sets what is wanted."""
    put(root, "etc/sysctl.d/10-a.conf", "vm.swappiness = 70\n")
    assert check("vm: {swappiness: {at_least: 65}}") == {}
    assert "sysctl.d sets 70" in check("vm: {swappiness: {at_most: 65}}")["sysctl-elsewhere"].message


def test_more_to_leave_than_there_is_would_be_refused_with_numbers(check: Check, proc: FakeProc) -> None:
    """On a host with 4 GiB, and a policy that suits larger ones."""
    proc.meminfo(MemTotal=4 * 1024 * 1024)
    proc.sysctl("vm.overcommit_ratio", 50)
    proc.sysctl("vm.overcommit_kbytes", 0)
    found = check("vm: {overcommit_memory: 2, commit_limit: {leave: 8GiB}}")["refused-now"]
    assert "CommitLimit would be 1 KiB" in found.message
    assert found.hint.startswith("raise overcommit_kbytes to 2306867 or more (commit_limit: 2253MiB)")
    found = check("vm: {commit_limit: {leave: 8GiB}}")["refused-now"]
    assert "1 KiB is less than 65536 KiB (64.0 MiB): in mode 2 no program could start" in found.message


def test_a_commit_limit_of_more_than_the_ram_is_unwise(check: Check, proc: FakeProc) -> None:
    """Of all of it is not."""
    proc.sysctl("vm.overcommit_ratio", 50)
    proc.sysctl("vm.overcommit_kbytes", 0)
    mode = "vm: {overcommit_memory: 2, commit_limit: "
    assert "that is all RAM" in check(mode + "17GiB}")["unwise-value"].message
    assert check(mode + "100%}") == {}


def test_a_size_that_is_less_than_a_huge_page_is_none(check: Check, proc: FakeProc) -> None:
    """It would be a mistake; a 0 is not."""
    proc.sysctl("vm.nr_hugepages", 0)
    assert "1 MiB comes to none" in check("vm: {nr_hugepages: 1MiB}")["unwise-value"].message
    assert check("vm: {nr_hugepages: 0}") == {}
    assert check("vm: {nr_hugepages: 0%}") == {}
