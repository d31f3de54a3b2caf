"""The daemon's status file: its content, and who may read it."""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakeproc import FakeProc
from oomguard.core.change import Outcome, SetOomScoreAdj
from oomguard.core.policy import Policy, SysctlSetting
from oomguard.core.process import Identity
from oomguard.core.rule import Rule, Terms, Value
from oomguard.daemon.loop import Loop
from oomguard.daemon.status_writer import Matched, StatusWriter
from oomguard.kernel.procfs import Procfs
from oomguard.oom.kill import Kill
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state_folder import StateFolder
from oomguard.report.reporter import Degradations, Reporter
from oomguard.report.status_file import STATUS_FILE, OutcomeCounts, encode_status
from oomguard.report.status_reader import decode_status
from workers import Said

HOSTILE = [b"foo) Z 1 (", b"a\nb", b"\x1b[2J", b"", b"\xff\xfe", b"\r\t\0", "\u202eevil".encode()]


@pytest.fixture
def said() -> Said:
    """Return what remembers what was logged."""
    return Said()


@pytest.fixture
def reporter(said: Said) -> Reporter:
    """Return what logs there."""
    return Reporter(said)


@pytest.fixture
def writer(folder: StateFolder, procfs: Procfs, reporter: Reporter) -> Iterator[StatusWriter]:
    """Return one with an empty state folder."""
    yield StatusWriter(Loop(), folder, procfs, Identity(1, 2), reporter, Degradations(reporter))


@pytest.mark.parametrize("comm", HOSTILE, ids=repr)
def test_the_status_file_is_json_whatever_the_names(
    writer: StatusWriter, reporter: Reporter, procfs: Procfs, comm: bytes
) -> None:
    """In ASCII, and with nothing that would move a terminal's cursor once decoded."""
    terms = Terms(Value("exact", 300))
    rules = (Rule(0, (comm, b"x"), terms, "/etc/p.yaml", 1), Rule(1, (b"worker",), terms, "/etc/p.yaml", 2))
    policy = Policy(
        sysctls=(SysctlSetting("vm.swappiness", 0, "/etc/p.yaml", 1),), rules=rules, files=("/etc/p.yaml",)
    )
    for by, result in ((rules[0], "denied"), (rules[0], "applied"), (rules[1], "denied")):
        change = SetOomScoreAdj(Identity(7, 1), comm, 0, 300, 0, "policy", by)
        reporter.outcome(Outcome(change, result), 0.0)  # type: ignore[arg-type]  # a Result
    writer.policy_error = "line one\nline \x1btwo"
    matched = Matched(rules, {7: 0, 8: 0, 9: 1}, tuple(reporter.complaints.values()))
    raw = encode_status(
        writer.collect(Reconciler(policy, Ledger(), procfs), matched, passing_limits=["no events"])
    )
    assert raw.endswith(b"}\n")
    assert raw.count(b"\n") == 1
    raw.decode("ascii")
    found = decode_status(raw, STATUS_FILE)  # it refuses what is not printable
    assert found.rules[0].processes == 2
    assert [row[:4] for row in found.sysctls] == [("vm.swappiness", 0, 0, "/etc/p.yaml:1")]
    assert found.outcomes == OutcomeCounts(1, 0, 2, 0, 0)
    assert [row[:] for row in found.changes] == [
        ("oom_score_adj", "policy", "applied", 1),
        ("oom_score_adj", "policy", "denied", 2),
    ]
    assert (found.pid, found.start_time_ticks, found.processes_held) == (1, 2, 3)
    assert found.policy.errors == ("line one", "line \\x1btwo")
    assert found.limits == ("no events",)


def test_a_change_is_dated_by_the_clock(writer: StatusWriter, reporter: Reporter, procfs: Procfs) -> None:
    """Not by monotonic time, the argument here: that stops while a host is suspended."""
    change = SetOomScoreAdj(Identity(7, 1), b"a", 0, 300, 0, "exec", None)
    begun = time.time()
    reporter.outcome(Outcome(change, "applied"), 0.0)
    found = writer.collect(Reconciler(Policy(), Ledger(), procfs), Matched((), {}, ()))
    assert begun <= found.recent[0].at <= found.written_at


