"""The verbs: what they print, and the exit code they choose."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml

from fakeproc import FakeKernel, FakeProc
from oomguard import __version__
from oomguard.__main__ import main
from oomguard.cli import overview
from oomguard.core.decide import Rights
from oomguard.core.peaks import LASTING_SECONDS
from oomguard.core.process import Identity, Process, UnknownFactError
from oomguard.diagnose import this_host
from oomguard.diagnose.overview import observe_overview
from oomguard.diagnose.this_host import ThisHost
from oomguard.kernel.procfs import ProcessHandle
from oomguard.policy.load import load
from oomguard.reconcile.peak_file import PeakFile
from oomguard.report.status_file import Complaint, ContendedValue, RuleStatus, SysctlStatus, encode_status
from statuses import IDLE

POLICY = """\
vm:
  swappiness: 10
rules:
  - name: crond
    oom_score_adj: -900
  - name: worker
    oom_score_adj: {at_least: 300}
"""

HOSTILE = [
    b"\x1b[2J\x1b[31mred",
    b"[red]x[/red]",
    b"a\nb\tc\r",
    b"\xff\xfe",
    b"",
    b":smile:",
    "\u202e\u200b".encode(),
]


class Run:
    """What came of one call."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        """Return what was printed, parsed."""
        return json.loads(self.out)


Oomguard = Callable[..., Run]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Return a policy file."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


@pytest.fixture
def oomguard(
    proc: FakeProc,
    policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Oomguard:
    """Return what calls the program, in this process, with the policy, state folder and tree of this test."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("oomguard.diagnose.this_host.Procfs", FakeKernel)
    monkeypatch.setattr(
        "oomguard.diagnose.this_host.own_rights", lambda: Rights(os.geteuid())
    )  # as the tree refuses nothing
    places = {
        "--policy": (str(policy), {"check", "plan", "apply", "status", "explain"}),
        "--state-dir": (str(tmp_path / "state"), {"check", "plan", "apply", "restore", "status", "explain"}),
        "--proc": (str(proc.root), {"check", "plan", "apply", "restore", "status", "explain"}),
    }

    def call(verb: str, *arguments: str) -> Run:
        argv = ["oomguard", verb, *arguments]
        for option, (value, verbs) in places.items():
            is_taken = option != "--policy" or "--restore" not in arguments
            if verb in verbs and option not in arguments and is_taken:
                argv += [option, value]
        monkeypatch.setattr(sys, "argv", argv)
        code = main()
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    return call


@pytest.fixture(autouse=True)
def host(proc: FakeProc) -> FakeProc:
    """Fill the tree: a sysctl to change, a process to protect, one to refuse, one to leave, one to raise."""
    proc.sysctl("vm.swappiness", 60)
    proc.sysctl("vm.overcommit_memory", 0)
    proc.process(Process(Identity(10, 1), b"crond"))
    proc.process(Process(Identity(11, 1), b"crond", uid=1000))
    proc.process(Process(Identity(12, 1), b"bash", uid=1000))
    proc.process(Process(Identity(13, 1), b"worker", uid=1000))
    return proc


# check


def test_check_of_a_valid_policy_says_what_it_holds(oomguard: Oomguard, policy: Path) -> None:
    """Exit 0."""
    run = oomguard("check")
    assert (run.code, run.out) == (0, f"{policy}: valid, 2 rules and 1 sysctl from {policy}\n")


