"""`oomguard rank`: the kernel's order, the policy's, and a screen that can be left."""

import fcntl
import io
import json
import os
import pty
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fakeproc import FakeKernel, FakeProc
from oomguard.__main__ import main
from oomguard.cli import watch
from oomguard.cli.verb import SHARED
from oomguard.cli.watch import Looks, Terminal
from oomguard.core.decide import Rights
from oomguard.core.process import Identity, Process
from oomguard.kernel.memcg import Memcg, open_memcg
from oomguard.oom.badness import Usage
from oomguard.oom.ranking import Candidate, Domain
from oomguard.oom.ranking import rank as rank_all
from oomguard.report.rank_table import rank_table, sorted_by
from oomguard.report.rank_view import View, summary
from oomguard.report.status_file import encode_status
from statuses import IDLE

POLICY = """\
rules:
  - name: database
    user: 999
    oom_score_adj: -900
  - name: impostor
    oom_score_adj: -900
  - name: batch
    oom_score_adj: 500
"""

KIB_TOTAL = 4 * 1024 * 1024  # 1,048,576 pages: a point weighs 1048

Rank = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rank(
    proc: FakeProc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Rank:
    """Return what runs the verb on a host with a database, a batch job and an impostor."""
    proc.meminfo(MemTotal=KIB_TOTAL)
    population = [
        (1, b"init", 0, 0, 3000, 0),
        (10, b"database", 999, 0, 500_000, 984),
        (11, b"batch", 1000, 0, 10_000, 673),
        (12, b"impostor", 1000, 0, 20_000, 679),
        (13, b"udevd", 0, -1000, 5_000, 0),
        (14, b"shell\x1b[31m", 1000, 0, 900, 667),
    ]
    for pid, comm, uid, value, pages, score in population:
        proc.process(Process(Identity(pid, pid), comm, uid=uid, oom_score_adj=value))
        proc.hold(pid, rss_pages=pages, score=score)
    proc.process(Process(Identity(2, 2), b"kthreadd"), kernel_thread=True)
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    monkeypatch.setattr("oomguard.diagnose.this_host.Procfs", FakeKernel)
    monkeypatch.setattr("oomguard.diagnose.ranker.PAGE_KIB", 4)
    monkeypatch.setattr("oomguard.diagnose.this_host.own_rights", lambda: Rights(os.geteuid()))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*arguments: str, given: bool = True) -> tuple[int, str, str]:
        argv = [
            "oomguard",
            "rank",
            "--proc",
            str(proc.root),
            "--state-dir",
            str(tmp_path / "none"),
            *arguments,
        ]
        monkeypatch.setattr(sys, "argv", [*argv, "--policy", str(policy)] if given else argv)
        code = main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def documents(out: str) -> dict[int, dict[str, Any]]:
    """Return the processes of a document by pid."""
    return {one["pid"]: one for one in json.loads(out)["processes"]}


def test_the_order_is_the_kernels_and_beside_it_the_policys(rank: Rank) -> None:
    """Kernel threads are left out; those that are never killed come last."""
    code, out, _ = rank("--json")
    found = documents(out)
    assert code == 0
    assert [*found] == [10, 12, 11, 14, 1, 13]
    places = {pid: (one["now"]["place"], one["policy"]["place"]) for pid, one in found.items()}
    assert places == {10: (1, 4), 12: (2, 2), 11: (3, 1), 14: (4, 3), 1: (None, None), 13: (None, None)}
    assert found[10]["policy"] == {"place": 4, "badness": 500_000 - 900 * 1048, "oom_score_adj": -900}
    assert found[10]["decision"]["rule"] == "name=database user=999"
    assert found[10]["decision"]["source"].endswith("policy.yaml:2")
    assert found[1]["exempt"] == "init"
    assert found[13]["exempt"] == "oom_score_adj -1000"