@pytest.mark.parametrize(
    ("options", "mode", "logged"),
    [("", 0o644, 0), ("hidepid=2", 0o640, 0), ("hidepid=2,gid=4711", 0o600, 1)],
)
@pytest.mark.skipif(os.getegid() != 0 or os.geteuid() != 0, reason="root's group sees all")
def test_who_may_not_see_processes_may_not_read_it(
    writer: StatusWriter,
    proc: FakeProc,
    procfs: Procfs,
    folder: StateFolder,
    said: Said,
    options: str,
    mode: int,
    logged: int,
) -> None:
    """Until it is known who that is, only its owner may."""
    (proc.root / "1").mkdir()
    (proc.root / "1" / "mountinfo").write_text(
        f"22 1 0:21 / /proc rw,relatime shared:5 - proc proc rw{',' * bool(options)}{options}\n"
    )
    status = writer.collect(Reconciler(Policy(), Ledger(), procfs), Matched((), {}, ()))
    writer.write(status)
    assert _mode(folder) == 0o600
    for _ in range(2):
        writer.choose_readers()
    writer.write(status)
    assert _mode(folder) == mode
    assert len(said.messages) == logged


@pytest.mark.skipif(os.getegid() != 0 or os.geteuid() != 0, reason="root's group sees all")
def test_a_proc_that_hides_processes_from_the_daemon_is_reported(
    writer: StatusWriter, proc: FakeProc, said: Said
) -> None:
    """With hidepid= and gid=, root's group sees no more than others, and no rule would match."""
    (proc.root / "self").mkdir(exist_ok=True)
    (proc.root / "self" / "mountinfo").write_text(
        "22 1 0:21 / /proc rw,relatime shared:5 - proc proc rw,hidepid=2,gid=4711\n"
    )
    writer.choose_readers()
    [message] = said.messages
    assert message == (
        "oomguard does not see most processes: /proc is mounted with hidepid= and gid=4711"
        " (systemctl edit oomguard: Group=4711 shows them)"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="others see few processes whatever root's group sees")
def test_a_proc_that_hides_processes_from_every_group_is_reported(
    writer: StatusWriter, proc: FakeProc, said: Said
) -> None:
    """Then a group is no cure."""
    (proc.root / "self").mkdir(exist_ok=True)
    mount = "22 1 0:21 / /proc rw,relatime shared:5 - proc proc rw,hidepid=ptraceable\n"
    (proc.root / "self" / "mountinfo").write_text(mount)
    writer.choose_readers()
    [message] = said.messages
    assert message == (
        "oomguard does not see most processes: /proc is mounted with hidepid=ptraceable"
        " (systemctl edit oomguard: CapabilityBoundingSet=CAP_SYS_PTRACE shows them)"
    )
    (proc.root / "1").mkdir()
    (proc.root / "1" / "mountinfo").write_text(mount)
    writer.choose_readers()
    assert len(said.messages) == 1


def _mode(folder: StateFolder) -> int:
    return stat.S_IMODE(os.stat(STATUS_FILE, dir_fd=folder.fd).st_mode)


def test_a_file_that_cannot_be_written_is_reported_once(
    writer: StatusWriter, folder: StateFolder, procfs: Procfs, said: Said
) -> None:
    """And `status` would show it, if it could be written again."""
    os.mkdir(f".{STATUS_FILE}.new", dir_fd=folder.fd)
    status = writer.collect(Reconciler(Policy(), Ledger(), procfs), Matched((), {}, ()))
    for _ in range(2):
        writer.write(status)
    assert said.messages == [f"{folder.path}/{STATUS_FILE} cannot be written: Is a directory"]
    assert writer.collect(Reconciler(Policy(), Ledger(), procfs), Matched((), {}, ())).limits == (
        said.messages[0],
    )