def test_check_reads_the_default_too_if_it_is_named_beside_files(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not if only files are."""
    default = f"{tmp_path}/default.yaml"
    monkeypatch.setattr("oomguard.cli.check.DEFAULT_PATH", default)
    monkeypatch.setattr(sys, "argv", ["oomguard", "check", str(policy)])
    assert main() == 0
    monkeypatch.setattr(sys, "argv", ["oomguard", "check", "--policy", default, str(policy)])
    assert main() == 78
    assert f"{default}: no such file" in capsys.readouterr().out


def test_check_reports_every_fault_at_once(oomguard: Oomguard, policy: Path) -> None:
    """Exit 78, each with its place, in order of lines."""
    policy.write_text("rules:\n  - name: a\n    oom_score_adj: 5000\n  - name: b\nvm: {swappines: 1}\n")
    run = oomguard("check")
    assert run.code == 78
    places = [line.split(": ")[0] for line in run.out.splitlines() if not line.startswith(" ")]
    assert [int(place.split(":")[1]) for place in places] == [3, 4, 5]
    assert "did you mean" in run.out


def test_check_as_json_is_a_list_of_faults(oomguard: Oomguard, policy: Path) -> None:
    """Empty where there is none."""
    assert oomguard("check", "--json").json == []
    policy.write_text("rulez: 1\n")
    run = oomguard("check", "--json")
    assert run.code == 78
    assert [(fault["file"], fault["line"], fault["severity"]) for fault in run.json] == [
        (str(policy), 1, "error")
    ]


def test_a_warning_fails_only_with_strict(oomguard: Oomguard, policy: Path) -> None:
    """It is shown either way."""
    policy.write_text("rules:\n  - name: a\n    trust: name\n    oom_score_adj: -5\n")
    assert oomguard("check").code == 0
    strict = oomguard("check", "--strict")
    assert strict.code == 78
    fault = oomguard("check", "--json").json[0]
    assert (
        f": warning: {fault['path'].rpartition('.')[2]}: {fault['message']} [{fault['code']}]\n" in strict.out
    )


def test_check_on_a_host_names_the_sysctl_that_it_lacks(oomguard: Oomguard, policy: Path) -> None:
    """And without --host does not ask."""
    policy.write_text("vm: {stat_interval: 5}\n")
    assert oomguard("check").code == 0
    run = oomguard("check", "--host")
    assert run.code == 78
    assert "vm.stat_interval" in run.out
    assert "no such sysctl" in run.out


def test_a_policy_that_is_not_there_is_a_bad_policy(oomguard: Oomguard, policy: Path) -> None:
    """For every verb that needs one, with a way out."""
    policy.unlink()
    for verb, more in (("check", ()), ("plan", ()), ("apply", ()), ("explain", ("10",))):
        run = oomguard(verb, *more)
        assert run.code == 78, verb
        assert "no such file" in run.out + run.err


# plan


def test_a_plan_gives_no_process_the_reason_of_another(oomguard: Oomguard, proc: FakeProc) -> None:
    """Two users pretend: one line for the rule, which says that there is more."""
    proc.process(Process(Identity(21, 1), b"crond", uid=2000))
    run = oomguard("plan")
    why = "uid 1000 could give any program this name; and 1 other reason: oomguard explain PID add user"
    assert f"refused: crond[11, 21]: {why}" in " ".join(run.out.split())


def test_plan_shows_what_would_change_and_changes_nothing(oomguard: Oomguard, proc: FakeProc) -> None:
    """Exit 3, with the rule and its line, and why a change is refused."""
    before = (proc.oom_score_adjs(), proc.sysctls())
    run = oomguard("plan")
    assert run.code == 3
    assert [line.split() for line in run.out.splitlines()[2:6]] == [
        ["vm.swappiness", "60", "10", "policy.yaml:2"],
        ["crond[10]", "0", "-900", "name=crond", "(policy.yaml:4)"],
        ["crond[11]", "0", "-900", "refused", "name=crond", "(policy.yaml:4)"],
        ["worker[13]", "0", "300", "name=worker", "(policy.yaml:6)"],
    ]
    assert "refused: crond[11]: uid 1000 could give any program this name\n  add user" in run.out
    assert run.out.endswith(
        "\n3 to change, 1 refused.\nProcesses matched: 1 by name=crond, 1 by name=worker.\n"
    )
    assert (proc.oom_score_adjs(), proc.sysctls()) == before


def test_plan_makes_no_state_folder(oomguard: Oomguard, tmp_path: Path) -> None:
    """Anyone may plan."""
    oomguard("plan")
    assert not (tmp_path / "state").exists()


def test_plan_with_nothing_to_change_is_exit_0(oomguard: Oomguard, policy: Path) -> None:
    """And says how many processes are held."""
    policy.write_text("rules:\n  - name: bash\n    oom_score_adj: 0\n")
    run = oomguard("plan")
    assert (run.code, run.out) == (
        0,
        "Nothing to change (1 managed process).\nProcesses matched: 1 by name=bash.\n",
    )
    run = oomguard("plan", "--json")
    assert (run.code, run.json) == (0, [])


def test_plan_names_a_file_that_does_not_count_here(oomguard: Oomguard, policy: Path) -> None:
    """Or nothing to change would look like nothing to do."""
    policy.write_text("when: {memory: '>= 512TiB'}\nrules: [{name: bash, oom_score_adj: 5}]\n")
    run = oomguard("plan")
    assert run.code == 0
    assert f"{policy} does not count: memory is " in run.out.splitlines()[-1]


def test_plan_as_json_has_every_fact(oomguard: Oomguard, policy: Path) -> None:
    """In order, refused ones with reason and hint."""
    run = oomguard("plan", "--json")
    assert run.code == 3
    sysctl, protected, refused, raised = run.json
    assert sysctl == {
        "target": "vm.swappiness",
        "from": 60,
        "to": 10,
        "cause": "policy",
        "obstacle": None,
        "source": f"{policy}:2",
        "said": None,
    }
    assert protected == {
        "target": "oom_score_adj",
        "from": 0,
        "to": -900,
        "cause": "policy",
        "obstacle": None,
        "pid": 10,
        "start_time_ticks": 1,
        "comm": "crond",
        "original": 0,
        "inherited": False,
        "rule": "name=crond",
        "source": f"{policy}:4",
    }
    assert refused["obstacle"].keys() == {"kind", "reason", "hint"}
    assert raised["pid"] == 13


def test_plan_of_a_bad_policy_is_exit_78(oomguard: Oomguard, policy: Path) -> None:
    """On stderr, with nothing on stdout."""
    policy.write_text("rulez: 1\n")
    run = oomguard("plan")
    assert (run.code, run.out) == (78, "")
    assert run.err.startswith(f"oomguard: {policy}:1:1: unknown key rulez")


@pytest.mark.parametrize("comm", HOSTILE, ids=repr)
def test_no_name_breaks_a_table(oomguard: Oomguard, proc: FakeProc, policy: Path, comm: bytes) -> None:
    """No control character, no markup taken for such, no line beyond 80 columns; JSON stays JSON."""
    policy.write_text(
        f"rules:\n  - user: 1234\n    cmdline: {json.dumps('x' * 100 + '|.*')}\n    oom_score_adj: 5\n"
    )
    proc.process(Process(Identity(50, 1), comm, uid=1234, arguments=(comm * 30, b"\x1b]0;title\x07")))
    for arguments in (("plan",), ("explain", "50"), ("status",), ("apply",)):
        run = oomguard(*arguments)
        assert run.code in (0, 3), run.err
        assert run.out.replace("\n", "").isprintable(), arguments
        if arguments in (("plan",), ("explain", "50")):
            assert max(len(line) for line in run.out.splitlines()) <= 80, arguments
        assert "50]" in run.out or arguments == ("status",)
    assert "[red]" in run.out or comm != HOSTILE[1]
    oomguard("restore")
    assert [change["pid"] for change in oomguard("plan", "--json").json] == [50]
    assert oomguard("explain", "50", "--json").json[0]["pid"] == 50


# apply and restore


def test_apply_does_what_plan_showed_and_says_each(oomguard: Oomguard, proc: FakeProc, policy: Path) -> None:
    """Exit 1 where one was refused; the fix stands below what it is for, and the totals at the end."""
    run = oomguard("apply")
    assert run.code == 1
    lines = run.out.splitlines()
    assert lines[0] == f"vm.swappiness: 60 → 10 (policy, {policy}:2)"
    assert lines[1] == f"crond[10]: oom_score_adj 0 → -900 (policy, name=crond, {policy}:4)"
    assert lines[2].startswith("crond[11]: oom_score_adj 0 → -900 refused: uid 1000 could give")
    assert lines[3].startswith("  add user")
    assert lines[-1] == "3 changed, 1 refused."
    assert proc.oom_score_adjs() == {10: -900, 11: 0, 12: 0, 13: 300}
    assert proc.sysctls()["vm.swappiness"] == 10


def test_an_empty_policy_restores_nothing_unnoticed(
    oomguard: Oomguard, proc: FakeProc, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a pipe it is an error, as what writes into it has failed; a file may be meant."""
    oomguard("apply")
    with open(os.devnull, "rb") as empty:
        saved = os.dup(0)
        os.dup2(empty.fileno(), 0)
        try:
            for verb in ("check", "plan", "apply"):
                run = oomguard(verb, "--policy", "-")
                assert (run.code, "<stdin>: is empty" in run.out + run.err) == (78, True), verb
        finally:
            os.dup2(saved, 0)
            os.close(saved)
    assert proc.oom_score_adj(10) == -900
    policy.write_text("")
    for verb in ("plan", "apply"):
        assert "the file is empty" in oomguard(verb).err, verb
    assert proc.oom_score_adj(10) == 0


def test_check_with_host_finds_what_only_another_host_would_reject(oomguard: Oomguard, policy: Path) -> None:
    """What `when:` leaves out here must not contradict the rest: somewhere it counts."""
    folder = policy.with_name(f"{policy.stem}.d")
    folder.mkdir()
    (folder / "10.yaml").write_text("vm: {swappiness: 60}\n")
    (folder / "20.yaml").write_text('when: {memory: ">= 640GiB"}\nvm: {swappiness: 30}\n')
    for options in ([], ["--host"]):
        run = oomguard("check", *options)
        assert (run.code, "is 30 here and 60 at" in run.out + run.err) == (78, True), options


def test_explain_says_that_systemd_is_about_to_start_a_service(oomguard: Oomguard, proc: FakeProc) -> None:
    """Its executor has a name of digits, or one in parentheses; another root's program may have that, too."""
    service = "/system.slice/x.service"
    proc.process(Process(Identity(40, 1), b"(x)", parent_pid=1, cgroup=service))
    proc.process(Process(Identity(41, 1), b"12345", parent_pid=1, cgroup="/"))
    assert "systemd is about to run a service here" in oomguard("explain", "40").out
    assert "systemd" not in oomguard("explain", "41").out.partition("\n")[2].replace("systemd-", "")


def test_what_cannot_be_read_is_not_said_to_be_restored(
    oomguard: Oomguard, proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that is removed keeps the ledger then."""
    oomguard("apply")
    read = ProcessHandle._read_pinning

    def hang(handle: ProcessHandle, path: str) -> bytes:
        if handle.pid == 13:
            raise UnknownFactError("reading it took too long")
        return read(handle, path)

    monkeypatch.setattr(ProcessHandle, "_read_pinning", hang)
    for verb in ("apply", "restore"):
        run = oomguard(verb)
        assert (run.code, "reading it took too long" in run.err) == (1, True), verb
    assert proc.oom_score_adj(13) == 300
    monkeypatch.undo()


def test_a_log_that_never_ends_is_refused(oomguard: Oomguard) -> None:
    """A device, but not the empty one."""
    run = oomguard("postmortem", "/dev/zero")
    assert (run.code, "/dev/zero is a device" in run.err) == (1, True)
    assert oomguard("postmortem", "/dev/null").code == 0


def test_apply_names_equal_failures_once(oomguard: Oomguard, proc: FakeProc) -> None:
    """However many processes of one name a user starts; what was changed has a line each."""
    for pid in (50, 51):
        proc.process(Process(Identity(pid, 1), b"crond", uid=1000))
        proc.process(Process(Identity(pid + 10, 1), b"crond"))
    lines = oomguard("apply").out.splitlines()
    assert [line.partition(":")[0] for line in lines if "crond" in line] == [
        "crond[10]",
        "crond[11, 50, 51]",
        "crond[60]",
        "crond[61]",
    ]
    assert lines[-1] == "5 changed, 3 refused."


def test_apply_where_all_is_done_is_exit_0(oomguard: Oomguard, proc: FakeProc) -> None:
    """A second time there is nothing to do."""
    proc.end(11)
    first = oomguard("apply", "--json")
    assert (first.code, [row["result"] for row in first.json]) == (0, ["applied"] * 3)
    assert all(row["errno"] is row["reason"] is row["hint"] is None for row in first.json)
    second = oomguard("apply")
    assert (second.code, second.out) == (0, "Nothing to change.\n")
    assert oomguard("plan").code == 0


def test_apply_that_is_denied_is_exit_1_with_the_kernels_answer(
    oomguard: Oomguard, proc: FakeProc, policy: Path
) -> None:
    """One failing change stops no other."""
    policy.write_text("vm: {swappiness: 10}\nrules:\n  - name: worker\n    oom_score_adj: 5\n")
    path = proc.root / "sys" / "vm" / "swappiness"
    mounted = subprocess.run(["mount", "--bind", str(path), str(path)], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(path)], check=True)
        run = oomguard("apply", "--json")
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
    assert run.code == 1
    assert [(row["result"], row["errno"], row["reason"]) for row in run.json] == [
        ("denied", "EROFS", "/proc/sys is read-only here"),
        ("applied", None, None),
    ]


def test_restore_puts_everything_back_and_then_has_nothing_to_do(oomguard: Oomguard, proc: FakeProc) -> None:
    """Exit 0 both times."""
    before = (proc.oom_score_adjs(), proc.sysctls())
    oomguard("apply")
    run = oomguard("restore")
    assert run.code == 0
    assert run.out.splitlines() == [
        "vm.swappiness: 10 → 60 (restore)",
        "crond[10]: oom_score_adj -900 → 0 (restore)",
        "worker[13]: oom_score_adj 300 → 0 (restore)",
        "",
        "3 restored.",
    ]
    assert (proc.oom_score_adjs(), proc.sysctls()) == before
    again = oomguard("restore", "--json")
    assert (again.code, again.json) == (0, [])


def test_restore_says_what_it_leaves_alone_as_plan_did(
    oomguard: Oomguard, proc: FakeProc, policy: Path
) -> None:
    """What something else has set since, one line each; the next restore has nothing to do."""
    start = proc.oom_score_adjs()
    oomguard("apply")
    proc.set_oom_score_adj(13, 57)
    left = "left alone: oom_score_adj of worker[13] is 57, set by something else (oomguard had set 300)"
    files = {path: path.read_bytes() for path in policy.parent.rglob("*") if path.is_file()}
    planned = oomguard("plan", "--restore")
    assert planned.code == 3
    assert planned.out.splitlines()[-4:] == ["", left, "", "2 to restore, 1 left alone."]
    document = oomguard("plan", "--restore", "--json").json
    assert [(row["target"], row.get("pid"), row.get("result")) for row in document] == [
        ("vm.swappiness", None, None),
        ("oom_score_adj", 10, None),
        ("oom_score_adj", 13, "left-alone"),
    ]
    assert {path: path.read_bytes() for path in files} == files
    done = oomguard("restore")
    assert (done.code, done.out.splitlines()[-3:]) == (0, [left, "", "2 restored, 1 left alone."])
    assert proc.oom_score_adjs() == start | {13: 57}
    assert oomguard("restore").out == "Nothing to restore.\n"
    assert (oomguard("plan", "--restore").code, oomguard("plan", "--restore").out) == (
        0,
        "Nothing to restore.\n",
    )


def test_restore_says_which_sysctl_it_leaves_alone(oomguard: Oomguard, proc: FakeProc) -> None:
    """It has neither the original value nor oomguard's."""
    oomguard("apply")
    proc.sysctl("vm.swappiness", 77)
    left = "left alone: vm.swappiness is 77, set by something else (oomguard had set 10)"
    assert left in oomguard("restore").out.splitlines()
    assert proc.sysctls()["vm.swappiness"] == 77


def test_a_restore_from_a_state_folder_that_does_not_exist_is_an_error(
    oomguard: Oomguard, tmp_path: Path
) -> None:
    """A typo restores nothing, which must not look like success; nor is the folder made."""
    for verb in (("restore",), ("plan", "--restore")):
        run = oomguard(*verb)
        assert (run.code, run.out) == (1, "")
        assert f"{tmp_path}/state: there is no such state folder" in run.err
    assert not (tmp_path / "state").exists()


def test_restore_says_what_it_could_not_see(
    oomguard: Oomguard, proc: FakeProc, tmp_path: Path, sleeper: Identity
) -> None:
    """With hidepid=2, it does not claim that everything is restored."""
    pid = sleeper.pid  # signals reach what /proc hides
    proc.process(Process(Identity(pid, 1), b"crond"))
    oomguard("apply")
    (proc.root / "self").mkdir(exist_ok=True)
    (proc.root / "self" / "mountinfo").write_text("22 28 0:21 / /proc rw - proc proc rw,hidepid=2\n")
    hidden = (proc.root / str(pid)).rename(tmp_path / "hidden")
    run = oomguard("plan", "--restore")
    assert run.code == 3
    assert (
        "/proc hides 1 process from this user (hidepid=): what a restore would do to them is not" in run.err
    )
    places = f"--state-dir {tmp_path}/state --proc {proc.root}"
    assert f"run oomguard plan --restore {places} in the group" in run.err
    run = oomguard("restore")
    assert run.code == 1
    assert "/proc hides 1 process from this user (hidepid=)" in run.err
    assert f"run oomguard restore {places} in the group" in run.err
    assert "not running; 1 value it set is still in force" in oomguard("status").out
    hidden.rename(proc.root / str(pid))
    assert oomguard("restore").code == 0
    assert proc.oom_score_adj(pid) == 0


def test_a_plan_to_restore_says_that_originals_are_lost(oomguard: Oomguard, tmp_path: Path) -> None:
    """As the restore would."""
    oomguard("apply")
    ledger = tmp_path / "state" / "ledger"
    header, *lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join([header, *(b"0" + line[1:] for line in lines)]))
    lost = f"{len(lines)} lines of {tmp_path}/state/ledger cannot be read, so some values cannot be restored"
    assert lost in oomguard("plan", "--restore").err
    assert lost in oomguard("restore").err


def test_restore_says_how_to_go_on_where_processes_start_too_fast(
    oomguard: Oomguard, proc: FakeProc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the folder: another one would have nothing to restore."""
    oomguard("apply")
    monkeypatch.setattr("oomguard.reconcile.once.LONGEST_SECONDS", -1)
    run = oomguard("restore")
    assert run.code == 1
    assert f"then run oomguard restore --state-dir {tmp_path}/state --proc {proc.root} again\n" in run.err


def test_restore_after_a_reboot_touches_nothing(oomguard: Oomguard, proc: FakeProc) -> None:
    """The ledger is of another boot."""
    oomguard("apply")
    proc.boot("another")
    assert oomguard("restore").out == "Nothing to restore.\n"
    assert proc.oom_score_adj(10) == -900


def test_restore_with_a_damaged_ledger_puts_back_what_it_knows_and_fails(
    oomguard: Oomguard, proc: FakeProc, tmp_path: Path
) -> None:
    """What was damaged is named, kept, and not said again."""
    oomguard("apply")
    ledger = tmp_path / "state" / "ledger"
    lines = ledger.read_bytes().splitlines(keepends=True)
    lines = [b"\x00\xff damaged\n" if b'"pid":10' in line else line for line in lines]
    ledger.write_bytes(b"".join(lines))
    run = oomguard("restore")
    assert run.code == 1
    assert f"1 line of {tmp_path}/state/ledger cannot be read" in run.err
    assert "ledger.damaged" in run.err
    assert proc.oom_score_adjs() == {10: -900, 11: 0, 12: 0, 13: 0}
    assert proc.sysctls()["vm.swappiness"] == 60
    assert (tmp_path / "state" / "ledger.damaged").read_bytes() == b"".join(lines)
    again = oomguard("restore")
    assert (again.code, again.out, again.err) == (0, "Nothing to restore.\n", "")


def test_restore_of_a_ledger_that_ends_in_the_middle_puts_back_the_rest(
    oomguard: Oomguard, proc: FakeProc, tmp_path: Path
) -> None:
    """A line that was cut short was written for a change that was never made: nothing is missing."""
    oomguard("apply")
    ledger = tmp_path / "state" / "ledger"
    ledger.write_bytes(ledger.read_bytes() + b'{"pid":12,"st')
    run = oomguard("restore")
    assert (run.code, run.err) == (0, "")
    assert set(proc.oom_score_adjs().values()) == {0}


def test_what_drifted_and_what_is_to_be_put_back_shows_in_plan(
    oomguard: Oomguard, proc: FakeProc, policy: Path
) -> None:
    """It reads the ledger, and leaves it as it is."""
    oomguard("apply")
    proc.set_oom_score_adj(10, -1)
    policy.write_text("rules:\n  - name: crond\n    oom_score_adj: -900\n")
    run = oomguard("plan", "--json")
    causes = {row.get("pid", row["target"]): row["cause"] for row in run.json if row["obstacle"] is None}
    assert causes == {"vm.swappiness": "restore", 10: "drift", 13: "restore"}
    shown = " ".join(oomguard("plan").out.split())
    assert "no rule: original value" in shown
    assert "not in the policy: original value" in shown


@pytest.mark.parametrize("verb", ["apply", "restore"])
def test_a_state_folder_that_others_may_write_is_refused(
    oomguard: Oomguard, proc: FakeProc, tmp_path: Path, verb: str
) -> None:
    """Exit 1, and nothing was changed."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    run = oomguard(verb)
    assert run.code == 1
    assert "chmod 755" in run.err
    assert proc.oom_score_adj(10) == 0


@pytest.mark.parametrize("verb", ["apply", "plan", "status"])
def test_a_link_in_the_state_folder_is_an_error_to_read(
    oomguard: Oomguard, tmp_path: Path, verb: str
) -> None:
    """And no traceback."""
    (tmp_path / "state").mkdir()
    for name in ("ledger", "status.json"):
        (tmp_path / "state" / name).symlink_to("/etc/passwd")
    run = oomguard(verb)
    assert run.code == 1
    assert "is a symbolic link" in run.err


@pytest.mark.parametrize("verb", ["plan", "apply", "restore", "status"])
def test_a_proc_that_is_not_there_is_an_error_to_read(oomguard: Oomguard, verb: str) -> None:
    """With the option that names it."""
    run = oomguard(verb, "--proc", "/nowhere")
    assert (run.code, run.err.splitlines()[0]) == (
        1,
        "oomguard: /nowhere is not a proc file system: No such file or directory",
    )


def test_a_restore_from_a_folder_without_a_ledger_is_an_error(oomguard: Oomguard, tmp_path: Path) -> None:
    """The path is wrong: it would seem that everything is restored. Nothing is left in that folder."""
    (tmp_path / "other").mkdir()
    for words in (("restore",), ("plan", "--restore")):
        run = oomguard(*words, "--state-dir", f"{tmp_path}/other")
        assert run.code == 1
        assert run.err.startswith(
            f"oomguard: {tmp_path}/other: this folder has no ledger\n  use the --state-dir"
        )
    assert list((tmp_path / "other").iterdir()) == []
    assert "this folder has no ledger" in oomguard("status", "--state-dir", f"{tmp_path}/other").out


@pytest.mark.parametrize("verb", ["plan", "apply", "restore", "status"])
def test_a_folder_that_is_no_proc_is_refused(oomguard: Oomguard, tmp_path: Path, verb: str) -> None:
    """In it, all processes would seem to have ended, and their original values would be dropped."""
    oomguard("apply")
    (tmp_path / "empty").mkdir()
    run = oomguard(verb, "--proc", f"{tmp_path}/empty")
    assert run.code == 1
    assert run.err.startswith(
        f"oomguard: {tmp_path}/empty is not a proc file system: it has no self\n  use --proc"
    )
    assert "3 restored" in oomguard("restore").out


# status


def write_status(state: Path, identity: Identity, **fields: Any) -> None:
    """Write the file of a daemon."""
    status = IDLE._replace(pid=identity.pid, start_time_ticks=identity.start_time_ticks)
    status = status._replace(written_monotonic=time.monotonic())._replace(**fields)
    state.mkdir(exist_ok=True)
    (state / "status.json").write_bytes(encode_status(status))


def test_what_the_daemon_pauses_to_correct_is_restored_at_once(
    oomguard: Oomguard, proc: FakeProc, tmp_path: Path
) -> None:
    """By a restore, which needs the daemon to be stopped; a plan shows what the daemon does."""
    oomguard("apply")
    proc.process(Process(Identity(20, 1), b"oomguard"))
    write_status(tmp_path / "state", Identity(20, 1), contended=(ContendedValue("vm.swappiness"),))
    assert oomguard("plan", "--restore", "--json").json[0]["obstacle"] is None
    proc.sysctl("vm.swappiness", 60)
    assert oomguard("plan", "--json").json[0]["obstacle"]["kind"] == "contended"


def test_the_daemon_and_its_child_are_matched_by_no_rule(
    oomguard: Oomguard, proc: FakeProc, tmp_path: Path
) -> None:
    """Whoever asks; a pid that a daemon had before, somebody else may have now."""
    write_status(tmp_path / "state", Identity(20, 1))
    for pid, parent in ((20, 1), (21, 20), (22, 21)):
        proc.process(Process(Identity(pid, 1), b"worker", parent_pid=parent))
    planned = {row["pid"] for row in oomguard("plan", "--json").json if row["target"] == "oom_score_adj"}
    assert planned & {20, 21, 22} == {22}
    for name in ("20", "21"):
        assert "oomguard itself: no rule matches it" in oomguard("explain", name).out
    assert "will be set to 300" in oomguard("explain", "22").out
    proc.process(Process(Identity(20, 2), b"worker"))
    planned = {row["pid"] for row in oomguard("plan", "--json").json if row["target"] == "oom_score_adj"}
    assert planned & {20, 21, 22} == {20, 21, 22}


def test_a_missing_default_policy_is_an_error_that_names_the_one_in_use(
    oomguard: Oomguard, proc: FakeProc, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the daemon of this state folder has it; none without a daemon."""
    monkeypatch.setattr("oomguard.diagnose.this_host.DEFAULT_PATH", f"{tmp_path}/none.yaml")
    asked = ("--policy", f"{tmp_path}/none.yaml")
    assert "or give another file" in oomguard("plan", *asked).err
    used = IDLE.policy._replace(path=str(policy), files=(f"{tmp_path}/policy.d/10-a.yaml",))
    write_status(tmp_path / "state", Identity(10, 1), policy=used)
    monkeypatch.setattr("oomguard.reconcile.state_folder.RUN_FOLDER", f"{tmp_path}/state")
    for verb in (("plan",), ("explain", "10"), ("check",), ("cat", "--proc", str(proc.root))):
        run = oomguard(*verb, *asked)
        assert run.code == 78
        assert f"the daemon uses {policy}: add --policy {policy}" in run.err + run.out


def test_plan_of_one_file_says_that_it_leaves_out_the_running_policy(
    oomguard: Oomguard, policy: Path, tmp_path: Path, stdin: Callable[[bytes], None]
) -> None:
    """If the daemon has the host's, and this file drops some of that; a drop-in would add to it."""
    oomguard("apply")
    policy.write_text("rules:\n  - name: crond\n    oom_score_adj: -900\n")
    write_status(tmp_path / "state", Identity(10, 1), policy=IDLE.policy._replace(path=str(policy)))
    assert "replace the running policy" not in oomguard("plan").out
    used = IDLE.policy._replace(path="/etc/oomguard.yaml")
    write_status(tmp_path / "state", Identity(10, 1), policy=used)
    assert f"{policy} would replace the running policy; to add it instead" in oomguard("plan").out
    stdin(policy.read_bytes())
    shown = oomguard("plan", "--policy", "-").out
    assert "\n<stdin> would replace the running policy; to add it instead" in shown


def test_status_without_a_daemon_says_so_and_shows_the_host(oomguard: Oomguard, proc: FakeProc) -> None:
    """What the policy declares beside what is, and what is promised."""
    proc.meminfo(CommitLimit=8 * 1024 * 1024)
    run = oomguard("status")
    assert run.code == 0
    assert "oomguard is not running\n  values it set may still be in force: " in run.out
    assert "state: there is no such state folder\n  use the --state-dir" in run.out
    assert "differs" in run.out
    assert "Promised 2.0 GiB of 8.0 GiB (25 %), not enforced: overcommit_memory is 0" in " ".join(
        run.out.split()
    )
    document = oomguard("status", "--json").json
    assert (document["running"], document["daemon"]) == (False, None)
    assert [(row["name"], row["wanted"], row["actual"]) for row in document["sysctls"]] == [
        ("vm.swappiness", 10, 60)
    ]
    assert document["memory"]["commit_limit_kib"] == 8 * 1024 * 1024


def test_status_without_a_daemon_says_why_there_is_no_policy(oomguard: Oomguard, tmp_path: Path) -> None:
    """Without one, nothing would be shown as differing."""
    run = oomguard("status", "--policy", f"{tmp_path}/none.yaml")
    assert f"no usable policy:\n    {tmp_path}/none.yaml: no such file\n" in run.out
    (tmp_path / "bad.yaml").write_text("vm: {swappines: 1}\nrules: 1\n")
    bad = ["--policy", f"{tmp_path}/bad.yaml"]
    assert {f"{tmp_path}/bad.yaml:{line}" in oomguard("status", *bad).out for line in (1, 2)} == {True}
    assert "bad.yaml:1:6: vm.swappines" in oomguard("status", *bad, "--json").json["policy_error"]


def test_status_after_a_crash_shows_the_policy_that_was_asked_for(oomguard: Oomguard, tmp_path: Path) -> None:
    """As `plan` does, and not what the daemon had wanted."""
    (tmp_path / "new.yaml").write_text("vm: {swappiness: 33}\n")
    left = SysctlStatus("vm.swappiness", 77, 77, "old.yaml:1")
    write_status(tmp_path / "state", Identity(999, 1), sysctls=(left,))
    document = oomguard("status", "--policy", f"{tmp_path}/new.yaml", "--json").json
    assert not document["running"]
    assert [(row["name"], row["wanted"]) for row in document["sysctls"]] == [("vm.swappiness", 33)]


def test_status_does_not_claim_to_know_a_mode_that_it_cannot_read(
    oomguard: Oomguard, proc: FakeProc, tmp_path: Path
) -> None:
    """As where /proc/sys is hidden."""
    proc.meminfo(CommitLimit=8 * 1024 * 1024)
    (tmp_path / "proc/sys/vm/overcommit_memory").unlink()
    shown = oomguard("status").out
    assert "Promised 2.0 GiB of 8.0 GiB (25 %)\n" in re.sub(" +", " ", shown)


def test_status_shows_the_peak_that_lasted(oomguard: Oomguard, proc: FakeProc, tmp_path: Path) -> None:
    """Also where no daemon runs: the interlock goes by it."""
    proc.meminfo()
    assert oomguard("status", "--json").json["peak"] is None
    assert "Peak" not in oomguard("status").out
    state = str(tmp_path / "state")
    peaks = PeakFile(state)
    peaks.note(9 * 1024 * 1024, 0.0)
    peaks.note(9 * 1024 * 1024, LASTING_SECONDS)
    peak = oomguard("status", "--json").json["peak"]
    assert (peak["committed_kib"], peak["file"]) == (9 * 1024 * 1024, peaks.path)
    assert f"\nPeak      9.0 GiB on {peak['day']} " in oomguard("status").out


def test_status_complains_once_about_peaks_that_cannot_be_read(oomguard: Oomguard, tmp_path: Path) -> None:
    """It looks at them for the host, and for the values that a restore would change."""
    oomguard("apply")
    (tmp_path / "state" / "committed.json").write_text("x")
    assert oomguard("status").err.count("committed.json is ignored") == 1


def test_status_of_a_daemon_shows_what_it_wrote(oomguard: Oomguard, tmp_path: Path) -> None:
    """Process 10 stands for it."""
    bad = IDLE.policy._replace(errors=("line 3 is bad",))
    write_status(tmp_path / "state", Identity(10, 1), policy=bad, limits=("no events here",))
    run = oomguard("status")
    assert "oomguard 9.9 is running (pid 10)" in run.out
    assert "line 3 is bad" in run.out
    assert "no events here" in run.out
    document = oomguard("status", "--json").json
    assert document["running"]
    assert document["daemon"]["pid"] == 10


def test_explain_sees_executables_as_the_daemon_does(
    oomguard: Oomguard, policy: Path, proc: FakeProc, tmp_path: Path
) -> None:
    """Else it would promise what the daemon never does: process 10, which has no CAP_SYS_PTRACE."""
    policy.write_text("rules: [{exe: /usr/bin/x, oom_score_adj: 300}]\n")
    proc.process(Process(Identity(30, 1), b"x", uid=12345, exe="/usr/bin/x"))
    assert "will be set to 300" in oomguard("explain", "30").out
    write_status(tmp_path / "state", Identity(10, 1))
    run = oomguard("explain", "30")
    assert "exe is unreadable without CAP_SYS_PTRACE" in run.out
    assert run.err == ""


def test_who_sees_fewer_executables_than_the_daemon_is_told_so(
    oomguard: Oomguard, policy: Path, proc: FakeProc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a rule asks for them."""
    monkeypatch.setattr(this_host, "see_as", lambda _procfs, _pid: False)
    proc.process(Process(Identity(30, 1), b"x"))
    write_status(tmp_path / "state", Identity(10, 1))
    assert oomguard("explain", "30").err == ""
    policy.write_text("rules: [{exe: /usr/bin/x, oom_score_adj: 300}]\n")
    assert oomguard("explain", "30").err == (
        "oomguard: the daemon can read what other users' processes run, this user cannot, so rules with exe "
        "match too few here\n  run this as root\n"
    )


def test_status_names_an_empty_policy_and_one_that_it_ignores(
    oomguard: Oomguard, proc: FakeProc, tmp_path: Path
) -> None:
    """It shows the daemon's; what it tells to run has the daemon's policy and folder."""
    other = tmp_path / "other.yaml"
    policy = IDLE.policy._replace(path=str(other), files=(str(other),))
    write_status(tmp_path / "state", Identity(10, 1), policy=policy)
    empty = f"the policy is empty and changes nothing: {other}\n"
    assert empty in oomguard("status", "--policy", str(other)).out
    write_status(tmp_path / "state", Identity(10, 1), policy=policy._replace(rules=1))
    run = oomguard("status", "--policy", str(other))
    assert empty not in run.out
    assert run.err == ""
    assert f"see oomguard plan --policy {other} --state-dir {tmp_path}/state --proc {proc.root}\n" in run.out
    mine = tmp_path / "mine.yaml"
    ignored = f"oomguard: --policy {mine} is ignored: the daemon uses {other}\n"
    assert oomguard("status", "--policy", str(mine)).err.startswith(ignored)


def test_status_counts_what_rules_match_that_the_status_file_does_not_list(
    oomguard: Oomguard, tmp_path: Path
) -> None:
    """It has 1,000 at most: that the others match nothing would be wrong."""
    policy, rules = IDLE.policy._replace(rules=1002), (RuleStatus(0, "name=a", "/a.yaml:1", "300", 5),)
    for held, said in ((7, "the other 1001 rules match 2 processes"), (5, "1001 rules match nothing")):
        write_status(tmp_path / "state", Identity(10, 1), policy=policy, rules=rules, processes_held=held)
        assert f"\n{said}; see oomguard plan" in oomguard("status").out


def test_hints_name_the_policy_that_was_asked_for_if_only_its_drop_ins_count(
    oomguard: Oomguard,
    proc: FakeProc,
    policy: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own file is for other hosts, but without it the daemon would read other drop-ins, or none."""
    monkeypatch.setenv("COLUMNS", "999")  # or a long temporary path is broken
    policy.write_text(f"when: {{hostname: elsewhere}}\n{POLICY}")
    drop_in = tmp_path / "policy.d" / "10.yaml"
    drop_in.parent.mkdir()
    drop_in.write_text("rules: [{name: crond, cmdline: nothing-of-it, oom_score_adj: 3}]\n")
    state, root = tmp_path / "state", proc.root
    options = f"--policy {policy} --state-dir {state} --proc {root}"
    assert f"see oomguard explain crond {options}" in " ".join(oomguard("plan").out.split())
    used = IDLE.policy._replace(path=str(policy), files=(str(drop_in),), rules=1)
    write_status(state, Identity(10, 1), policy=used)
    run = oomguard("status")
    assert (run.err, f"see oomguard plan {options}\n" in run.out) == ("", True)
    assert overview.run("/etc/oomguard.yaml", str(state), str(root)) == 0
    assert capsys.readouterr().out.endswith(f"For the policy of the daemon, add --policy {policy}\n")


def test_a_file_as_the_state_folder_is_one_error(oomguard: Oomguard, tmp_path: Path) -> None:
    """Not also one about a file below it."""
    file = tmp_path / "file"
    file.touch()
    for verb in ("plan", "apply", "restore", "status"):
        run = oomguard(verb, "--state-dir", str(file))
        assert run.code == 1
        assert run.err.startswith(f"oomguard: {file}: cannot use it as the state folder: Not a directory\n")
        assert run.err.count("Not a directory") == 1


def test_status_after_apply_says_what_is_still_in_force(oomguard: Oomguard) -> None:
    """And how to undo it; nothing of it once it is restored."""
    oomguard("apply")
    shown = oomguard("status").out
    assert "oomguard is not running; 3 values it set are still in force\n  restore: oomguard restore" in shown
    assert "restore --state-dir " in shown  # else the command would restore nothing
    oomguard("restore")
    assert "in force" not in oomguard("status").out


def test_status_tells_monitoring_by_its_exit_code(oomguard: Oomguard, tmp_path: Path) -> None:
    """0 only while a daemon runs with the policy on disk, and everything is as wanted."""
    assert oomguard("status", "--exit-code").code == 1
    write_status(tmp_path / "state", Identity(10, 1))
    assert oomguard("status", "--exit-code").code == 0
    (tmp_path / "state" / "status.json").unlink()
    (tmp_path / "state").rmdir()
    write_status(
        tmp_path / "state", Identity(10, 1), policy=IDLE.policy._replace(errors=("a:1: no", "b:2: no"))
    )
    run = oomguard("status", "--exit-code")
    assert run.code == 1
    assert "in force:\n  a:1: no\n  b:2: no\n" in run.out


@pytest.mark.parametrize("content", ["", '{"format": 1}'], ids=["not-yet", "another-version"])
def test_a_daemon_without_a_status_runs_all_the_same(
    oomguard: Oomguard, proc: FakeProc, policy: Path, tmp_path: Path, content: str
) -> None:
    """It just started, the disk is full, or it is of another version: its lock shows it, and its pid."""
    oomguard("apply")
    info = (tmp_path / "state" / "lock").stat()
    file = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}:{info.st_ino}"
    other = file.replace(str(info.st_ino), str(info.st_ino + 1))
    (proc.root / "locks").write_text(
        f"1: POSIX  ADVISORY  WRITE 7 {file} 0 EOF\n"
        f"2: FLOCK  ADVISORY  WRITE 8 {other} 0 EOF\n"
        f"3: FLOCK  ADVISORY  WRITE 10 {file} 0 EOF\n"
        f"3: -> FLOCK  ADVISORY  WRITE 9 {file} 0 EOF\n"
    )
    if content:
        (tmp_path / "state" / "status.json").write_text(content)
    run = oomguard("status")
    why = "its status file cannot be read" if content else "it has not written its status file"
    assert run.out.startswith(f"oomguard is running (pid 10), but {why}\n")
    assert "restore" not in run.out
    assert ("restart the daemon" in run.err) == bool(content)
    assert oomguard("status", "--json").json["lock_holder"] == 10
    assert oomguard("status", "--exit-code").code == 1
    shown = observe_overview(str(policy), ThisHost(f"{tmp_path}/state", str(proc.root)))
    assert shown.headline == f"oomguard  running as pid 10, without a status file  {policy}"
    (proc.root / "locks").write_text("")
    assert "oomguard is not running; 3 values" in oomguard("status").out


def test_a_line_of_status_is_one_line(oomguard: Oomguard, tmp_path: Path) -> None:
    """However long, so that it can be searched for; a terminal breaks it by itself."""
    limits = ("a limit that is " + "very " * 40 + "long",)
    write_status(tmp_path / "state", Identity(10, 1), limits=limits)
    assert f"limited: {limits[0]}\n" in oomguard("status").out


def test_the_status_of_a_daemon_that_was_killed_is_none(oomguard: Oomguard, tmp_path: Path) -> None:
    """Its pid may be somebody else's by now."""
    write_status(tmp_path / "state", Identity(10, 2))
    assert "oomguard is not running" in oomguard("status").out
    assert not oomguard("status", "--json").json["running"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"format": 1}', "null", "[" * 99999])
def test_a_status_that_cannot_be_read_is_an_error(oomguard: Oomguard, tmp_path: Path, content: str) -> None:
    """With a way out; what the kernel says is shown all the same."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "status.json").write_text(content)
    run = oomguard("status")
    assert run.code == 1
    assert "vm.swappiness" in run.out
    assert "Promised" in run.out
    assert "not a status file of this version" in run.err
    assert "restart the daemon" in run.err


def test_a_status_cut_anywhere_is_an_error(oomguard: Oomguard, tmp_path: Path) -> None:
    """None of its parts is taken for the whole."""
    write_status(tmp_path / "state", Identity(10, 1))
    file = tmp_path / "state" / "status.json"
    whole = file.read_bytes()
    assert oomguard("status", "--json").code == 0
    for length in range(0, len(whole) - 2, 97):
        file.write_bytes(whole[:length])
        run = oomguard("status", "--json")
        assert (run.code, run.json["running"]) == (1, False)
        assert "no valid JSON" in run.err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pid", "7"),
        ("limits", "none"),
        ("sysctls", [{"name": "vm.nonsense", "wanted": 1, "source": "x"}]),
        ("rules", [{}]),
        ("policy", None),
        ("recent", {}),
    ],
)
def test_a_status_of_another_shape_is_an_error(
    oomguard: Oomguard, tmp_path: Path, key: str, value: object
) -> None:
    """It says where."""
    write_status(tmp_path / "state", Identity(10, 1))
    file = tmp_path / "state" / "status.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {key: value}))
    run = oomguard("status")
    assert run.code == 1
    assert f"({key}" in run.err


def test_what_is_in_a_status_reaches_the_terminal_escaped(
    oomguard: Oomguard, proc: FakeProc, tmp_path: Path
) -> None:
    """Whoever wrote the file."""
    proc.process(Process(Identity(10, 1), b"python3"))
    write_status(tmp_path / "state", Identity(10, 1))
    file = tmp_path / "state" / "status.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"limits": ["\x1b[2J"]}))
    run = oomguard("status")
    assert run.code == 0
    assert "limited: \\x1b[2J" in run.out
    assert "\x1b" not in run.out + run.err


def test_status_shows_a_policy_that_cannot_be_read_as_none(oomguard: Oomguard, policy: Path) -> None:
    """It is the host that is asked about."""
    policy.write_text("rulez: 1\n")
    assert oomguard("status").code == 0


# explain


def test_explain_shows_processes_that_are_alike_once(oomguard: Oomguard, proc: FakeProc) -> None:
    """With the pids of all, up to a few; one that has another value stands for itself."""
    for pid in range(20, 40):
        proc.process(Process(Identity(pid, 1), b"worker", uid=1000))
    proc.set_oom_score_adj(25, 300)
    run = oomguard("explain", "worker")
    assert run.out.count("name=crond") == 2
    assert "worker[13, 20, 21, 22, 23, 24, 26, 27, and 12 more]" in run.out
    assert "worker[25]" in run.out
    assert len(oomguard("explain", "worker", "--json").json) == 21


def test_explain_shows_the_name_of_a_user_if_there_is_one(oomguard: Oomguard, proc: FakeProc) -> None:
    """With the uid, which refusals name."""
    for pid, uid in ((40, 0), (41, 4_000_000)):
        proc.process(Process(Identity(pid, 1), b"job", uid=uid))
    run = oomguard("explain", "job")
    assert "job[40]  root (uid 0), oom_score_adj 0\n" in run.out
    assert "job[41]  uid 4000000, oom_score_adj 0\n" in run.out
    assert [row["user"] for row in oomguard("explain", "job", "--json").json] == ["root", None]


@pytest.mark.parametrize("call", [("plan",), ("explain", "bash"), ("check", "--host")])
def test_a_process_that_ends_before_it_is_read_is_none(
    oomguard: Oomguard, proc: FakeProc, call: tuple[str, ...]
) -> None:
    """Its folder was open, and is empty since."""
    before = oomguard(*call)
    (proc.root / "14").mkdir()
    after = oomguard(*call)
    assert (after.code, after.out, after.err) == (before.code, before.out, before.err)


@pytest.mark.parametrize(
    ("call", "code"), [(("plan",), 3), (("explain", "bash"), 0), (("check", "--host"), 0)]
)
def test_processes_that_proc_hides_are_said_to_be_missing(
    oomguard: Oomguard, proc: FakeProc, policy: Path, call: tuple[str, ...], code: int
) -> None:
    """A user's view is not the host's: a plan that sees nothing is not one of nothing."""
    policy.write_text("rules: [{name: hidden, oom_score_adj: 5}]\n")
    assert "hidepid=" not in oomguard(*call).err
    (proc.root / "self").mkdir(exist_ok=True)
    (proc.root / "self" / "mountinfo").write_text("22 1 0:21 / /proc rw - proc proc rw,hidepid=2\n")
    run = oomguard(*call)
    assert run.code == code
    assert run.err.startswith("oomguard: hidepid= hides other users' processes from this user")


def test_explain_of_a_pid_that_is_not_there_speaks_of_pids(oomguard: Oomguard) -> None:
    """And of names where a name was asked for."""
    run = oomguard("explain", "999999")
    assert (run.code, "no process has the pid 999999" in run.err, "names" in run.err) == (1, True, False)
    assert "names are compared in full" in oomguard("explain", "nobody-here").err
    run = oomguard("explain", "gone[999999]")
    assert (run.code, "no process has the pid 999999: gone[999999] has ended" in run.err) == (1, True)
    assert "no process is called gone[999999" in oomguard("explain", "gone[999999").err
    run = oomguard("explain", "9" * 5000)  # Python converts no such number
    assert (run.code, "no process has the pid 999" in run.err) == (1, True)


def test_check_needs_no_proc(oomguard: Oomguard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the policy is missing, of which /proc shows whether a daemon uses another one."""
    monkeypatch.setattr(this_host, "DEFAULT_PATH", str(tmp_path / "none.yaml"))
    run = oomguard("check", "--policy", str(tmp_path / "none.yaml"), "--proc", str(tmp_path))
    assert (run.code, run.err) == (78, "")
    assert "none.yaml: no such file" in run.out


def test_explain_of_a_thread_names_its_process(oomguard: Oomguard, proc: FakeProc) -> None:
    """As `top -H` shows ids of threads."""
    (proc.root / "11/task/61").mkdir(parents=True)
    run = oomguard("explain", "61")
    assert run.code == 1
    assert run.err == "oomguard: no process has the pid 61\n  it is a thread of the process 11\n"


def test_explain_takes_a_process_as_the_journal_names_it(oomguard: Oomguard) -> None:
    """That one, and not others of its name."""
    run = oomguard("explain", "crond[11]", "--json")
    assert [one["pid"] for one in json.loads(run.out)] == [11]
    assert run.err == ""
    run = oomguard("explain", "renamed-since[11]", "--json")
    assert [one["pid"] for one in json.loads(run.out)] == [11]
    assert run.err == "oomguard: pid 11 is called crond now, not renamed-since\n"


def test_explain_takes_a_name_as_it_is_printed(oomguard: Oomguard, proc: FakeProc) -> None:
    """Whoever copies it from a table has no newline."""
    proc.process(Process(Identity(42, 1), b"a\nb"))
    for name in ("a\nb", r"a\nb"):
        assert [one["pid"] for one in oomguard("explain", name, "--json").json] == [42]


def test_explain_names_every_missing_process_and_the_nearest_name(oomguard: Oomguard) -> None:
    """The others are explained."""
    run = oomguard("explain", "cronb", "999999", "crond", "tmux: server[999998]")
    assert (run.code, "→ " in run.out) == (1, True)
    assert "others of its name: oomguard explain 'tmux: server'" in run.err
    assert "no process is called cronb; did you mean crond?" in run.err
    assert "no process has the pid 999999" in run.err
    for other in ("CROND", "/usr/sbin/crond"):
        assert "; did you mean crond?" in oomguard("explain", other).err


def test_explain_offers_no_rule_for_who_is_left_out_on_purpose(
    oomguard: Oomguard, proc: FakeProc, policy: Path
) -> None:
    """One with `scope: main`, of which this is a child."""
    policy.write_text("rules: [{name: db, scope: main, oom_score_adj: -300}]\n")
    for pid in (70, 71):
        proc.process(Process(Identity(pid, pid), b"db", parent_pid=70 if pid == 71 else 1))
    assert "will be set to -300" in oomguard("explain", "70").out
    run = oomguard("explain", "71")
    assert "an ancestor (parent 70) matches as well" in run.out
    assert "to match it" not in run.out


def test_plan_names_a_process_that_matches_only_the_name_of_a_rule(oomguard: Oomguard, policy: Path) -> None:
    """The name is right, so another condition is to blame."""
    policy.write_text("rules:\n  - name: crond\n    cmdline: nothing-of-it\n    oom_score_adj: 3\n")
    shown = " ".join(oomguard("plan").out.split())
    label = "name=crond cmdline=nothing-of-it (policy.yaml:2)"
    assert f"{label}: crond (2) runs, but not all conditions match; see oomguard explain crond" in shown
    assert "misspelled" not in shown


@pytest.mark.parametrize("verb", [("plan",), ("check", "--host")], ids=" ".join)
def test_a_hint_has_the_policy_and_the_folder_that_were_asked_for(
    oomguard: Oomguard,
    proc: FakeProc,
    policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: tuple[str, ...],
) -> None:
    """Without them, the other verb would answer for other ones."""
    monkeypatch.setenv("COLUMNS", "999")  # or a long temporary path is broken
    policy.write_text(
        "rules:\n  - {name: crond, cmdline: nothing-of-it, oom_score_adj: 3}\n"
        "  - {name: worker, user: 1000, oom_score_adj: -500}\n"
    )
    proc.hold(13, rss_pages=1000)
    options = f"--policy {policy} --state-dir {tmp_path}/state --proc {proc.root}"
    shown = " ".join(oomguard(*verb).out.split())
    assert f"see oomguard explain crond {options}" in shown
    assert verb == ("plan",) or f"`oomguard rank {options}` shows the kill order" in shown


def test_explain_breaks_no_word_of_a_rule(
    oomguard: Oomguard, proc: FakeProc, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the facts beside it are."""
    monkeypatch.setenv("COLUMNS", "80")
    name = b"chromium-browser-with-long-name"
    proc.process(Process(Identity(70, 1), name[:15], arguments=(b"./" + name, b"7200")))
    policy.write_text(f"rules:\n  - {{name: {name.decode()}, cmdline: --type=renderer, oom_score_adj: 3}}\n")
    assert f"  name={name.decode()} " in oomguard("explain", "70").out


def test_a_name_that_the_kernel_cuts_is_not_misspelled(
    oomguard: Oomguard, proc: FakeProc, policy: Path
) -> None:
    """It keeps 15 bytes of a rule's longer name."""
    proc.process(Process(Identity(70, 1), b"chromium-browse"))
    policy.write_text("rules:\n  - {name: chromium-browser, cmdline: renderer, oom_score_adj: 3}\n")
    shown = " ".join(oomguard("plan").out.split())
    assert "chromium-browse (1) runs, but not all conditions match" in shown
    assert "misspelled" not in shown


def test_a_refused_rule_matches_nothing(oomguard: Oomguard, proc: FakeProc, policy: Path) -> None:
    """In `plan` and `check` as in `explain`; `status` is held by test_one_answer.py."""
    proc.process(Process(Identity(70, 1), b"db", uid=1000))
    policy.write_text("rules:\n  - {name: db, oom_score_adj: -900}\n  - {name: crond, oom_score_adj: 3}\n")
    for shown in (oomguard("plan").out, oomguard("check", "--host").out):
        assert "Processes matched: 2 by name=crond." in shown
        assert "Rules that match nothing:\n  name=db (policy.yaml:2), refused\n" in shown
        assert "see oomguard explain db" not in shown


def test_a_rule_after_one_that_matches_the_same_says_so(oomguard: Oomguard, policy: Path) -> None:
    """The process runs, so "matches nothing" alone would contradict `explain`."""
    policy.write_text("rules:\n  - {name: crond, oom_score_adj: 3}\n  - {name: crond, oom_score_adj: 4}\n")
    shown = oomguard("plan").out
    assert "  name=crond (policy.yaml:3): name=crond (policy.yaml:2) matches first\n" in shown


@pytest.mark.parametrize(
    ("first", "second"), [("[crond, x]", "crond"), ("cro*", "crond"), ("crond", "'cron?'")]
)
def test_a_rule_whose_processes_an_earlier_one_matches_is_not_misspelled(
    oomguard: Oomguard, proc: FakeProc, policy: Path, first: str, second: str
) -> None:
    """Whatever names the two have."""
    proc.process(Process(Identity(70, 1), b"cronda"))
    names = f"  - {{name: {first}, oom_score_adj: 3}}\n  - {{name: {second}, oom_score_adj: 4}}\n"
    policy.write_text(f"rules:\n  - {{name: cronda, oom_score_adj: 3}}\n{names}")
    for shown in (oomguard("plan").out, oomguard("check", "--host").out):
        (line,) = [line for line in shown.splitlines() if line.startswith("  name=") and ":4)" in line]
        assert line.endswith("(policy.yaml:3) matches first")


def test_only_a_rule_that_would_match_is_said_to_be_late(oomguard: Oomguard, policy: Path) -> None:
    """Not one with the same name for another user."""
    policy.write_text(
        "rules:\n  - {name: crond, oom_score_adj: 3}\n  - {name: crond, user: 5, oom_score_adj: 4}\n"
    )
    shown = oomguard("plan").out
    assert "matches first" not in shown
    assert "crond (2) runs, but not all conditions match" in " ".join(shown.split())


def test_no_name_of_another_rule_counts_as_misspelled(oomguard: Oomguard, policy: Path) -> None:
    """It was written as it was meant there."""
    rules = ("{name: crond, cmdline: nothing-of-it, oom_score_adj: 3}", "{name: cronx, oom_score_adj: 3}")
    policy.write_text("".join(["rules:\n", *(f"  - {rule}\n" for rule in rules)]))
    shown = oomguard("plan").out
    assert "Rules that match nothing" in shown
    assert "misspelled" not in shown


CONDITIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "name": ("name: other", {}, "probe"),
    "containers": (
        "name: probe",
        {"in_container": True, "parent_pid": 21, "cgroup": "/c"},
        "in a container",
    ),
    "user": ("user: 5", {"uid": 6}, "uid 6"),
    "unit": ("unit: a.service", {"cgroup": "/system.slice/b.service"}, "b.service"),
    "user_unit": ("user_unit: a.service", {"cgroup": "/x"}, "none (/x)"),
    "cgroup": ("cgroup: /a", {"cgroup": "/b"}, "/b"),
    "cmdline": ("cmdline: --yes", {"arguments": (b"probe", b"--no")}, "probe --no"),
    "exe": ("exe: /usr/bin/a", {"exe": "/usr/bin/b"}, "/usr/bin/b"),
    "scope": ("name: probe\n    scope: main", {"parent_pid": 21}, "an ancestor (parent 21)"),
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_explain_names_the_condition_that_failed_and_on_what(
    oomguard: Oomguard, proc: FakeProc, policy: Path, condition: str
) -> None:
    """Each condition there is, by pid and by name, for people and for programs."""
    text, facts, found = CONDITIONS[condition]
    proc.process(Process(Identity(21, 1), b"probe", uid=1))
    proc.process(Process(Identity(20, 1), b"probe")._replace(**facts))
    policy.write_text(f"rules:\n  - {text}\n    oom_score_adj: 5\n")
    tried = oomguard("explain", "20", "--json").json[0]["tried"]
    assert [(row["matched"], row["unmet"]) for row in tried] == [(False, condition)]
    assert found in tried[0]["found"]
    run = oomguard("explain", "20")
    assert run.code == 0
    verb = ":" if condition in ("containers", "scope") else " is"
    assert f"no {condition}{verb} {found}"[:20] in " ".join(run.out.split())
    assert "→ stays 0: no rule matches it" in run.out
    assert {row["pid"] for row in oomguard("explain", "probe", "--json").json} == {20, 21}


@pytest.mark.parametrize("condition", ["unit", "user_unit", "cgroup", "exe", "cmdline"])
def test_explain_escapes_what_a_process_chose(
    oomguard: Oomguard, proc: FakeProc, policy: Path, condition: str
) -> None:
    """Users name cgroups below their own with any byte but a newline and a slash."""
    hostile = "\x1b]0;owned\x07\u202e\x9b"
    cgroup = f"/user.slice/user-1.slice/user@1.service/{hostile}.scope"
    proc.process(
        Process(Identity(20, 1), b"probe", arguments=(hostile.encode(),), exe=f"/{hostile}", cgroup=cgroup)
    )
    value = {"exe": "/x", "cgroup": "/x", "unit": "x.service", "user_unit": "x.service", "cmdline": "xyz"}
    policy.write_text(f"rules:\n  - {condition}: {value[condition]}\n    oom_score_adj: 5\n")
    run = oomguard("explain", "20")
    assert run.code == 0
    assert run.out.replace("\n", "").isprintable()
    document = oomguard("explain", "20", "--json").json[0]
    assert document["cgroup"].isprintable()
    assert document["tried"][0]["found"].isprintable()


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ("name: crond\n    oom_score_adj: 5", "will be set to 5"),
        ("name: crond\n    oom_score_adj: 0", "stays 0: that satisfies name=crond"),
        ("name: crond\n    oom_score_adj: keep", "stays 0: name=crond leaves it alone"),
        ("name: crond\n    oom_score_adj: {at_most: 7}", "stays 0: that satisfies name=crond"),
        (
            "cmdline: .*\n    oom_score_adj: -5",
            "stays 0; the rule wants -5, refused: uid 1000 could give any program this name",
        ),
    ],
)
def test_explain_says_what_follows(oomguard: Oomguard, policy: Path, rule: str, verdict: str) -> None:
    """From the rule that holds the process."""
    policy.write_text(f"rules:\n  - {rule}\n")
    assert verdict in oomguard("explain", "11", "--json").json[0]["verdict"]


@pytest.mark.parametrize(
    ("comm", "rule"),
    [
        (b"file:// Content", '- {name: "file:// Content", user: 1000, oom_score_adj: 300}'),
        (b"a b\x1b[2J*", '- {name: "a b\\x1b[[]2J[*]", user: 1000, oom_score_adj: 300}'),
    ],
)
def test_explain_prints_a_rule_for_what_no_rule_matches(
    oomguard: Oomguard, proc: FakeProc, policy: Path, comm: bytes, rule: str
) -> None:
    """On a line of its own, to paste: with it in the policy, the process is matched without a warning."""
    proc.process(Process(Identity(40, 1), comm, uid=1000))
    assert f"\n  {rule}\n" in oomguard("explain", "40").out
    policy.write_text(f"rules:\n  {rule}\n")
    assert oomguard("check", "--strict").code == 0
    assert "will be set to 300" in oomguard("explain", "40").out
    assert rule not in oomguard("explain", "40").out


def test_explain_prints_a_rule_for_what_is_refused(oomguard: Oomguard, policy: Path) -> None:
    """It names the user, and so protects what the name alone may not."""
    rule = "- {name: crond, user: 1000, oom_score_adj: -900}"
    assert f"\n  {rule}\n" in oomguard("explain", "11").out
    policy.write_text(POLICY.replace("rules:\n", f"rules:\n  {rule}\n"))
    assert "refused" not in oomguard("explain", "11").out


def test_explain_repeats_the_bound_of_a_rule_that_is_refused(oomguard: Oomguard, policy: Path) -> None:
    """Not the value that it comes to now."""
    policy.write_text("rules:\n  - {name: crond, oom_score_adj: {at_most: -5}}\n")
    assert "\n  - {name: crond, user: 1000, oom_score_adj: {at_most: -5}}\n" in oomguard("explain", "11").out


def test_explain_has_no_rule_for_a_process_without_a_name(oomguard: Oomguard, proc: FakeProc) -> None:
    """A policy cannot name it."""
    proc.process(Process(Identity(41, 1), b"", uid=1000))
    run = oomguard("explain", "41")
    assert run.code == 0
    assert "add this" not in run.out


def test_explain_stops_at_the_rule_that_holds(oomguard: Oomguard) -> None:
    """Those behind it were not tried."""
    tried = oomguard("explain", "10", "--json").json[0]["tried"]
    assert [row["matched"] for row in tried] == [True]
    tried = oomguard("explain", "13", "--json").json[0]["tried"]
    assert [row["matched"] for row in tried] == [False, True]


def test_explain_knows_what_is_never_matched(oomguard: Oomguard, proc: FakeProc) -> None:
    """Kernel threads, zombies and init."""
    proc.process(Process(Identity(1, 1), b"systemd", parent_pid=0))
    proc.process(Process(Identity(3, 1), b"defunct"), state="Z")
    proc.process(Process(Identity(2, 1), b"kthreadd", parent_pid=0), kernel_thread=True)
    assert "the init process: the kernel never kills it" in oomguard("explain", "1").out
    assert "a kernel thread: the kernel never kills it" in oomguard("explain", "kthreadd").out
    assert "a zombie" in oomguard("explain", "defunct").out


def test_explain_finds_a_process_by_its_full_name(oomguard: Oomguard, proc: FakeProc) -> None:
    """And by the 15 bytes that the kernel keeps of it."""
    name = b"chromium-browser-sandbox"
    proc.process(Process(Identity(40, 1), name, arguments=(b"/usr/lib/" + name,)))
    for wanted in (name, name[:15]):
        assert [row["pid"] for row in oomguard("explain", wanted.decode(), "--json").json] == [40]


@pytest.mark.parametrize("wanted", ["nothing-is-called-so", "4194305", "99999999999999999999999", "²"])
def test_explain_of_what_is_not_there_is_exit_1(oomguard: Oomguard, wanted: str) -> None:
    """With a way out."""
    run = oomguard("explain", wanted)
    assert run.code == 1
    assert "no process" in run.err


def test_explain_cuts_rules_that_merely_name_others(oomguard: Oomguard, policy: Path) -> None:
    """A policy may have thousands."""
    rows = [f"  - {{name: other-{number}, oom_score_adj: 1}}\n" for number in range(200)]
    policy.write_text("rules:\n" + "".join(rows) + "  - {name: bash, user: 5, oom_score_adj: 1}\n")
    run = oomguard("explain", "12")
    assert len(run.out.splitlines()) < 15
    assert "200 rules for other names, not shown" in run.out
    assert "user is uid 1000" in run.out


# without a verb


def test_without_a_verb_it_shows_the_host_at_one_look(
    proc: FakeProc, policy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who would go first, who is protected, what is wrong, and what to type next; the daemon need not run."""
    monkeypatch.setattr("oomguard.diagnose.this_host.Procfs", FakeKernel)
    monkeypatch.setenv("COLUMNS", "200")  # the path of a test's folder is long
    proc.meminfo(CommitLimit=8 * 1024 * 1024, MemAvailable=4 * 1024 * 1024)
    for pid, pages in ((10, 100), (12, 1024), (13, 50)):
        proc.hold(pid, rss_pages=pages)
    proc.set_oom_score_adj(10, -900)
    state = policy.parent / "state"
    assert overview.run(str(policy), str(state), str(proc.root)) == 0
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert shown[0] == f"oomguard {__version__} not running {policy}"
    assert "Memory 4.0 GiB of 16.0 GiB available" in shown
    assert "Promised 2.0 GiB of 8.0 GiB (25 %), not enforced: overcommit_memory is 0" in shown
    assert "First to go bash[12] 4.0 MiB oom_score_adj 0" in shown
    assert "Protected crond: 400 KiB in 1 process" in shown
    assert any(line.startswith("oomguard plan what would change") for line in shown)
    assert overview.run(f"{policy}-missing", str(state), str(proc.root)) == 0
    assert "oomguard advise suggest a policy oomguard explain NAME why" in " ".join(
        capsys.readouterr().out.split()
    )
    policy.write_text("rules: 1\n")
    mine = IDLE.policy._replace(path=str(policy))
    write_status(state, Identity(10, 1), policy=mine, limits=("no events here",))
    assert overview.run(str(policy), str(state), str(proc.root)) == 0
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert shown[0].startswith("oomguard 9.9 running for")
    assert any(line.startswith(f"Problem {policy}:1") for line in shown), shown
    assert "Problem limited: no events here" in shown
    assert "First to go bash[12] 4.0 MiB oom_score_adj 0" in shown
    assert shown[-1] == f"For the policy of the daemon, add --policy {policy}"


def test_the_host_at_one_look_says_once_what_is_wrong_with_a_policy(
    proc: FakeProc, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line for each error with its fix, in the daemon's words if it knows them, and the verb for more."""
    policy.write_text("vm:\n  swappiness: 999\nrules: 1\n")
    state = policy.parent / "state"
    faults = (f"{policy}:2:15: must be an integer from 0 to 200 (write one)", f"{policy}:3:8: must be a list")
    for is_known in (False, True):
        if is_known:
            mine = IDLE.policy._replace(path=str(policy), errors=faults)
            write_status(state, Identity(10, 1), policy=mine)
        assert overview.run(str(policy), str(state), str(proc.root)) == 0
        shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
        text = " ".join(shown)
        assert text.count("policy.yaml:2:15") == text.count("policy.yaml:3:8") == 1, text
        assert sum(line.startswith("Problem") for line in shown) == (3 if is_known else 2)
        assert any(line.startswith("oomguard check all errors") for line in shown)


def test_the_host_at_one_look_is_whole_on_a_narrow_screen(
    proc: FakeProc, policy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each verb has its line, and what cannot be changed stands beside many other problems."""
    monkeypatch.setattr("oomguard.diagnose.this_host.Procfs", FakeKernel)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.chdir(policy.parent)
    state = policy.parent / "state"
    limits = tuple(f"{number} is missing on this host, as it is on many" for number in range(4))
    complaint = Complaint("vm.swappiness", 10, "denied", "read-only", "", "a.yaml:1", 1)
    write_status(state, Identity(10, 1), limits=limits, complaints=(complaint,))
    assert overview.run(policy.name, str(state), str(proc.root)) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines()[:-1])) <= 60
    assert "\noomguard explain NAME  why\noomguard rank          the kill order\n" in shown
    assert re.search("^Problem +denied: vm.swappiness", shown, re.MULTILINE)
    assert re.search("^Problem +and 2 more: oomguard status$", shown, re.MULTILINE)


# schema, help and usage


@pytest.mark.parametrize(
    "words",
    [
        ["check", "--policy"],
        ["plan", "--proc"],
        ["plan"],
        ["restore", "--state-dir"],
        ["status", "--state-dir"],
        ["rank", "--cgroup"],
        ["history", "--state-dir"],
        ["advise", "--proc"],
        ["import", "earlyoom"],
        ["test"],
    ],
    ids=" ".join,
)
def test_no_argument_reaches_a_terminal_unescaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """A shell fills in the names of files, which others may have made."""
    name = tmp_path / "a\x1b[31m\nb.yaml"
    name.write_text("no policy, and nothing else")
    monkeypatch.setattr("sys.argv", ["oomguard", *words, str(name)])
    with suppress(SystemExit):
        main()
    out, err = capsys.readouterr()
    assert "a\\x1b[31m\\nb.yaml" in out + err
    assert "\x1b" not in out + err
    assert "\nb.yaml" not in (out + err).replace("\\nb.yaml", "")


def test_the_schema_is_one_and_holds_for_the_policy(oomguard: Oomguard) -> None:
    """As editors will use it."""
    schema = oomguard("schema").json
    jsonschema.validators.validator_for(schema).check_schema(schema)
    jsonschema.validate(yaml.safe_load(POLICY), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"rules": [{"name": "a", "oom_score_adj": 1001}]}, schema)


def test_check_says_what_a_daemon_still_enforces_from_an_emptied_file(
    oomguard: Oomguard, policy: Path, tmp_path: Path
) -> None:
    """Before it is loaded: how many rules, and how many processes lose their value."""
    loaded = load(str(policy)).policy
    rules = tuple(
        RuleStatus(rule.number, rule.label, rule.source, "300", count)
        for rule, count in zip(loaded.rules, (1, 2), strict=False)
    )
    write_status(tmp_path / "state", Identity(9, 1), rules=rules)
    policy.write_text("")
    done = oomguard("check")
    assert done.code == 0
    assert "the file is empty" in done.out
    assert "2 rules from it still match 3 processes, which lose their value" in done.out
    done = oomguard("check", "--state-dir", str(policy))
    assert (done.code, "the file is empty" in done.out) == (0, True)


def ended(oomguard: Oomguard, *arguments: str) -> object:
    """Return the code that the parser itself exits with."""
    with pytest.raises(SystemExit) as caught:
        oomguard(*arguments)
    return caught.value.code


def test_the_version_is_told(oomguard: Oomguard, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing else."""
    assert ended(oomguard, "--version") == 0
    assert capsys.readouterr().out == f"oomguard {__version__}\n"


def test_help_shows_examples_and_exit_codes(oomguard: Oomguard, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the program, and of each verb what it takes."""
    assert ended(oomguard, "--help") == 0
    text = capsys.readouterr().out
    assert "examples:\n  oomguard check" in text
    assert "exit codes: 0 done" in text
    for verb in ("check", "plan", "apply", "run", "restore", "status", "explain", "schema"):
        assert f"\n    {verb} " in text
        assert ended(oomguard, verb, "--help") == 0
        assert f"usage: oomguard {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [("frobnicate",), ("plan", "--frobnicate"), ("explain",), ("plan", "extra"), ("plan", "--policy")],
    ids=repr,
)
def test_bad_usage_is_exit_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """With one line on stderr, and nothing on stdout."""
    monkeypatch.setattr(sys, "argv", ["oomguard", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    captured = capsys.readouterr()
    assert (caught.value.code, captured.out) == (2, "")
    assert captured.err.startswith("oomguard")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["schema"], ["--help"], ["check", "--policy", "/dev/null"]], ids=repr)
def test_a_reader_that_went_away_is_met_in_silence(arguments: list[str]) -> None:
    """As `head` does: whether the output fills the pipe or waits in a buffer until the end."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "oomguard", *arguments],
            env={"PATH": os.environ["PATH"]},  # not PYTHONUNBUFFERED: argparse would meet it by itself
            check=False,
            stdout=writer,
            stderr=subprocess.PIPE,
        )
    finally:
        os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 141


def test_the_installed_command_is_the_same_program(policy: Path) -> None:
    """As `python -m oomguard`."""
    command = shutil.which("oomguard", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("the package is not installed here")
    done = subprocess.run(
        [command, "check", "--policy", str(policy)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_working_directory_of_somebody_else_is_nothing_to_import_from(tmp_path: Path, policy: Path) -> None:
    """The daemon is started anywhere, by root."""
    for name in ("oomguard", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')\n")
    policy.write_text("rulez: 1\n")
    command = shutil.which("oomguard", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("the package is not installed here")
    done = subprocess.run(
        [command, "run", "--policy", str(policy), "--state-dir", str(tmp_path / "state")],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=30,
    )
    assert (done.returncode, "imported" in done.stderr) == (78, False)


# Processes that take too long to read


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files to a user takes CAP_CHOWN")
def test_no_verb_spends_more_than_its_share_on_one_user(
    oomguard: Oomguard, policy: Path, proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """65,536 groups make a long `status`: the first process is read, the second is said to be unreadable."""
    monkeypatch.setattr("oomguard.kernel.slow_reads._LONG_VERB_SECONDS", 1e-6)
    policy.write_text("rules: [{user: 4242, oom_score_adj: 300}]\n")
    for pid in (20, 21):
        proc.process(Process(Identity(pid, 1), b"slow", uid=4242))
        with (proc.root / f"{pid}/status").open("a") as status:
            status.write("Groups:\t" + "100000 " * 10_000 + "\n")
        os.chown(proc.root / str(pid), 4242, 4242)
    plan = oomguard("plan", "--json")
    assert [row["pid"] for row in plan.json] == [20]
    assert "some processes cannot be read: untrusted users: reading other" in plan.err
    assert oomguard("check", "--host").code == 0
    explain = oomguard("explain", "slow")
    assert explain.code == 1
    assert "slow[20]" in explain.out
    assert "1 process cannot be explained (21): reading other processes of this user" in explain.err
    assert explain.err.endswith("\n  try again when it is less busy\n")


def test_explain_does_not_say_that_nothing_matches_where_a_rule_could_not_be_tried(
    oomguard: Oomguard, policy: Path, proc: FakeProc
) -> None:
    """A command line on which the pattern takes too long: neither yes nor no, and no rule to add."""
    policy.write_text("rules: [{cmdline: '(a+)+$', oom_score_adj: 300}]\n")
    proc.process(Process(Identity(20, 1), b"slow", arguments=(b"a" * 200 + b"b",), uid=4242))
    run = oomguard("explain", "20")
    shown = " ".join(run.out.split())
    assert run.code == 0
    assert "cmdline=(a+)+$ (policy.yaml:1) ? unknown: " in shown
    assert "→ stays 0: which rule matches cannot be known: " in shown
    assert "no rule matches it" not in shown
    assert "to match it" not in shown


FITTING = "vm:\n  min_free_kbytes: 1%\n  swappiness: {at_most: 60}\n"


def test_every_screen_shows_what_the_policy_says_and_what_that_comes_to(
    oomguard: Oomguard, policy: Path, proc: FakeProc
) -> None:
    """A bound that is met needs no change."""
    policy.write_text(FITTING)
    proc.sysctl("vm.min_free_kbytes", 67584)
    checked = oomguard("check", "--host").out
    assert "vm.swappiness at most 60\nvm.min_free_kbytes 1 % of 16.0 GiB = 167772 kB\n" in checked
    assert "vm.min_free_kbytes" not in oomguard("check").out
    (change,) = oomguard("plan", "--json").json
    assert (change["target"], change["to"]) == ("vm.min_free_kbytes", 167772)
    assert change["said"] == "1 % of 16.0 GiB"
    assert "1 % of 16.0 GiB (policy.yaml:2)" in oomguard("plan").out
    assert re.search(r"min_free_kbytes +167772 +67584 +differs; 1 % of 16.0 GiB", oomguard("status").out)
    assert re.search(r"swappiness +60 +60 +at most 60", oomguard("status").out)
    applied = oomguard("apply").out
    assert "vm.min_free_kbytes: 67584 → 167772 (policy, 1 % of 16.0 GiB, " in applied


@pytest.mark.parametrize("verb", ["plan", "apply"])
def test_a_sysctl_that_the_kernel_lacks_is_skipped_with_a_warning(
    oomguard: Oomguard, policy: Path, verb: str
) -> None:
    """Or somebody would take it for set."""
    policy.write_text("vm: {zone_reclaim_mode: 1}\n")
    run = oomguard(verb)
    assert run.code == 0
    assert run.err == "oomguard: vm.zone_reclaim_mode is skipped: this kernel has no such sysctl\n"


def test_what_depends_on_ram_is_skipped_where_that_is_not_known(
    oomguard: Oomguard, policy: Path, proc: FakeProc
) -> None:
    """As the daemon does; check needs no host."""
    policy.write_text("vm: {min_free_kbytes: 1%, swappiness: 10}")
    proc.sysctl("vm.min_free_kbytes", 67584)
    (proc.root / "meminfo").unlink()
    planned = oomguard("plan", "--json")
    assert [change["target"] for change in planned.json] == ["vm.swappiness"]
    assert planned.err == "oomguard: 1 sysctl skipped: without meminfo in /proc, RAM is not known\n"
    assert oomguard("check").code == 0


def test_a_file_for_other_hosts_is_named_with_the_reason(oomguard: Oomguard, policy: Path) -> None:
    """It is checked nevertheless."""
    policy.write_text("when: {memory: '>= 64GiB'}\n" + FITTING)
    assert oomguard("check", "--host").out == (
        f"{policy}: valid, 0 rules and 0 sysctls from no file; "
        f"{policy} does not count: memory is 16.0 GiB, not >= 64GiB\n"
    )
    assert "valid, 0 rules and 2 sysctls" in oomguard("check").out
    policy.write_text("when: {memory: '>= 64GiB'}\nvm: {swappiness: 900}\n")
    assert oomguard("check", "--host").code == 78


def test_a_verb_closes_what_it_opens(oomguard: Oomguard) -> None:
    """Whoever calls many in one process runs out of descriptors otherwise."""
    for verb in (
        ["plan"],
        ["plan", "--restore"],
        ["explain", "crond"],
        ["rank"],
        ["status"],
        ["advise"],
        ["check", "--host"],
    ):
        before = len(os.listdir("/proc/self/fd"))
        oomguard(*verb)
        assert len(os.listdir("/proc/self/fd")) == before, verb
