"""Every verb with the standard streams that callers leave it: not UTF-8, closed, full, or read by nobody."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oomguard.cli.main import build_parser
from oomguard.policy.load import load
from oomguard.report import streams
from oomguard.report.streams import set_up
from running import Program, oom_score_adj, running
from test_readme import VERBS

NAME = f"og-{os.getpid()}"
REPORT = Path(__file__).parents[1] / "reports" / "6.12-host.txt"

AS_IS = 'exec "$@"'

CONDITIONS = {
    "UTF-8": ("utf-8", AS_IS),
    "ASCII": ("ascii", AS_IS),
    "Latin-1": ("iso-8859-1", AS_IS),
    "no standard input": ("ascii", 'exec "$@" <&-'),
    "no standard output": ("ascii", 'exec "$@" >&-'),
    "no standard error": ("ascii", 'exec "$@" 2>&-'),
    "none of the three": ("ascii", 'exec "$@" <&- >&- 2>&-'),
}
"""By name, the encoding of the streams and the shell that starts a verb."""


def test_where_the_working_folder_was_removed_that_is_said(tmp_path: Path) -> None:
    """The kernel names no file then."""
    gone = tmp_path / "gone"
    gone.mkdir()
    command = [
        "sh",
        "-c",
        'rmdir "$PWD" && exec "$@"',
        "sh",
        sys.executable,
        "-m",
        "oomguard",
        "check",
        "--policy=x",
    ]
    done = subprocess.run(command, cwd=gone, capture_output=True, text=True, check=False)
    said = (
        "oomguard: No such file or directory: the working folder\n  it was removed: change to another one\n"
    )
    assert (done.returncode, done.stderr) == (1, said)


class Caller:
    """Calls verbs on a policy with one rule, for a program that has its value to itself."""

    def __init__(self, folder: Path) -> None:
        self.program = Program(folder, NAME)
        self.policy = folder / "policy.yaml"
        self.policy.write_text(f"# → …\nrules:\n  - name: {NAME}\n    oom_score_adj: 500\n")
        self.policy.chmod(0o644)
        self.cases = folder / "cases.yaml"
        self.cases.write_text(f"cases: [{{case: →, processes: [{{name: {NAME}, expect: 500}}]}}]\n")
        self.units = folder / "units"
        self.units.mkdir()
        (self.units / "a.service").write_text(f"[Service]\nOOMScoreAdjust=5\n# {NAME}\n")
        self.state = folder / "state"
        self.pid = self.program.start()

    def calls(self) -> "list[tuple[str, int, list[str]]]":
        """Return each verb with the exit code it has, in an order in which each has something to say."""
        policy = ["--policy", str(self.policy)]
        both = [*policy, "--state-dir", str(self.state)]
        return [
            ("check", 0, policy),
            ("cat", 0, policy),
            ("test", 0, [*policy, str(self.cases)]),
            ("plan", 3, both),
            ("apply", 0, both),
            ("explain", 0, [str(self.pid), *both]),
            ("rank", 0, ["--limit=0", *both]),
            ("status", 0, both),
            ("restore", 0, ["--state-dir", str(self.state)]),
            ("postmortem", 0, [*policy, str(REPORT)]),
            ("import", 0, ["systemd", str(self.units)]),
            ("exporter", 0, ["--textfile=-", "--state-dir", str(self.state)]),
            ("advise", 0, ["--state-dir", str(self.state)]),
            ("schema", 0, []),
            ("log", 1, ["--since=not a time"]),
            ("history", 1, ["--state-dir", str(self.state)]),
        ]

    def call(
        self, verb: str, arguments: list[str], encoding: str, shell: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a verb in a bare environment."""
        command = ["sh", "-c", shell, "sh", sys.executable, "-m", "oomguard", verb, *arguments]
        environment = {"PATH": os.environ["PATH"], "PYTHONIOENCODING": encoding}
        return subprocess.run(command, env=environment, check=False, capture_output=True, timeout=120)


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Caller]:
    """Return what calls verbs; restore, last, leaves the program as it was."""
    made = Caller(tmp_path)
    yield made
    made.program.end()


def test_every_verb_is_called_here(caller: Caller) -> None:
    """But `run` and `notify`, which do not end."""
    assert {verb for verb, _, _ in caller.calls()} | {"run", "notify"} == set(VERBS)
    for verb, _, arguments in caller.calls():
        build_parser().parse_args([verb, *arguments])


@pytest.mark.parametrize("condition", CONDITIONS)
def test_no_verb_minds_what_its_streams_are(caller: Caller, condition: str) -> None:
    """Each does what it does, and ends as it does elsewhere; no line ends with spaces."""
    encoding, shell = CONDITIONS[condition]
    for verb, code, arguments in caller.calls():
        done = caller.call(verb, arguments, encoding, shell)
        assert (verb, done.returncode, b"Traceback" in done.stderr) == (verb, code, False), done.stderr
        assert re.findall(" \n", done.stdout.decode(encoding)) == []
        if verb == "apply":
            assert oom_score_adj(caller.pid) == 500
            wanted = {"utf-8": "0 → 500", "ascii": "0 -> 500", "iso-8859-1": "0 -> 500"}[encoding]
            assert (wanted in done.stdout.decode(encoding)) == (">&- " not in f"{shell} ".replace("2>&-", ""))
        elif verb == "restore":
            assert oom_score_adj(caller.pid) == 0