def test_a_file_that_can_be_written_again_soon_says_so(
    folder: StateFolder, procfs: Procfs, said: Said
) -> None:
    """What is written first was collected before, and has the limit."""
    loop, reporter = Loop(), Reporter(said)
    writer = StatusWriter(loop, folder, procfs, Identity(1, 2), reporter, Degradations(reporter))
    os.mkdir(f".{STATUS_FILE}.new", dir_fd=folder.fd)
    status = writer.collect(Reconciler(Policy(), Ledger(), procfs), Matched((), {}, ()))
    writer.write(status)
    assert not loop.is_set("status")
    os.rmdir(f".{STATUS_FILE}.new", dir_fd=folder.fd)
    writer.write(status)
    assert loop.is_set("status")
    loop.set("status", None)
    writer.write(status)
    assert not loop.is_set("status")


def test_a_file_that_cannot_be_removed_is_no_error(writer: StatusWriter, folder: StateFolder) -> None:
    """The daemon stops as it would otherwise, also with a read-only folder."""
    os.mkdir(STATUS_FILE, dir_fd=folder.fd)
    writer.remove()
    assert os.listdir(folder.fd) == [STATUS_FILE]


@pytest.mark.parametrize(("cpu_seconds", "pause"), [(0.001, 1.0), (0.1, 5.0), (3.0, 10.0)])
def test_a_file_that_takes_long_is_replaced_less_often(
    folder: StateFolder, procfs: Procfs, reporter: Reporter, cpu_seconds: float, pause: float
) -> None:
    """On a host fifty times as slow, it took all the CPU time that a daemon at its ceiling has."""
    loop = Loop()
    loop.define("status", lambda _: None)
    writer = StatusWriter(loop, folder, procfs, Identity(1, 2), reporter, Degradations(reporter))
    writer.took(cpu_seconds)
    writer.request(100.0)
    assert loop._due["status"] == 100.0 + pause


def test_one_users_storm_hides_no_other_kill(writer: StatusWriter, procfs: Procfs) -> None:
    """The last three of each user are kept, and sixty in all."""
    writer.take_kill(Kill(1, "mine", uid=1000), None)
    for pid in range(100, 200):
        writer.take_kill(Kill(pid, "storm\n", uid=1001), None)
    reconciler = Reconciler(Policy(), Ledger(), procfs)
    kills = writer.collect(reconciler, Matched((), {}, ())).last_kills
    assert [(one.comm, one.pid) for one in kills] == [
        ("mine", 1),
        *(("storm\\n", pid) for pid in (197, 198, 199)),
    ]
    for uid in range(2000, 2100):
        writer.take_kill(Kill(uid, "x", uid=uid), None)
    kills = writer.collect(reconciler, Matched((), {}, ())).last_kills
    assert [one.pid for one in kills] == list(range(2040, 2100))


def test_policy_files_are_named_for_readers_in_any_folder(
    writer: StatusWriter, procfs: Procfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run --policy my.yaml`: a hint of `explain` in another folder must name a file that is there."""
    monkeypatch.chdir(tmp_path)
    policy = Policy(path="my.yaml", files=("my.yaml", "/etc/p.yaml", "<stdin>"))
    found = writer.collect(Reconciler(policy, Ledger(), procfs), Matched((), {}, ()))
    assert found.policy.path == f"{tmp_path}/my.yaml"
    assert found.policy.files == (f"{tmp_path}/my.yaml", "/etc/p.yaml", "<stdin>")


def test_kills_are_counted_in_the_order_of_the_first_of_each_rule(
    writer: StatusWriter, reporter: Reporter, procfs: Procfs
) -> None:
    """A rule whose name comes first in the alphabet takes no other's place."""
    for label in ("name=z", "name=a", "name=z"):
        reporter.kills.counts[label, False] += 1
    status = writer.collect(Reconciler(Policy(), Ledger(), procfs), Matched((), {}, ()))
    assert [(one.rule, one.count_) for one in status.kills] == [("name=z", 2), ("name=a", 1)]