def test_a_refused_rule_gives_nothing_and_says_why(rank: Rank) -> None:
    """An impostor keeps its place."""
    _, out, _ = rank("--json")
    impostor = documents(out)[12]
    assert impostor["policy"]["oom_score_adj"] == 0
    obstacle = impostor["decision"]["obstacle"]
    assert (obstacle["kind"], "could give any program this name" in obstacle["reason"]) == ("refused", True)


def test_the_headline_is_what_is_killable_before_a_protected_process(rank: Rank) -> None:
    """In the document with the process that is reached, in the table as a sentence."""
    _, out, _ = rank("--json")
    killable = json.loads(out)["killable"]
    assert killable["now"] == {"bytes": 530_900 * 4096, "processes": 4, "before": None}
    assert killable["policy"] == {
        "bytes": 30_900 * 4096,
        "processes": 3,
        "before": {"pid": 10, "comm": "database"},
    }
    _, out, _ = rank()
    assert "2.0 GiB in 4 processes can be killed; 1 protected process cannot." in out
    assert "Under the policy: 120.7 MiB in 3 processes before database[10]." in out


def test_what_the_kernel_may_deny_is_not_counted_on(rank: Rank, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order under the policy is that of the values which are certain, and says so."""
    monkeypatch.setattr(
        "oomguard.diagnose.this_host.own_rights", lambda: Rights(os.geteuid(), lowers_any=False)
    )
    _, out, _ = rank("--json")
    database = documents(out)[10]
    assert database["decision"]["obstacle"]["kind"] == "may-be-denied"
    assert database["policy"] == {"place": 2, "badness": 500_000, "oom_score_adj": 0}
    _, out, _ = rank()
    said = "Not counted: 1 value that the kernel may deny; see oomguard plan --policy /"
    assert said in " ".join(out.split())


def test_a_score_is_the_badness_in_percent_of_the_memory(rank: Rank, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a post-mortem, not the kernel's /proc/PID/oom_score, which has no unit."""
    monkeypatch.setenv("COLUMNS", "100")
    _, out, _ = rank()
    row = next(line for line in out.splitlines() if "database" in line and "0→-900" in line)
    assert row.split()[:4] == ["1", "4", f"{500_000 * 4 / KIB_TOTAL:.1%}", "10"]


def test_the_table_fits_80_columns_and_escapes_names(rank: Rank) -> None:
    """It is plain where nobody looks, too: no escape sequence gets through."""
    code, out, _ = rank()
    assert code == 0
    assert "\x1b" not in out
    assert "shell\\x1b[31m" in out
    assert max(map(len, out.splitlines())) <= 80
    row = next(line for line in out.splitlines() if "database" in line and "0→-900" in line)
    assert row.split()[:3] == ["1", "4", "10"]


def test_narrow_screens_have_fewer_columns_instead_of_cut_ones(
    rank: Rank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rules and without."""
    monkeypatch.setenv("COLUMNS", "60")
    for given in (True, False):
        headings = next(line for line in rank(given=given)[1].splitlines() if "PID" in line)
        assert "…" not in headings
        assert {"NAME", "MEMORY", "VALUE"} < set(headings.split())


def test_the_narrowest_screens_cut_names_and_no_numbers(rank: Rank, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut pid would be that of another process."""
    monkeypatch.setenv("COLUMNS", "35")
    head, _, *rows, footer, more = rank("--limit", "3")[1].partition("NOW")[2].splitlines()
    assert head.split() == ["NEW", "PID", "NAME", "MEMORY", "VALUE"]
    assert not [word for row in rows for word in row.split() if "…" in word and not word[0].isalpha()]
    assert (footer, more) == ("and 3 more, 2 of them never killed;", "  --limit 0 shows all")


def test_an_obstacle_leaves_room_for_the_rule(rank: Rank, monkeypatch: pytest.MonkeyPatch) -> None:
    """On 80 columns; the sentences of `plan` say more."""
    monkeypatch.setattr(
        "oomguard.diagnose.this_host.own_rights", lambda: Rights(os.geteuid(), lowers_any=False)
    )
    assert "  denied?: name=data" in rank()[1]
    monkeypatch.setattr("oomguard.diagnose.this_host.own_rights", lambda: Rights(4242, overrides_owner=False))
    assert "  denied: name=data" in rank()[1]


def test_what_a_policy_does_not_change_is_one_sentence(rank: Rank, tmp_path: Path) -> None:
    """And nothing is protected is said in a way that fits processes which are never killed."""
    policy = tmp_path / "calm.yaml"
    policy.write_text("rules: [{name: nothing, oom_score_adj: 500}]\n")
    _, out, _ = rank("--policy", str(policy), given=False)
    assert "Now and under the policy: 2.0 GiB in 4 processes can be killed; 1 protected" in out
    assert "Under the policy" not in out
    assert "no oom_score_adj is below 0." in next(summary(view_of(udevd=1)))


def test_a_limit_keeps_the_first_and_says_how_many_more(rank: Rank) -> None:
    """0 is no limit."""
    _, out, _ = rank("--limit", "2")
    assert "and 4 more, 2 of them never killed; --limit 0 shows all" in out
    assert "First under the policy: batch[11]." in out
    rows = [line.split()[:3] for line in out.partition("NOW")[2].splitlines()[2:4]]
    assert rows == [["1", "4", "10"], ["3", "1", "11"]], "the first now, and the first under the policy"
    _, out, _ = rank("--limit", "0")
    assert "more" not in out
    _, out, _ = rank("--json", "--limit", "1")
    assert [*documents(out)] == [10]


def test_without_a_policy_file_it_is_the_kernels_order_alone(
    rank: Rank, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A host that has none is asked about as well; but a file that was named must be there."""
    monkeypatch.setitem(SHARED["--policy"], "default", str(tmp_path / "nowhere.yaml"))
    monkeypatch.setattr("oomguard.cli.rank.DEFAULT_PATH", str(tmp_path / "nowhere.yaml"))
    code, out, _ = rank(given=False)
    assert code == 0
    assert "NEW" not in out
    code, _, err = rank("--policy", str(tmp_path / "missing.yaml"), given=False)
    assert code == 78
    assert "missing.yaml" in err
    (tmp_path / "nowhere.d").symlink_to("nowhere.d")
    code, _, err = rank(given=False)
    assert (code, "nowhere.d" in err) == (78, True), "what cannot be read may be a policy"


def test_it_names_the_policy_of_the_daemon_if_there_is_no_other(
    rank: Rank, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else the kernel's order would look like what the daemon wants."""
    monkeypatch.setenv("COLUMNS", "999")  # or a long temporary path is broken
    missing = str(tmp_path / "nowhere.yaml")
    monkeypatch.setitem(SHARED["--policy"], "default", missing)
    for module in ("cli.rank", "core.policy", "diagnose.ranker", "diagnose.this_host"):
        monkeypatch.setattr(f"oomguard.{module}.DEFAULT_PATH", missing)
    used = str(tmp_path / "policy.yaml")
    status = IDLE._replace(pid=10, start_time_ticks=10, policy=IDLE.policy._replace(path=used))
    state = tmp_path / "state"
    state.mkdir()
    (state / "status.json").write_bytes(encode_status(status))
    hint = f"the daemon uses {used}: add --policy {used}"
    code, out, _ = rank("--state-dir", str(state), given=False)
    assert code == 0
    assert f"{missing} is missing, but {hint}" in " ".join(out.split())
    Path(missing).write_text(POLICY)
    code, out, err = rank("--state-dir", str(state), given=False)
    assert code == 0
    assert "NEW" in out
    assert err == f"oomguard: this is {missing}, but {hint}\n"


def test_what_else_decides_is_said(rank: Rank, proc: FakeProc) -> None:
    """panic_on_oom and oom_kill_allocating_task make the order moot."""
    proc.sysctl("vm.panic_on_oom", 1)
    proc.sysctl("vm.oom_kill_allocating_task", 1)
    _, out, _ = rank()
    assert "vm.panic_on_oom is 1: the kernel panics instead of killing" in out
    assert "the kernel kills the task that asks" in out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a PID namespace")
@pytest.mark.parametrize("verb", [[], ["rank"]], ids=["overview", "rank"])
def test_in_a_container_it_says_that_it_does_not_see_the_host(verb: list[str]) -> None:
    """The first in its order is the first of those it sees."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "oomguard", *verb]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip(done.stderr)
    assert "In a container: the kernel may kill processes of the host first" in done.stdout


def test_a_user_who_does_not_see_others_is_told(rank: Rank, proc: FakeProc) -> None:
    """With hidepid=, where /proc/1 is hidden, too."""
    (proc.root / "self").mkdir(exist_ok=True)
    (proc.root / "self" / "mountinfo").write_bytes(b"22 28 0:21 / /proc rw - proc proc rw,hidepid=2\n")
    _, out, _ = rank()
    assert "kill other users' processes first: hidepid= hides them" in out
    (proc.root / "1" / "mountinfo").write_bytes(b"")
    assert "hidepid" not in rank()[1]


def test_a_kernel_of_another_formula_is_refused(rank: Rank, proc: FakeProc) -> None:
    """Before 2.6.36 there was no oom_score_adj."""
    (proc.root / "sys" / "kernel" / "osrelease").write_text("2.6.32-754.el6\n")
    code, _, err = rank()
    assert code == 1
    assert "2.6.32-754.el6 uses a formula" in err


@pytest.fixture
def mount(proc: FakeProc, tmp_path: Path) -> Path:
    """Mount cgroups: /app with 400 MiB, the batch job and the shell in it, and /free above nothing."""
    folder = tmp_path / "cgroup"
    (proc.root / "self").mkdir(exist_ok=True)
    (proc.root / "self" / "mountinfo").write_text(f"31 20 0:27 / {folder} rw - cgroup2 none rw\n")
    for path, limit in {"app": 400 << 20, "app/free": "max", "idle": "max"}.items():
        (folder / path).mkdir(parents=True)
        (folder / path / "memory.max").write_text(f"{limit}\n")
        (folder / path / "memory.swap.max").write_text("0\n")
    (folder / "app" / "memory.current").write_text(f"{100 << 20}\n")
    (folder / "app" / "memory.oom.group").write_text("1\n")
    (folder / "app" / "cgroup.procs").write_text("14\n11\n")
    for pid in (11, 14):
        (proc.root / str(pid) / "cgroup").write_text("0::/app\n")
    return folder


def test_a_cgroup_is_ranked_against_its_own_limit(rank: Rank, mount: Path) -> None:
    """Only who lives there; a point weighs a thousandth of the limit; the group goes as a whole."""
    _, out, _ = rank("--json", "--cgroup", "/app")
    document = json.loads(out)
    assert document["domain"] == {
        "cgroup": "/app",
        "total_bytes": 400 << 20,
        "used_bytes": 100 << 20,
        "page_bytes": 4096,
        "pages_per_point": 102,
    }
    assert {pid: one["policy"]["badness"] for pid, one in documents(out).items()} == {
        11: 10_000 + 500 * 102,
        14: 900,
    }
    assert document["notes"] == ["The kernel would kill all of /app with batch[11]: memory.oom.group is 1"]


def test_a_cgroup_without_a_limit_names_the_one_that_has(rank: Rank, mount: Path) -> None:
    """Or that there is none."""
    code, _, err = rank("--cgroup", "/app/free")
    assert code == 1
    assert "/app/free has no memory limit" in err
    assert "--cgroup /app\n" in err
    _, _, err = rank("--cgroup", "/idle")
    assert "omit --cgroup" in err


def test_a_cgroup_that_is_removed_is_not_one_without_a_limit(
    rank: Rank, mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its service stops in between."""

    def remove(*arguments: Any) -> Memcg:
        memcg = open_memcg(*arguments)
        shutil.rmtree(memcg.folder)
        return memcg

    monkeypatch.setattr("oomguard.diagnose.ranker.open_memcg", remove)
    code, _, err = rank("--cgroup", "/app/free")
    assert (code, err.startswith("oomguard: /app/free was removed\n")) == (1, True)


def test_nothing_can_be_drawn_on_a_dumb_terminal(rank: Rank, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would stay empty until q is pressed."""
    monkeypatch.setenv("TERM", "dumb")
    ours, theirs = pty.openpty()
    with open(theirs, "r+b", buffering=0) as raw, open(ours, "rb"):
        terminal = io.TextIOWrapper(raw)
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(sys, "stdout", terminal)
        code, _, err = rank("--watch")
    assert (code, "TERM must not be dumb" in err) == (2, True)


def test_watch_without_a_terminal_is_bad_usage(rank: Rank) -> None:
    """It says what to do instead."""
    code, _, err = rank("--watch")
    assert code == 2
    assert "needs a terminal" in err
    assert "--json" in err


@pytest.mark.parametrize("wrong", [["--limit", "-1"], ["--interval", "0"], ["--json", "--watch"]])
def test_wrong_numbers_are_bad_usage(rank: Rank, wrong: list[str]) -> None:
    """As everywhere."""
    with pytest.raises(SystemExit) as caught:
        rank(*wrong)
    assert caught.value.code == 2


# --watch, on a terminal

ENTERED, LEFT = b"\x1b[?1049h", b"\x1b[?1049l"


class Screen:
    """A program on a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(theirs)
        command = [sys.executable, "-m", "oomguard", "rank", "--watch", "--interval", "0.2", *arguments]
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, process_group=0
        )
        self._theirs = theirs
        self._poll = select.poll()
        self._poll.register(self._ours, select.POLLIN)
        self.seen = b""

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._ours, keys)

    def wait_for(self, text: bytes) -> None:
        """Wait until a text is drawn after all that was seen before."""
        end = time.monotonic() + 20
        while text not in self.seen:
            assert time.monotonic() < end, self.seen[-3000:]
            self.read()
        self.seen = self.seen.partition(text)[2]

    def read(self) -> None:
        """Take what is drawn."""
        if self._poll.poll(100):
            self.seen += os.read(self._ours, 65536)

    def stop(self) -> None:
        """Press Ctrl-Z, and wait until the program has stopped."""
        self.wait_for(b"PID")
        self.process.send_signal(signal.SIGTSTP)
        self.wait_for(LEFT)
        end = time.monotonic() + 10
        while Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2][0] != "T":
            assert time.monotonic() < end
            time.sleep(0.01)

    def hang_up(self) -> None:
        """Close the terminal."""
        os.close(self._ours)
        self._ours = os.dup(self._theirs)

    @property
    def settings(self) -> list[Any]:
        """Return how the terminal is set."""
        return termios.tcgetattr(self._theirs)

    def close(self) -> None:
        """End whatever still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


@contextmanager
def watched(tmp_path: Path, *arguments: str) -> Iterator[Screen]:
    """Watch the real host under a policy."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules: []\n")
    screen = Screen("--policy", str(policy), *arguments)
    try:
        screen.wait_for(ENTERED)
        yield screen
    finally:
        screen.close()


