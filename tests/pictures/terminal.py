"""Draw what the verbs print as docs/pictures/*.svg: `python tests/pictures/terminal.py [FOLDER]`.

The commands are real; the host that they look at is made of files, so that a picture changes only when what
is printed does. `test_pictures.py` tells when it has.
"""

import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from fakeproc import FakeProc  # noqa: E402 - needs the path above
from oomguard.core.change import Outcome, SetOomScoreAdj  # noqa: E402
from oomguard.core.process import Identity, Process  # noqa: E402
from oomguard.daemon.loop import Loop  # noqa: E402
from oomguard.daemon.status_writer import Matched, StatusWriter  # noqa: E402
from oomguard.kernel.procfs import Procfs  # noqa: E402
from oomguard.policy.load import load  # noqa: E402
from oomguard.reconcile.ledger import Ledger  # noqa: E402
from oomguard.reconcile.reconciler import Reconciler  # noqa: E402
from oomguard.reconcile.state_folder import open_state_folder  # noqa: E402
from oomguard.report.journal import StreamSink  # noqa: E402
from oomguard.report.reporter import Degradations, Reporter  # noqa: E402

WIDTH = 80
PICTURES = ROOT / "docs" / "pictures"
POLICY = """\
vm:
  overcommit_memory: 2
  overcommit_ratio: 80
rules:
  - name: postgres
    unit: postgresql.service
    scope: main
    oom_score_adj: {at_most: -900}
  - name: report-gen
    oom_score_adj: 800
  - name: nginx
    oom_score_adj: -500
"""
GIB = 1 << 18  # in pages
MIB = 1 << 8
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_TIME_OF_DAY = re.compile(r"\b\d\d:\d\d:\d\d\b")
"""That of the drawing: a picture shows always the same, or it would change each time."""
_TAG = re.compile(r"<[^>]*>")
_STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)


