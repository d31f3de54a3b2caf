"""Attempts to be protected: every trick by which a user's program gets a name that a rule protects.

On the real kernel, by a person's uid. The programs have a raised value, so that to protect them is a
lowering anybody may do: what keeps them from it is nothing but trust.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from oomguard.core.change import SetOomScoreAdj
from oomguard.core.policy import Policy
from oomguard.core.rule import Rule, Terms, Value
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.slow_reads import patient_reads
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler
from running import wait_until

PERSON = 23456
NAME = "oomg-guarded"
RULE = Rule(0, (NAME.encode(),), Terms(Value("exact", 100)), "p.yaml", 1)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="starts programs as another user, which takes root")


class Stage:
    """Folders of root and of the person, and programs that the person runs in them."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        # Below /run, which only root may write to, as /usr is; in a folder of /tmp nothing is root's.
        self.root = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/run", prefix="oomg-")))
        self.root.chmod(0o755)
        self.person = self.root / "person"
        self.person.mkdir()
        os.chown(self.person, PERSON, PERSON)
        self.procfs = Procfs(slow_reads=patient_reads())
        stack.callback(self.procfs.close)

    def copy(self, path: Path, *, owner: int = 0, mode: int = 0o755, source: str = "/bin/sleep") -> Path:
        """Put a program at `path`."""
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        shutil.copyfile(source, path)
        os.chown(path, owner, owner)
        path.chmod(mode)
        return path

    def run(self, command: Sequence[str | Path], *, comm: str = NAME, user: int = PERSON) -> int:
        """Run a program as the person and return its pid, once it is called `comm`."""
        become = [
            "choom",
            "-n",
            "500",
            "--",
            "setpriv",
            f"--reuid={user}",
            f"--regid={user}",
            "--clear-groups",
        ]
        process = subprocess.Popen(
            [*become, "--", *command], cwd=self.person, stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._stack.callback(process.communicate)
        self._stack.callback(process.kill)
        wait_until(
            lambda: (
                process.poll() is not None
                or _comm(process.pid) == comm
                or bool(self._named_child(process.pid))
            ),
            f"{command} to be called {comm}",
        )
        if process.poll() is not None:
            assert process.stderr is not None
            pytest.skip(f"{command[0]} does not run here: {process.stderr.read().decode().strip()}")
        child = self._named_child(process.pid)
        if child and _comm(process.pid) != comm:
            self._stack.callback(os.kill, child, 9)
            return child
        return process.pid

    def _named_child(self, parent: int) -> int:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return next((int(child) for child in children if _comm(int(child)) == NAME), 0)

    def change(self, pid: int, rule: Rule = RULE) -> SetOomScoreAdj | None:
        """Return the change that is due for a process."""
        reconciler = Reconciler(Policy(rules=(rule,)), Ledger(), self.procfs)
        handle = self.procfs.open(pid)
        assert handle is not None
        with handle:
            return reconciler.next_change(handle, "start")

    def refusal(self, pid: int, rule: Rule = RULE) -> str:
        """Return why a process is not protected; "" if it is."""
        change = self.change(pid, rule)
        assert change is not None
        assert (change.before, change.after) == (500, 100)
        return change.obstacle.reason if change.obstacle else ""


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().removesuffix("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Return an empty stage."""
    with ExitStack() as stack:
        yield Stage(stack)


def _copy(stage: Stage) -> int:
    return stage.run([stage.copy(stage.person / NAME, owner=PERSON), "60"])


def _link(stage: Stage) -> int:
    (stage.person / NAME).symlink_to("/bin/sleep")
    return stage.run([stage.person / NAME, "60"])


def _hard_link(stage: Stage) -> int:
    os.link(stage.copy(stage.root / NAME), stage.person / NAME)
    return stage.run([stage.person / NAME, "60"])


def _rename(stage: Stage) -> int:
    code = f"import ctypes, time; ctypes.CDLL(None).prctl(15, {NAME.encode()!r}, 0, 0, 0); time.sleep(60)"
    return stage.run(["/usr/bin/python3", "-c", code])


def _script(stage: Stage) -> int:
    script = stage.root / NAME
    script.write_text("#!/bin/sh\nread line\n")
    script.chmod(0o755)
    return stage.run([script])


def _deleted(stage: Stage) -> int:
    path = stage.copy(stage.root / NAME)
    pid = stage.run([path, "60"])
    stage.copy(path)
    return pid


def _in_writable_folder(stage: Stage) -> int:
    folder = stage.root / "open"
    path = stage.copy(folder / NAME)
    folder.chmod(0o777)
    return stage.run([path, "60"])


def _in_memory(stage: Stage) -> int:
    code = (
        "import os, time; fd = os.memfd_create('x'); os.write(fd, open('/bin/sleep', 'rb').read());"
        f"open('/proc/self/comm', 'w').write({NAME!r}); time.sleep(0.2);"
        "os.execve(fd, ['/bin/sleep', '60'], {})"
    )
    pid = stage.run(["/usr/bin/python3", "-c", code])
    wait_until(lambda: "memfd" in os.readlink(f"/proc/{pid}/exe"), "the program in memory")
    # The kernel now calls it after the file; a process may call itself anything after that.
    return pid


def _too_deep(stage: Stage) -> int:
    code = (
        "import os, shutil\n"
        "for _ in range(22):\n    os.mkdir('x' * 200); os.chdir('x' * 200)\n"
        f"shutil.copy('/bin/sleep', '{NAME}'); os.execv('./{NAME}', ['{NAME}', '60'])"
    )
    return stage.run(["/usr/bin/python3", "-c", code])


def _setuid(stage: Stage) -> int:
    program = stage.copy(stage.root / "setuid", mode=0o4755)
    (stage.person / NAME).symlink_to(program)
    pid = stage.run([stage.person / NAME, "60"])
    if f"Uid:\t{PERSON}\t0\t" not in Path(f"/proc/{pid}/status").read_text():
        pytest.skip("this mount is nosuid")
    return pid


def _root_of_its_own_namespace(stage: Stage) -> int:
    return stage.run(["/usr/bin/unshare", "--user", "--map-root-user", stage.copy(stage.person / NAME), "60"])


def _mounted_over(stage: Stage) -> int:
    guarded = stage.copy(stage.root / NAME)
    own = stage.copy(stage.person / "own", owner=PERSON)
    shell = f"mount --bind {own} {guarded} && exec {guarded} 60"
    return stage.run(["/usr/bin/unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell])


def _overlaid(stage: Stage) -> int:
    guarded = stage.copy(stage.root / "bin" / NAME)
    for folder in ("upper", "work"):
        (stage.person / folder).mkdir()
        os.chown(stage.person / folder, PERSON, PERSON)
    options = f"lowerdir={guarded.parent},upperdir=upper,workdir=work"
    shell = f"mount -t overlay overlay -o {options} {guarded.parent} && exec {guarded} 60"
    return stage.run(["/usr/bin/unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell])


IMPOSTORS: dict[str, tuple[Callable[[Stage], int], str]] = {
    "a copy in a folder of one's own": (_copy, "could give any program this name"),
    "a symbolic link to a program of root's": (_link, "could give any program this name"),
    "a hard link to the very program": (_hard_link, "could give any program this name"),
    "a process that renames itself": (_rename, "could give any program this name"),
    "a script of root's, whose interpreter anybody runs": (_script, "could give any program this name"),
    "a program that was replaced": (_deleted, "could give any program this name"),
    "a program where anybody may put another": (_in_writable_folder, "could give any program this name"),
    "a path longer than a path can be": (_too_deep, "could give any program this name"),
    "a setuid program called through a link": (_setuid, f"uid {PERSON} could give any program this name"),
    "root of a user namespace": (_root_of_its_own_namespace, "could give any program this name"),
    "a file mounted over root's": (_mounted_over, "could give any program this name"),
    "root's folder, overlaid": (_overlaid, "could give any program this name"),
}


@pytest.mark.parametrize("trick", IMPOSTORS)
def test_a_name_that_lies_is_not_protected(stage: Stage, trick: str) -> None:
    """Whatever makes it so, and though the daemon may look at the executable."""
    make, reason = IMPOSTORS[trick]
    assert reason in stage.refusal(make(stage))


def test_a_lying_first_argument_names_nobody(stage: Stage) -> None:
    """The kernel names a process after the file; what `exec -a` says is its argument."""
    pid = stage.run(["bash", "-c", f"exec -a {NAME} sleep 60"], comm="sleep")
    assert stage.change(pid) is None


def test_a_program_in_memory_has_the_kernels_name_for_it(stage: Stage) -> None:
    """And no path on this host, if it calls itself otherwise."""
    assert stage.change(_in_memory(stage)) is None


def test_roots_own_program_is_protected_for_whoever_runs_it(stage: Stage) -> None:
    """If the daemon may look: it is the file that the name says. What it is made to do is another matter."""
    pid = stage.run([stage.copy(stage.root / NAME), "60"])
    handle = stage.procfs.open(pid)
    assert handle is not None
    with handle:
        if handle.program is None:
            pytest.skip("takes CAP_SYS_PTRACE, as in the daemon")
        assert handle.program.only_root_changes
    assert stage.refusal(pid) == ""


def test_root_is_protected_by_name(stage: Stage) -> None:
    """Whatever file it runs."""
    assert stage.refusal(stage.run([stage.copy(stage.person / NAME, owner=PERSON), "60"], user=0)) == ""


def test_a_path_is_worth_what_the_host_has_there(stage: Stage) -> None:
    """A rule with `exe` protects the file of that path, and not what a user mounts over it."""
    rule = RULE._replace(terms=RULE.terms._replace(exes=(f"{stage.root}/*",)))
    impostor = _mounted_over(stage)
    honest = stage.run([stage.root / NAME, "60"])
    handle = stage.procfs.open(honest)
    assert handle is not None
    with handle:
        if handle.exe is None:
            pytest.skip("takes CAP_SYS_PTRACE, as in the daemon")
    assert stage.refusal(honest, rule) == ""
    assert "not the file at that path" in stage.refusal(impostor, rule)


def test_a_setuid_program_is_its_callers(stage: Stage) -> None:
    """A rule for root's processes does not match it: its name is the caller's choice."""
    pid = _setuid(stage)
    rule = RULE._replace(terms=RULE.terms._replace(users=("root",), uids=(0,)))
    assert stage.change(pid, rule) is None
    callers = RULE._replace(terms=RULE.terms._replace(users=(str(PERSON),), uids=(PERSON,)))
    assert stage.refusal(pid, callers) == ""


def test_a_root_daemon_that_works_for_a_user_stays_roots(stage: Stage) -> None:
    """As smbd does a thousand times a second: it switches its effective uid, and can always switch back."""
    code = (
        f"import os, time; name = open('/proc/self/comm', 'w'); os.seteuid({PERSON});"
        f"name.write({NAME!r}); name.close(); time.sleep(60)"
    )
    pid = stage.run(["/usr/bin/python3", "-c", code], user=0)
    assert f"Uid:\t0\t{PERSON}\t0\t{PERSON}\n" in Path(f"/proc/{pid}/status").read_text()
    assert stage.refusal(pid) == ""
    rule = RULE._replace(terms=RULE.terms._replace(users=("root",), uids=(0,)))
    assert stage.refusal(pid, rule) == ""


def test_root_that_can_become_a_user_is_not_trusted(stage: Stage) -> None:
    """Real root alone is also what old setuid programs have that swap uids, under their caller's name."""
    code = (
        f"import os, time; os.setresuid(0, 0, {PERSON});"
        f"open('/proc/self/comm', 'w').write({NAME!r}); time.sleep(60)"
    )
    pid = stage.run(["/usr/bin/python3", "-c", code], user=0)
    assert "uid 0" in stage.refusal(pid)
    rule = RULE._replace(terms=RULE.terms._replace(users=("root",), uids=(0,)))
    assert f"can become uid {PERSON}" in stage.refusal(pid, rule)