def view_of(**sizes_mib: int) -> View:
    """Return a view of processes of these sizes: the first letter of a name is the pid."""
    candidates = [
        Candidate(Identity(ord(name[0]), 1), name.encode(), 0, 0, Usage(mib * 256, 0, 0), 0)
        for name, mib in sizes_mib.items()
    ]
    domain = Domain(1 << 20, 4)
    return View(domain, rank_all(candidates, domain), {})


def test_growth_is_that_of_a_minute() -> None:
    """Also of a process that is younger, but not of a few seconds: most of that is noise."""
    looks = Looks()
    assert looks.grown(view_of(a=100, b=50), 0.0).growth == {}
    assert looks.grown(view_of(a=101, b=50), 4.0).growth == {}
    assert looks.grown(view_of(a=110, b=40, c=7), 10.0).growth == {
        Identity(97, 1): 60 * 1024,
        Identity(98, 1): -60 * 1024,
    }
    seen = looks.grown(view_of(a=110, b=40, c=9), 70.0)
    assert seen.growth == {Identity(97, 1): 0, Identity(98, 1): 0, Identity(99, 1): 2 * 1024}
    assert [one.candidate.comm for one in sorted_by("+", seen)] == [b"c", b"a", b"b"]


def test_few_looks_are_kept() -> None:
    """Whoever watches memory run out must not use it up."""
    looks = Looks()
    for tenths in range(1300):
        looks.grown(view_of(a=100), tenths / 10)
    assert 10 < len(looks._kept) <= 14


