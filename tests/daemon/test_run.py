"""`oomguard run` on the real kernel, looked at from outside: edits, signals, crashes, and who may run it."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from running import (
    Daemon,
    Program,
    as_user,
    oom_score_adj,
    running,
    wait_for_value,
    wait_until,
    write_oom_score_adj,
)

NAME = f"og-{os.getpid()}"
"""A name that no other process of this machine has."""

NOBODY = 65534


def rules(value: object, name: str = NAME, **more: object) -> str:
    """Return a policy of one rule."""
    lines = [f"rules:\n  - name: {name}\n    oom_score_adj: {value}\n"]
    lines += [f"    {key}: {text}\n" for key, text in more.items()]
    return "".join(lines)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """Return a program that the rules of these tests match."""
    made = Program(tmp_path, NAME)
    yield made
    made.end()


def oomguard(verb: str, daemon: Daemon) -> "subprocess.CompletedProcess[str]":
    """Run a verb on the daemon's state folder."""
    command = [sys.executable, "-m", "oomguard", verb, "--state-dir", str(daemon.state)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def loaded(daemon: Daemon) -> int:
    """Return how often it said that a policy was loaded, changed or not."""
    return daemon.log.count("policy loaded") + daemon.log.count("policy read again, unchanged")


def settled(daemon: Daemon, *, loads: int) -> None:
    """Check that no further reload comes: each would be said within the time an edit takes to settle."""
    end = time.monotonic() + 0.5
    with suppress(AssertionError):
        wait_until(lambda: loaded(daemon) > loads or time.monotonic() > end, "the time to pass")
    assert loaded(daemon) == loads, daemon.log


# The policy


def test_an_edit_revalues_at_once_and_is_said_once(tmp_path: Path, program: Program) -> None:
    """In place, by an editor's rename, and a process that starts afterwards gets the new value."""
    pid = program.start()
    with running(tmp_path, rules(400)) as daemon:
        wait_for_value(pid, 400)
        daemon.policy.write_text(rules(500))
        wait_for_value(pid, 500)
        new = daemon.policy.with_suffix(".new")
        new.write_text(rules(600))
        new.rename(daemon.policy)
        wait_for_value(pid, 600)
        wait_for_value(program.start(), 600)
        settled(daemon, loads=2)


def test_the_swap_of_a_configmap_revalues(tmp_path: Path, program: Program) -> None:
    """Each swap once, one after the other."""
    pid = program.start()
    volume = tmp_path / "volume"
    for number in range(1, 4):
        (volume / f"..{number}").mkdir(parents=True)
        (volume / f"..{number}" / "policy.yaml").write_text(rules(100 * number))
    (volume / "..data").symlink_to("..1")
    with running(tmp_path, rules(50)) as daemon:
        daemon.policy.unlink()
        daemon.policy.symlink_to("volume/..data/policy.yaml")
        wait_for_value(pid, 100)
        for number in (2, 3):
            (volume / "..tmp").symlink_to(f"..{number}")
            (volume / "..tmp").rename(volume / "..data")
            wait_for_value(pid, 100 * number)
            shutil.rmtree(volume / f"..{number - 1}")
        settled(daemon, loads=3)


def test_a_drop_in_adds_its_rules_and_takes_them_away_again(tmp_path: Path, program: Program) -> None:
    """Its folder may come later than the daemon."""
    pid = program.start()
    with running(tmp_path, "rules: []\n") as daemon:
        folder = daemon.policy.with_suffix(".d")
        folder.mkdir()
        settled(daemon, loads=0)
        (folder / "10-test.yaml").write_text(rules(450))
        wait_for_value(pid, 450)
        (folder / "10-test.yaml").unlink()
        wait_for_value(pid, 0)
        settled(daemon, loads=2)


def test_a_rule_that_is_removed_gives_the_values_back(tmp_path: Path, program: Program) -> None:
    """Those that each process had of its own."""
    first, second = program.start(), program.start()
    Path(f"/proc/{second}/oom_score_adj").write_text("123\n")
    with running(tmp_path, rules(400)) as daemon:
        wait_for_value(first, 400)
        wait_for_value(second, 400)
        daemon.policy.write_text("rules: []\n")
        wait_for_value(first, 0)
        wait_for_value(second, 123)


def test_a_bad_edit_keeps_the_policy_of_before_and_says_so(tmp_path: Path, program: Program) -> None:
    """With the place of the fault; the next good one is taken."""
    with running(tmp_path, rules(400)) as daemon:
        daemon.policy.write_text(rules("9999"))
        daemon.wait_for("the previous one stays in force")
        assert f"{daemon.policy}:3:20: oom_score_adj:" in daemon.log
        wait_for_value(program.start(), 400)
        document = json.loads((daemon.state / "status.json").read_text())
        assert "oom_score_adj" in " ".join(document["policy"]["errors"])
        daemon.policy.write_text(rules(500))
        wait_for_value(program.start(), 500)
        wait_until(
            lambda: not json.loads((daemon.state / "status.json").read_text())["policy"]["errors"],
            "the error to be gone from the status",
        )
        assert loaded(daemon) == 1


def test_a_deleted_policy_stays_in_force_and_is_said(tmp_path: Path, program: Program) -> None:
    """Until there is one again."""
    with running(tmp_path, rules(400)) as daemon:
        daemon.policy.unlink()
        daemon.wait_for("no such file")
        wait_for_value(program.start(), 400)
        daemon.policy.write_text(rules(500))
        wait_for_value(program.start(), 500)
        settled(daemon, loads=1)


def test_a_policy_that_others_may_write_is_not_taken(tmp_path: Path, program: Program) -> None:
    """Though its content did not change."""
    with running(tmp_path, rules(400)) as daemon:
        daemon.policy.chmod(0o666)
        daemon.wait_for("makes it writable by every user")
        wait_for_value(program.start(), 400)


def test_a_policy_that_could_not_be_read_is_read_later(tmp_path: Path, program: Program) -> None:
    """Where no reader can be started, that is said once, and the file need not be edited again."""
    pid = program.start()
    with running(tmp_path, rules(400)) as daemon:
        wait_for_value(pid, 400)
        reader = daemon.process.pid
        used = set(map(int, os.listdir(f"/proc/{reader}/fd")))
        for _ in range(20):  # some are open for a moment only
            time.sleep(0.05)
            used &= set(map(int, os.listdir(f"/proc/{reader}/fd")))
        room = min(set(range(len(used) + 1)) - used)  # a reader would fit in gaps below it
        _, hard = resource.prlimit(reader, resource.RLIMIT_NOFILE)
        resource.prlimit(reader, resource.RLIMIT_NOFILE, (room, hard))
        daemon.policy.write_text(rules(500))
        daemon.wait_for("cannot start a process to read the policy")
        resource.prlimit(reader, resource.RLIMIT_NOFILE, (hard, hard))
        wait_for_value(pid, 500, seconds=60)
        assert daemon.log.count("cannot start a process") == 1


def test_sighup_reads_the_policy_again(tmp_path: Path) -> None:
    """And says whether it changed."""
    with running(tmp_path, rules(400)) as daemon:
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("policy read again, unchanged")
        settled(daemon, loads=1)
        assert "policy loaded" not in daemon.log
        daemon.policy.write_text(rules(500))
        daemon.wait_for("policy loaded")


def test_an_emptied_file_is_a_warning_that_says_what_is_lost(tmp_path: Path, program: Program) -> None:
    """As a full disk leaves it: valid, in force, and nothing that anybody asked for."""
    pid = program.start()
    with running(tmp_path, rules(300)) as daemon:
        wait_for_value(pid, 300)
        daemon.policy.write_text("")
        daemon.wait_for(
            f"warning: {daemon.policy} no longer declares anything: "
            "1 rule and 0 sysctls are no longer in force; they matched 1 process; if this is a mistake, "
            "restore the file"
        )
        wait_for_value(pid, 0)
        daemon.policy.write_text("# nothing yet\n")
        daemon.wait_for("policy loaded: 0 rules and 0 sysctls")
        wait_until(lambda: loaded(daemon) == 2, "the second edit")
        assert daemon.log.count("no longer declares") == 1
        daemon.stop()


def test_no_reload_makes_the_counts_dip(tmp_path: Path, program: Program) -> None:
    """What is matched is replaced when the first pass of the new policy ends, and not before."""
    pids = [program.start() for _ in range(3)]
    with running(tmp_path, rules(400)) as daemon:
        for pid in pids:
            wait_for_value(pid, 400)
        status = daemon.state / "status.json"
        wait_until(lambda: json.loads(status.read_text())["processes_held"] == 3, "three in the status")
        seen = set()

        def look() -> None:
            document = json.loads(status.read_text())
            held = sum(rule["processes"] for rule in document["rules"])
            seen.add((document["processes_held"], held))

        for load in range(1, 9):
            daemon.policy.write_text(rules(400 + load % 2))
            while loaded(daemon) < load:
                look()
            until = time.monotonic() + 0.3
            while time.monotonic() < until:
                look()
        assert seen == {(3, 3)}


def test_many_edits_in_a_row_end_with_the_last(tmp_path: Path, program: Program) -> None:
    """A reading that is overtaken is given up."""
    pid = program.start()
    with running(tmp_path, rules(100)) as daemon:
        for value in range(101, 131):
            daemon.policy.write_text(rules(value))
            daemon.process.send_signal(signal.SIGHUP)
        wait_for_value(pid, 130)
        assert daemon.process.poll() is None


def test_a_bad_policy_at_the_start_is_exit_78(tmp_path: Path) -> None:
    """As a service it is then not started again; every fault is said, and nothing was changed."""
    daemon = Daemon(tmp_path, f"rulez: []\nrules:\n  - name: {NAME}\n    oom_score_adj: high\n")
    assert daemon.process.wait(10) == 78
    assert f"{daemon.policy}:1:1: unknown key rulez" in daemon.log
    assert f"{daemon.policy}:4:20: oom_score_adj:" in daemon.log
    assert "Traceback" not in daemon.log
    assert not (daemon.state / "ledger").exists()


def test_without_inotify_edits_and_drift_are_looked_for(tmp_path: Path, program: Program) -> None:
    """A host that has given out all instances: said once each, and made good by looking."""
    limit = "/proc/sys/user/max_inotify_instances"  # of a user namespace, so the host's is left alone
    within = ["unshare", "--user", "--map-root-user", "sh", "-c", f'echo 0 >{limit} && exec "$@"', "sh"]
    if subprocess.run([*within, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("making a user namespace is not allowed here")
    pid = program.start()
    with running(tmp_path, "resync_interval: 1\n" + rules(400), wrapper=within) as daemon:
        wait_for_value(pid, 400)
        write_oom_score_adj(pid, 1)
        wait_for_value(pid, 400)
        for value in (500, 600):
            daemon.policy.write_text("resync_interval: 1\n" + rules(value))
            wait_for_value(pid, value)
        assert daemon.log.count("fs.inotify.max_user_instances") == 2, daemon.log
        assert daemon.process.poll() is None


@pytest.mark.parametrize("limit", [17, 31])
def test_too_few_descriptors_are_an_error_and_not_half_a_guard(tmp_path: Path, limit: int) -> None:
    """Named, with the way out; the soft limit alone is raised."""
    daemon = Daemon(tmp_path, rules(400), wrapper=["prlimit", f"--nofile={limit}:{limit}"])
    assert daemon.process.wait(10) == 1
    assert f"needs at least 32 open files, but the limit is {limit}" in daemon.log
    assert "LimitNOFILE=" in daemon.log
    assert "Traceback" not in daemon.log


def test_few_descriptors_cost_watches_only(tmp_path: Path, program: Program) -> None:
    """Edits are read, processes kept; drift of those that are not watched is found by the pass."""
    pid = program.start()
    with running(
        tmp_path, "resync_interval: 1\n" + rules(400), wrapper=["prlimit", "--nofile=32:32"]
    ) as daemon:
        wait_for_value(pid, 400)
        daemon.wait_for("no file descriptor is left (raise LimitNOFILE=)")
        write_oom_score_adj(pid, 1)
        wait_for_value(pid, 400)
        daemon.policy.write_text("resync_interval: 1\n" + rules(500))
        wait_for_value(pid, 500)


# Its end


def test_sigterm_ends_it_at_once_and_leaves_the_values(tmp_path: Path, program: Program) -> None:
    """Exit 0, and no status of a daemon that is not there."""
    pid = program.start()
    with running(tmp_path, rules(400)) as daemon:
        wait_for_value(pid, 400)
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 2
        assert not (daemon.state / "status.json").exists()
        assert oom_score_adj(pid) == 400
        assert "oomguard stopped; its values stay in force" in daemon.log
        restored = oomguard("restore", daemon)
        assert (restored.returncode, oom_score_adj(pid)) == (0, 0)
        assert restored.stdout == f"{NAME}[{pid}]: oom_score_adj 400 → 0 (restore)\n\n1 restored.\n"


def test_sigint_ends_it_as_well(tmp_path: Path) -> None:
    """It may run in a terminal."""
    with running(tmp_path, rules(400)) as daemon:
        assert daemon.stop(signal.SIGINT) == 0
        assert "Traceback" not in daemon.log


def test_after_a_kill_restore_puts_everything_back(tmp_path: Path, program: Program) -> None:
    """The ledger is all that it takes."""
    first, second = program.start(), program.start()
    Path(f"/proc/{second}/oom_score_adj").write_text("77\n")
    with running(tmp_path, rules(400)) as daemon:
        wait_for_value(second, 400)
        assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
        assert oomguard("restore", daemon).returncode == 0
        assert (oom_score_adj(first), oom_score_adj(second)) == (0, 77)
        assert oomguard("restore", daemon).stdout == "Nothing to restore.\n"


def test_after_a_kill_and_a_restart_the_first_values_are_still_known(
    tmp_path: Path, program: Program
) -> None:
    """Under another policy, twice."""
    pid = program.start()
    Path(f"/proc/{pid}/oom_score_adj").write_text("77\n")
    with running(tmp_path, rules(400)) as daemon:
        wait_for_value(pid, 400)
        for value in (500, 600):
            daemon.stop(signal.SIGKILL)
            daemon.policy.write_text(rules(value))
            (daemon.state / "status.json").unlink()
            daemon.start()
            wait_for_value(pid, value)
        daemon.stop()
        oomguard("restore", daemon)
        assert oom_score_adj(pid) == 77


def test_a_second_daemon_is_refused_and_told_of_the_first(tmp_path: Path, program: Program) -> None:
    """So are apply and restore beside one."""
    with running(tmp_path, rules(400)) as daemon:
        wait_for_value(program.start(), 400)
        for verb in ("run", "apply", "restore"):
            command = [sys.executable, "-m", "oomguard", verb, "--state-dir", str(daemon.state)]
            if verb != "restore":
                command += ["--policy", str(daemon.policy)]
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
            assert done.returncode == 1, verb
            assert f"{daemon.state}: oomguard already runs here, as pid {daemon.process.pid}" in done.stderr
            assert "stop the daemon first" in done.stderr
        assert daemon.process.poll() is None
        assert json.loads((daemon.state / "status.json").read_text())["pid"] == daemon.process.pid


# What it says


def test_what_takes_a_capability_is_said_once_with_its_name(tmp_path: Path, program: Program) -> None:
    """Lowering below 0 does, where the machine withholds it."""
    effective = int(Path("/proc/self/status").read_text().partition("CapEff:\t")[2][:16], 16)
    if effective >> 24 & 1:
        pytest.skip("this machine grants CAP_SYS_RESOURCE")
    pids = [program.start() for _ in range(5)]
    with running(
        tmp_path, rules(-500, trust="name") + f"  - name: {NAME}x\n    oom_score_adj: 1\n"
    ) as daemon:
        daemon.wait_for("denied: the value is below the process's floor")
        pids.append(program.start())
        wait_until(
            lambda: json.loads((daemon.state / "status.json").read_text())["outcomes"]["denied"] >= 6,
            "the sixth to be tried",
        )
        denials = [line for line in daemon.log.splitlines() if "below the process's floor" in line]
        assert len(denials) == 1
        assert "CAP_SYS_RESOURCE" in denials[0]
        assert [oom_score_adj(pid) for pid in pids] == [0] * 6
        complaints = json.loads((daemon.state / "status.json").read_text())["complaints"]
        assert [complaint["result"] for complaint in complaints] == ["denied"]
        assert complaints[0]["tries"] >= 6


def test_a_complaint_about_processes_leaves_the_status_with_them(tmp_path: Path, program: Program) -> None:
    """With the first pass that meets none of them; it stays while the kernel is not asked at each pass."""
    program.start()
    without = ["setpriv", "--bounding-set=-sys_resource", "--"] if os.geteuid() == 0 else []
    with running(tmp_path, "resync_interval: 1\n" + rules(-500), wrapper=without) as daemon:

        def status() -> dict[str, Any]:
            found: dict[str, Any] = json.loads((daemon.state / "status.json").read_text())
            return found

        wait_until(lambda: len(status()["complaints"]) == 1, "the complaint")
        passes = status()["passes"]
        wait_until(lambda: status()["passes"] > passes + 1, "passes")
        assert len(status()["complaints"]) == 1
        program.end()
        wait_until(lambda: status()["complaints"] == [], "its end")


def test_systemd_is_told_of_readiness_state_and_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """READY once it keeps the policy, WATCHDOG at half the interval, STATUS after a reload, STOPPING."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        heard: list[str] = []

        def hear(text: str) -> None:
            heard.clear()
            while not heard or text not in heard[-1]:
                heard.append(listener.recv(4096).decode())

        with running(tmp_path, rules(400)) as daemon:
            hear("READY=1\nSTATUS=1 rule and 0 sysctls in force; 0 managed processes")
            began = time.monotonic()
            for _ in range(10):
                hear("WATCHDOG=1")
            assert 0.5 < time.monotonic() - began < 5
            daemon.policy.write_text(rules("high"))
            hear("STATUS=policy rejected; 1 rule")
            daemon.policy.write_text("rules: []\n")
            hear("STATUS=0 rules")
            daemon.stop()
            hear("STOPPING=1")


def test_hostile_names_do_not_reach_the_log_or_the_status(tmp_path: Path) -> None:
    """A process named with an escape sequence and a newline, held by a rule for all of its user."""
    user = 40000 + os.getpid() % 10000
    code = r"open('/proc/self/comm', 'wb', 0).write(b'\x1b[2J\nog\xff'); import signal; signal.pause()"
    policy = f"rules:\n  - user: {user}\n    oom_score_adj: 321\n"
    with subprocess.Popen([*as_user(user), sys.executable, "-S", "-c", code]) as process:
        try:
            comm = Path(f"/proc/{process.pid}/comm")
            wait_until(lambda: b"\x1b" in comm.read_bytes(), "the process to name itself")
            with running(tmp_path, policy) as daemon:
                wait_for_value(process.pid, 321)
                daemon.wait_for(f"\\x1b[2J\\nog\\xff[{process.pid}]")
                assert daemon.log.replace("\n", "").isprintable()
                status = json.loads((daemon.state / "status.json").read_text())
                assert all(change["subject"].isprintable() for change in status["recent"])
        finally:
            process.kill()


# Without privileges


def test_without_privileges_it_keeps_its_users_processes(tmp_path: Path) -> None:
    """Raising takes none; what it cannot do is said, and others' processes are denied, not fatal."""
    nobody = as_user(NOBODY)
    folder = tmp_path / "theirs"
    folder.mkdir()
    program = Program(folder, NAME)
    (folder / "policy.yaml").write_text(rules(400))
    for path in (folder, folder / "policy.yaml"):
        os.chown(path, NOBODY, NOBODY)
    roots = program.start()
    with subprocess.Popen([*nobody, program.path, "60"]) as own:
        try:
            with running(folder, rules(400), wrapper=nobody) as daemon:
                wait_for_value(own.pid, 400)
                daemon.wait_for("belongs to another user")
                assert "CAP_DAC_OVERRIDE" in daemon.log
                assert oom_score_adj(roots) == 0
                assert daemon.stop() == 0
                assert "Traceback" not in daemon.log
            command = [*nobody, sys.executable, "-m", "oomguard", "restore", "--state-dir", str(daemon.state)]
            assert subprocess.run(command, check=False, capture_output=True).returncode == 0
            assert oom_score_adj(own.pid) == 0
        finally:
            own.kill()
            program.end()


OWN_HOST = """
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && mkdir /run/upper /run/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc
! [ -d /usr/lib/oomguard.d ] || mount -t tmpfs tmpfs /usr/lib/oomguard.d
rm -rf /etc/oomguard.d && echo "rules: []" >/etc/oomguard.yaml && exec "$@"
"""
"""Has a command see a policy in its place and state folders of its own."""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_what_the_unit_starts_is_the_daemon_at_once() -> None:
    """Without the parser and another interpreter: its command line stays that of the launcher."""
    launcher = (Path(__file__).parents[2] / "systemd" / "launcher").read_text().partition("\n")[2]
    command = [sys.executable, "-P", "-s", "-c", launcher, "run"]
    with subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", OWN_HOST, "sh", *command],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        line = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        os.kill(int(child), signal.SIGTERM)
        rest = process.stderr.read()
    assert "started: 0 rules and 0 sysctls" in said, said + rest
    assert line[-2] == b"run"
    assert process.returncode == 0, rest


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_proc_of_only_processes_is_named_as_the_cause(tmp_path: Path) -> None:
    """With ProcSubset=pid in the unit. Otherwise the kernel would seem to lack all sysctls."""
    script = 'mount -t proc -o subset=pid proc /proc && exec "$@"'
    with running(tmp_path, "rules: []\n", wrapper=["unshare", "--mount", "sh", "-c", script, "sh"]) as daemon:
        assert "/proc shows only processes; remove ProcSubset=pid from the unit" in daemon.log
        assert daemon.stop() == 0
