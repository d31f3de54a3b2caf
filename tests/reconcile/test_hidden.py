"""With hidepid=2, a process that is not in /proc may be alive."""

import subprocess
from pathlib import Path

import pytest

from fakeproc import FakeProc
from oomguard.core.policy import Policy
from oomguard.core.process import Identity, Process
from oomguard.core.rule import Rule, Terms, Value
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.ledger import Ledger, open_hosts_ledger, read_ledger
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state_folder import open_state_folder

POLICY = Policy(rules=(Rule(0, (b"victim",), Terms(Value("exact", 500)), "a.yaml", 1),))


class Host:
    """A host with a managed process, and a state folder."""

    def __init__(self, proc: FakeProc, procfs: Procfs, state_dir: Path, pid: int) -> None:
        self.proc = proc
        self.procfs = procfs
        self.state_dir = state_dir
        self.pid = pid
        proc.process(Process(Identity(pid, 9), b"victim", oom_score_adj=20))
        self.reconcile(POLICY)

    def reconcile(self, policy: Policy) -> list[str]:
        """Restart, make two passes, and return the results."""
        folder = open_state_folder(str(self.state_dir))
        ledger = open_hosts_ledger(folder, self.procfs)
        reconciler = Reconciler(policy, ledger, self.procfs)
        found: list[str] = [one.result for _ in range(2) for one in reconciler.everything("start", 0.0)]
        ledger.close()
        folder.close()
        return found

    def hide(self, options: str = "hidepid=2,gid=26") -> Path:
        """Mount /proc with an option that hides every process; return what is hidden."""
        (self.proc.root / "self").mkdir(exist_ok=True)
        mount = f"22 28 0:21 / /proc rw - proc proc rw,{options}\n"
        (self.proc.root / "self" / "mountinfo").write_text(mount)
        return (self.proc.root / str(self.pid)).rename(self.state_dir.parent / "hidden")


@pytest.fixture
def host(proc: FakeProc, procfs: Procfs, tmp_path: Path, sleeper: Identity) -> Host:
    """Provide a host whose process the kernel has, too: signals reach what /proc hides."""
    return Host(proc, procfs, tmp_path / "state", sleeper.pid)


def test_a_process_that_was_hidden_gets_its_original_value_back(host: Host) -> None:
    """A daemon that ran, and one that started, while it was hidden did not take it for an ended one."""
    hidden = host.hide()
    assert host.reconcile(POLICY) == []
    hidden.rename(host.proc.root / str(host.pid))
    assert host.proc.oom_score_adj(host.pid) == 500
    assert host.reconcile(Policy()) == ["applied"]
    assert host.proc.oom_score_adj(host.pid) == 20


def test_a_process_that_is_shown_again_is_known_again(host: Host) -> None:
    """Though it is as it was: nothing was known of its rule while it was hidden."""
    reconciler = Reconciler(POLICY, Ledger(), host.procfs)
    host.proc.set_oom_score_adj(host.pid, 20)
    for _ in range(2):
        list(reconciler.everything("resync", 0.0))
    hidden = host.hide()
    list(reconciler.everything("resync", 0.0))
    assert reconciler.managed.rule_of == {}
    hidden.rename(host.proc.root / str(host.pid))
    list(reconciler.everything("resync", 0.0))
    assert reconciler.managed.rule_of == {host.pid: 0}


def test_a_process_that_ended_is_forgotten_where_all_are_shown(host: Host) -> None:
    """Else another with its pid and start time would get its value."""
    hidden = host.hide("gid=26")
    assert host.reconcile(POLICY) == []
    hidden.rename(host.proc.root / str(host.pid))
    assert host.reconcile(Policy()) == []
    assert host.proc.oom_score_adj(host.pid) == 500


def test_a_process_that_ended_is_forgotten_where_some_are_hidden(
    proc: FakeProc, procfs: Procfs, tmp_path: Path
) -> None:
    """Else the ledger grows with each program that a rule matches, and no restore is ever complete."""
    with subprocess.Popen(["/bin/true"]) as ended:
        pass
    host = Host(proc, procfs, tmp_path / "state", ended.pid)
    host.hide()
    assert host.reconcile(POLICY) == []
    folder = open_state_folder(str(host.state_dir))
    assert read_ledger(folder, boot_id=procfs.boot_id()).processes == {}
    folder.close()