def test_growth_is_beside_memory_on_the_screen_only() -> None:
    """In few characters; what hardly grows has none."""
    view = view_of(grows=900, drops=800, still=700)
    growth = {Identity(ord("g"), 1): 1200 * 1024, Identity(ord("d"), 1): -3000, Identity(ord("s"), 1): 1023}
    seen = view._replace(growth=growth)
    columns = {column.header: column for column in rank_table(seen, seen.ranked, width=80).columns}
    assert [str(cell) for cell in columns["+/MIN"].cells] == ["+1.2G", "-2.9M", ""]
    assert "+/MIN" not in [column.header for column in rank_table(view, view.ranked, width=80).columns]


def drawn(view: View, typed: str = "", *, width: int = 80, height: int = 24) -> list[str]:
    """Return the lines of the screen after these keys."""
    screen = watch.Screen()
    screen.view = view
    file = io.StringIO()
    out = Console(width=width, height=height, file=file)
    screen.frame(out)
    for key in typed:
        screen.press(key.encode())
    out.print(screen.frame(out))
    return file.getvalue().splitlines()


MANY = view_of(**{f"{chr(97 + at)}hrome": 100 + at for at in range(26)})


@pytest.mark.parametrize("typed", ["p", "/chrome\rp", "/hrome\rp"])
def test_80_columns_show_how_to_quit(typed: str) -> None:
    """In the longest order, also with a filter."""
    assert "q=quit" in "".join(drawn(MANY, typed))