def main() -> int:
    """Draw them all."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES
    for name, picture in pictures():
        (folder / f"{name}.svg").write_text(picture)
    return 0


def pictures() -> Iterator[tuple[str, str]]:
    """Yield each picture with its name."""
    with tempfile.TemporaryDirectory() as made:
        policy, before = made_host(Path(made))
        yield "plan", _picture("oomguard plan", ["plan", *policy, *before])
        yield "rank", _picture("oomguard rank", ["rank", *policy, *before])
        after = managed_host(Path(made))
        yield "status", _picture("oomguard status", ["status", *policy, *after])
        yield "overview", _picture("oomguard", [policy[1], after[3], after[1]])
    report = ROOT / "tests" / "reports" / "6.18-memcg-value-decides.txt"
    yield "postmortem", _picture("oomguard postmortem kern.log", ["postmortem", str(report)])


def made_host(folder: Path) -> tuple[list[str], list[str]]:
    """Make a host of files, and return the arguments that name its policy, its /proc and its state folder."""
    host = ["--proc", str(_host(folder).root), "--state-dir", str(folder / "state")]
    return ["--policy", str(folder / "oomguard.yaml")], host


def managed_host(folder: Path) -> list[str]:
    """Make the same host with a daemon that has applied the policy; return the arguments that name it."""
    proc = _host(folder / "managed")
    for name, value in (("vm.overcommit_memory", 2), ("vm.overcommit_ratio", 80)):
        proc.sysctl(name, value)
    for pid, value in ((812, -900), (1377, 800), (1402, -500), (1403, -500)):
        proc.set_oom_score_adj(pid, value)
    proc.meminfo(MemTotal=16 << 20, SwapTotal=2 << 20, Committed_AS=5 << 20, MemAvailable=9 << 20)
    return ["--proc", str(proc.root), "--state-dir", str(_state(folder / "managed"))]


def text_of(picture: str) -> str:
    """Return the words of a picture, without how they are set."""
    return " ".join(_TAG.sub(" ", _STYLE.sub("", picture)).replace("&#160;", " ").split())


_IN_ORDER = """\
import sys
import oomguard.cli.overview
import oomguard.diagnose.this_host
from fakeproc import FakeKernel
from oomguard.__main__ import main
from oomguard.core.decide import Rights
oomguard.diagnose.this_host.Procfs = FakeKernel
oomguard.diagnose.this_host.own_rights = lambda: Rights(0)
is_verb = sys.argv[1] in ("plan", "rank", "status", "postmortem")
sys.exit(main() if is_verb else oomguard.cli.overview.run(*sys.argv[1:]))
"""
"""The program, where folders are listed in the order of pids as /proc is, and not of their file system."""


def _picture(shown: str, arguments: list[str]) -> str:
    """Run a verb as on a terminal of 80 columns, and draw what it prints."""
    environment = {**os.environ, "COLUMNS": str(WIDTH), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", _IN_ORDER, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode in (0, 3), done.stderr
    screen = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    screen.print(f"[bold green]$[/] [bold]{shown}[/]", highlight=False)
    screen.print(Text.from_ansi(_TIME_OF_DAY.sub("09:12:04", done.stdout)))
    name = shown.split()[-1] if len(shown.split()) < 3 else shown.split()[1]
    drawn = _FONT.sub("", screen.export_svg(title="oomguard", unique_id=f"oomguard-{name}"))
    return drawn.replace("<svg ", '<svg xml:space="preserve" ', 1)


def _host(folder: Path) -> FakeProc:
    """Make a host with a database, a server, a batch job and a desktop's leftovers."""
    proc = FakeProc(folder / "proc")
    proc.meminfo(MemTotal=16 << 20, SwapTotal=2 << 20, Committed_AS=5 << 20, MemAvailable=9 << 20)
    for sysctl, value in (("vm.overcommit_memory", 0), ("vm.overcommit_ratio", 50), ("vm.panic_on_oom", 0)):
        proc.sysctl(sysctl, value)
    proc.sysctl("vm.overcommit_kbytes", 0)
    proc.sysctl("vm.admin_reserve_kbytes", 8192)
    proc.sysctl("vm.user_reserve_kbytes", 131072)
    service = "/system.slice/postgresql.service"
    for pid, parent, comm, uid, cgroup, value, pages, score in (
        (1, 0, "systemd", 0, "/init.scope", 0, 3 * MIB, 0),
        (412, 1, "systemd-journal", 0, "/system.slice/systemd-journald.service", -250, 20 * MIB, 500),
        (640, 1, "sshd", 0, "/system.slice/ssh.service", -1000, 6 * MIB, 0),
        (731, 1, "oomguard", 0, "/system.slice/oomguard.service", -1000, 14 * MIB, 0),
        (812, 1, "postgres", 4242, service, 0, 2 * GIB, 800),
        (813, 812, "postgres", 4242, service, 0, 1 * GIB, 733),
        (1377, 1, "report-gen", 4242, "/user.slice/user-4242.slice/session-3.scope", 0, 900 * MIB, 725),
        (1402, 1, "nginx", 0, "/system.slice/nginx.service", 0, 90 * MIB, 672),
        (1403, 1402, "nginx", 33, "/system.slice/nginx.service", 0, 60 * MIB, 670),
        (2001, 1, "nginx", 4242, "/user.slice/user-4242.slice/session-3.scope", 0, 40 * MIB, 669),
    ):
        process = Process(
            Identity(pid, pid), comm.encode(), parent, uid=uid, cgroup=cgroup, oom_score_adj=value
        )
        proc.process(process)
        proc.hold(pid, rss_pages=pages, score=score)
    (folder / "oomguard.yaml").write_text(POLICY)
    (folder / "oomguard.yaml").chmod(0o644)
    return proc


def _state(folder: Path) -> Path:
    """Write what a daemon on that host would have put into its status file."""
    state = folder / "state"
    state.mkdir()
    policy = load(str(folder / "oomguard.yaml")).policy
    rules = [rule._replace(file="/etc/oomguard.yaml") for rule in policy.rules]
    digest = hashlib.sha256(POLICY.encode()).hexdigest()
    path = "/etc/oomguard.yaml"
    policy = policy._replace(path=path, files=(path,), rules=rules, digest=digest)
    reporter = Reporter(StreamSink(io.StringIO()))
    changes = ((1377, b"report-gen", 0, 800, 1), (812, b"postgres", 0, -900, 0), (1402, b"nginx", 0, -500, 2))
    for pid, comm, before, after, rule in changes:
        change = SetOomScoreAdj(Identity(pid, pid), comm, before, after, before, "exec", rules[rule])
        reporter.outcome(Outcome(change, "applied"), 0.0)
    now, procfs = time.time(), Procfs(str(folder / "proc"))
    opened = open_state_folder(str(state))
    writer = StatusWriter(Loop(), opened, procfs, Identity(731, 731), reporter, Degradations(reporter))
    status = writer.collect(
        Reconciler(policy, Ledger(), procfs),
        Matched(rules, {812: 0, 1377: 1, 1402: 2, 1403: 2}, ()),
        watches=4,
    )
    recent = tuple(change._replace(at=now) for change in status.recent)
    writer.write(
        status._replace(version="0.1.0", started_at=now - 3 * 86400 - 600, recent=recent, passes=5190)
    )
    return state


if __name__ == "__main__":
    sys.exit(main())