@pytest.mark.parametrize("gone", [False, True], ids=["a full disk", "a reader that went away"])
def test_output_that_cannot_be_written_is_no_success(caller: Caller, gone: bool) -> None:
    """As oomguard(8) has it: 1 for what failed, 141 for a reader that went away."""
    reader, pipe = os.pipe()
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)
    code, said = (141, b"") if gone else (1, b"oomguard: No space left on device: standard output\n")
    try:
        asked = [("--help", []), ("--version", []), ("plan", ["--help"])]
        for verb, arguments in [*asked, *((verb, arguments) for verb, _, arguments in caller.calls())]:
            if verb in ("log", "history"):
                continue  # it has nothing to print here
            done = subprocess.run(
                [sys.executable, "-m", "oomguard", verb, *arguments],
                env={"PATH": os.environ["PATH"]},
                check=False,
                stdout=pipe if gone else full,
                stderr=subprocess.PIPE,
                timeout=120,
            )
            assert (verb, done.returncode, b"Traceback" in done.stderr) == (verb, code, False)
            assert done.stderr.endswith(said)
    finally:
        os.close(pipe)
        os.close(full)


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_a_policy_that_is_printed_is_one_in_any_locale(tmp_path: Path, encoding: str) -> None:
    """With the same effect, as `cat` promises."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text('rules: [{name: ["a→b", "café"], oom_score_adj: 300}]\n', encoding="utf-8")
    command = [sys.executable, "-m", "oomguard", "cat", "--policy", str(first)]
    with second.open("wb") as file:
        subprocess.run(
            command, stdout=file, env=os.environ | {"PYTHONIOENCODING": encoding}, check=True, timeout=60
        )
    assert load(str(second)).policy.rules[0].names == load(str(first)).policy.rules[0].names


def test_what_verbs_print_has_a_replacement_in_ascii() -> None:
    """An escape would be wider, and shift the columns of a table."""
    set_up()
    folder = Path(streams.__file__).parents[1]
    texts = (file.read_text() for layer in ("report", "cli") for file in (folder / layer).glob("*.py"))
    printed = sorted({character for text in texts for character in text if not character.isascii()})
    assert "▁" in printed
    assert [one for one in printed if b"\\" in one.encode("ascii", "oomguard")] == []


def test_a_daemon_starts_without_any_standard_stream(tmp_path: Path) -> None:
    """As something that forgot to open them may start it; its descriptors are not the ledger's."""
    wrapper = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    with running(tmp_path, "rules: []\n", wrapper=wrapper) as daemon:
        for descriptor in range(3):
            assert os.readlink(f"/proc/{daemon.process.pid}/fd/{descriptor}") == "/dev/null"
        assert daemon.stop() == 0


def test_what_the_daemon_says_reaches_a_terminal_that_is_not_utf8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With arrows that it can show, rather than not at all."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    program = Program(tmp_path, NAME)
    try:
        pid = program.start()
        policy = f"rules:\n  - name: {NAME}\n    oom_score_adj: 300\n"
        with running(tmp_path, policy) as daemon:
            daemon.wait_for(f"{NAME}[{pid}]: oom_score_adj 0 -> 300")
            assert daemon.stop() == 0
    finally:
        program.end()


@pytest.mark.parametrize("module", ["core.errors", "report.streams", "cli.main", "diagnose.host_status"])
def test_ctrl_c_while_modules_are_loaded_prints_no_traceback(module: str) -> None:
    """Whichever module of ours it is."""
    program = f"""
import sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == "oomguard.{module}":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
sys.argv[1:] = ["status"]
from oomguard.__main__ import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("verb", [["status"], ["plan", "--policy", "/dev/null"]])
def test_a_verb_without_memory_prints_no_traceback(verb: list[str]) -> None:
    """As where strict overcommit is used up: that is when an administrator asks."""
    program = f"""
import resource, sys
sys.argv[1:] = {verb}
import oomguard.cli.main, oomguard.diagnose.host_status, oomguard.policy.load
from oomguard.__main__ import main
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000, used + 200_000))
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not enough memory" in done.stderr or "Cannot allocate memory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["check", "plan"])
def test_lines_are_broken_for_a_terminal_only(tmp_path: Path, verb: str) -> None:
    """A fault goes on below its place, whether it is the answer or an error; in a pipe it is one line."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules: [{name: a, oom_score_adj: 2000}]\n")
    policy.chmod(0o644)
    command = [sys.executable, "-m", "oomguard", verb, "--policy", str(policy)]
    piped = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    ).stdout.decode()
    ours, theirs = pty.openpty()
    subprocess.run(command, stdout=theirs, stderr=theirs, env=os.environ | {"COLUMNS": "60"}, check=False)
    os.close(theirs)
    shown = os.read(ours, 65536).decode().splitlines()
    os.close(ours)
    assert len(piped.splitlines()) == 1
    assert len(shown) > 1
    assert [" ".join(line.strip() for line in shown)] == piped.splitlines()
    assert all(len(line) <= 60 for line in shown if "policy.yaml" not in line)


def test_warnings_fit_a_terminal_as_answers_do(tmp_path: Path) -> None:
    """Of a verb that goes on, and of the exporter."""
    missing = str(tmp_path / "none")
    for verb in (
        ("import", "earlyoom", "--prefer", "^chrome$"),
        ("exporter", "--state-dir", missing, "--textfile", str(tmp_path / "og.prom")),
    ):
        ours, theirs = pty.openpty()
        subprocess.run(
            [sys.executable, "-m", "oomguard", *verb],
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            env=os.environ | {"COLUMNS": "60"},
            check=True,
        )
        os.close(theirs)
        shown = os.read(ours, 65536).decode().splitlines()
        os.close(ours)
        assert len(shown) > 1, verb
        assert all(len(line) <= 60 for line in shown if missing not in line), verb