def test_rows_that_do_not_fit_are_counted() -> None:
    """With what is shown of them."""
    assert "1–18 of 26 · by kill order" in "".join(drawn(MANY))
    assert "9–26 of 26 · by kill order" in "".join(drawn(MANY, " "))
    assert " of 26" not in "".join(drawn(MANY, height=40))


def test_a_filter_that_matches_nothing_is_a_sentence() -> None:
    """Not a table without rows."""
    lines = drawn(MANY, "/no such\r")
    assert lines[-1] == "No process matches 'no such'."
    assert "PID" not in "".join(lines)


def test_a_small_screen_shows_processes_rather_than_the_summary() -> None:
    """The first sentence stays; on a large screen all do."""
    view = MANY._replace(notes=["vm.panic_on_oom is 1: the kernel panics instead of killing"])
    lines = drawn(view, width=60, height=12)
    assert len(lines) == 12
    assert "one point of oom_score_adj" not in " ".join(lines)
    assert sum("hrome" in line for line in lines) == 5
    assert "one point of oom_score_adj" in " ".join(drawn(view))


def test_the_smallest_screen_has_processes_instead_of_the_summary() -> None:
    """And whole words of what the keys do."""
    lines = drawn(MANY, width=34, height=6)
    assert len(lines) == 6, lines
    assert sum("hro" in line for line in lines) == 2
    assert lines[0] == "1–2 of 26 · by kill order · q=quit"


def test_home_and_end_go_to_the_first_and_the_last() -> None:
    """As in less, also with g and G."""
    screen = watch.Screen()
    screen.view = MANY
    for key, shown in ((b"\x1b[F", "9–26 of 26"), (b"\x1b[H", "1–18 of 26"), (b"G", "9–26"), (b"g", "1–18")):
        screen.press(key)
        file = io.StringIO()
        out = Console(width=80, height=24, file=file)
        out.print(screen.frame(out))
        assert shown in file.getvalue()


def test_keys_sort_filter_and_quit(tmp_path: Path) -> None:
    """And the terminal is as it was."""
    with watched(tmp_path) as screen:
        screen.wait_for(b"by kill order")
        assert screen.settings != screen.before
        screen.type(b"m")
        screen.wait_for(b"by memory")
        screen.wait_for(b"+/MIN")
        screen.type(b"+")
        screen.wait_for(b"by growth")
        screen.type(b"/no such name")
        screen.wait_for(b"filter: no such name_")
        screen.type(b"\x1b")
        screen.wait_for(b"by growth")
        screen.type(b"/x\r")
        screen.wait_for(b"filter 'x'")
        screen.type(b"\x1b[B\x1b[6~\xc3\xa4Zq")
        screen.wait_for(LEFT)
        assert screen.process.wait(10) == 0
        assert screen.settings == screen.before


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP)],
)
def test_a_signal_leaves_the_terminal_as_it_was(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Ctrl-C is a way to quit; others end it as they end any program, after it has cleaned up."""
    with watched(tmp_path) as screen:
        screen.wait_for(b"PID")
        screen.process.send_signal(number)
        screen.wait_for(LEFT)
        assert screen.process.wait(10) == code
        assert screen.settings == screen.before


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(tmp_path: Path) -> None:
    """It stops like any program, and draws again when it is continued.

    It is in the session of these tests: the kernel stops nobody whom nobody could continue.
    """
    with watched(tmp_path) as screen:
        screen.stop()
        assert screen.settings == screen.before
        screen.process.send_signal(signal.SIGCONT)
        screen.wait_for(ENTERED)
        screen.type(b"q")
        screen.wait_for(LEFT)
        assert screen.process.wait(10) == 0


def test_a_terminal_that_is_closed_meanwhile_ends_it(tmp_path: Path) -> None:
    """As a closed terminal ends any program: not with a traceback."""
    with watched(tmp_path) as screen:
        screen.stop()
        screen.hang_up()
        screen.process.send_signal(signal.SIGCONT)
        assert screen.process.wait(10) == -signal.SIGHUP


def test_no_color_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left are the movements of the cursor."""
    monkeypatch.setenv("NO_COLOR", "1")
    with watched(tmp_path) as screen:
        screen.wait_for(b"PID")
        screen.wait_for(b"q=quit")
        assert b"\x1b[3" not in screen.seen
        screen.type(b"q")
        assert screen.process.wait(10) == 0


def test_keys_are_read_from_any_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """select(2) knows none above 1023."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < 2048:
        pytest.skip("this process may not have so many descriptors")
    ours, theirs = pty.openpty()
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 2048), limits[1]))
    try:
        with open(fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 1500), "r+b", buffering=0) as raw:
            terminal = io.TextIOWrapper(raw)
            monkeypatch.setattr(sys, "stdin", terminal)
            monkeypatch.setattr(sys, "stdout", terminal)
            with Terminal() as screen:
                os.write(ours, b"q")
                assert screen.wait(5) == [b"q"]
            monkeypatch.undo()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        os.close(ours)
        os.close(theirs)
