"""Command lines that cannot work: the answer names the one that was meant, and the exit code is 2."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from oomguard.__main__ import main
from oomguard.cli.main import VERBS, build_parser, run_verb
from oomguard.cli.verb import Parser, Verb
from oomguard.core.policy import DEFAULT_PATH
from oomguard.reconcile.state_folder import RUN_FOLDER
from oomguard.report.events import EVENTS
from running import as_user

ROOT = Path(__file__).parents[2]
LOG_HELP = "oomguard log --help"
NAMES = [event.name for event in EVENTS]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("--policy f.yaml plan", "oomguard: --policy goes after the verb: oomguard plan --policy f.yaml"),
        ("--policy=f.yaml plan", "oomguard: --policy goes after the verb: oomguard plan --policy=f.yaml"),
        ("--json plan --restore", "oomguard: --json goes after the verb: oomguard plan --json --restore"),
        ("--policy plan check", "oomguard: --policy goes after the verb: oomguard check --policy plan"),
        ("--polcy f plan", "oomguard: no option --polcy; did you mean: oomguard plan --policy f"),
        ("--frobnicate plan", "oomguard: no option --frobnicate; see oomguard plan --help"),
        ("--policy f.yaml", "oomguard: no option --policy without a verb; see oomguard --help"),
        ("plna", "oomguard: no verb plna; did you mean plan?"),
        ("frobnicate", "oomguard: no verb frobnicate; see oomguard --help"),
        ("version", "oomguard: no verb version; use: oomguard --version"),
        ("validate f.yaml", "oomguard: no verb validate; use: oomguard check"),
        (
            "reload",
            "oomguard: no verb reload; the daemon loads an edited policy by itself; see oomguard status",
        ),
        ("restart", "oomguard: no verb restart; use: systemctl restart oomguard"),  # not restore
        ("-V", "oomguard: no option -V without a verb; use: oomguard --version"),
        ("plan -f f.yaml", "oomguard plan: no option -f; did you mean --policy?"),
        ("plan --config f.yaml", "oomguard plan: no option --config; did you mean --policy?"),
        ("restore -f f.yaml", "oomguard restore: no option -f; see oomguard restore --help"),
        ("plan --polcy f.yaml", "oomguard plan: no option --polcy; did you mean --policy?"),
        ("plan --polcy=f.yaml", "oomguard plan: no option --polcy; did you mean --policy?"),
        ("plan --frob", "oomguard plan: no option --frob; see oomguard plan --help"),
        ("restore --policy f", "oomguard restore: no option --policy; see oomguard restore --help"),
        ("import", "oomguard import: TOOL is missing: one of earlyoom, nohang, ananicy, systemd, sysctl"),
        ("import earlyom", "oomguard import: no tool earlyom; did you mean earlyoom?"),
        (
            "import it's",
            "oomguard import: no tool it's; use one of earlyoom, nohang, ananicy, systemd, sysctl",
        ),
        ("explain", "oomguard explain: PID|NAME is missing: a pid, or a process name"),
        ("check - -", "oomguard check: standard input can be read only once"),
        ("check --policy - -", "oomguard check: standard input can be read only once"),
        ("postmortem --policy - -", "oomguard postmortem: standard input can be read only once"),
        ("log --cause exce", "oomguard log: no cause exce; did you mean exec?"),
        (
            "log -n x",
            "oomguard log: --lines must be a number from 0 to 999999999, got 'x'; see oomguard log --help",
        ),
        ("log -n", "oomguard log: --lines needs a value: --lines N"),
        (
            f"log -n {10**20}",
            f"oomguard log: --lines must be a number from 0 to 999999999, got '{10**20}'; see {LOG_HELP}",
        ),
        ("rank --interval 7", "oomguard rank: --interval needs --watch; see oomguard rank --help"),
        (
            "plan --restore --policy f",
            "oomguard plan: --policy cannot be combined with --restore; see oomguard plan --help",
        ),
        (
            "rank --json --watch",
            "oomguard rank: --watch cannot be combined with --json; see oomguard rank --help",
        ),
        ("plan --json=3", "oomguard plan: --json takes no value; see oomguard plan --help"),
        ("apply --dry-run", "oomguard apply: no option --dry-run; use: oomguard plan"),
        ("restore --dry-run", "oomguard restore: no option --dry-run; use: oomguard plan --restore"),
        ("run -n", "oomguard run: no option -n; use: oomguard plan"),
        ("rank -n 3", "oomguard rank: no option -n; did you mean --limit?"),
        ("plan -n", "oomguard plan: no option -n; see oomguard plan --help"),
        ("help plna", "oomguard: no verb plna; did you mean plan?"),
        ("plan f.yaml", "oomguard plan: takes no file name; did you mean --policy f.yaml?"),
        ("plan ./f", "oomguard plan: takes no file name; did you mean --policy ./f?"),
        ("run -", "oomguard run: takes no argument -; see oomguard run --help"),
        ("plan nginx", "oomguard plan: takes no argument nginx; see oomguard plan --help"),
        ("plan -- nginx", "oomguard plan: takes no argument nginx; see oomguard plan --help"),
        ("plan --", "oomguard plan: no option --; see oomguard plan --help"),
        (
            "rank --watch --limit 5",
            "oomguard rank: --limit cannot be combined with --watch, which scrolls; see oomguard rank --help",
        ),
        ("schema f.yaml", "oomguard schema: takes no argument f.yaml; see oomguard schema --help"),
        ("plan --policy", "oomguard plan: --policy needs a value: --policy FILE"),
        ("plan --pol", "oomguard plan: --policy needs a value: --policy FILE"),
        ("plan --p x", "oomguard plan: no option --p; did you mean --policy or --proc?"),
        ("check --s", "oomguard check: no option --s; did you mean --state-dir or --strict?"),
        ("log --since -1h --lines", "oomguard log: --lines needs a value: --lines N"),
        ("log --since --json", "oomguard log: --since needs a value: --since TIME"),
        ("log --since -1h --until -f", "oomguard log: --until needs a value: --until TIME"),
        ("log --event a", f"oomguard log: no event a; use one of {', '.join(NAMES)}, all"),
    ],
)
def test_a_wrong_command_line_is_answered_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, answer: str
) -> None:
    """With the right one where it can be told."""
    monkeypatch.setattr(sys, "argv", ["oomguard", *line.split()])
    with pytest.raises(SystemExit) as caught:
        main()
    captured = capsys.readouterr()
    assert (caught.value.code, captured.out, captured.err) == (2, "", f"{answer}\n")


@pytest.mark.parametrize(("words", "option"), [("help", "--help"), ("help plan", "plan --help")])
def test_help_is_what_the_option_shows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, option: str
) -> None:
    """As a verb, of the program or of another verb."""
    shown = []
    for line in (words, option):
        monkeypatch.setattr(sys, "argv", ["oomguard", *line.split()])
        with pytest.raises(SystemExit) as caught:
            main()
        shown.append((caught.value.code, capsys.readouterr().out))
    assert shown[0] == shown[1]
    assert shown[0][0] == 0


def oomguard(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run the program with `text` on its standard input."""
    command = [sys.executable, "-P", "-m", "oomguard", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("arguments", [("-",), ("--policy", "-")])
def test_check_reads_standard_input(arguments: tuple[str, ...]) -> None:
    """As a file by itself."""
    done = oomguard("check", *arguments, text="rules: []\n")
    assert (done.returncode, done.stdout) == (0, "<stdin>: valid, 0 rules and 0 sysctls from <stdin>\n")
    done = oomguard("check", *arguments, text="vm: {swapiness: 1}\n")
    assert done.returncode == 78
    assert done.stdout.startswith("<stdin>:1:6: vm.swapiness: ")


def test_a_warning_about_this_host_calls_standard_input_what_others_call_it(tmp_path: Path) -> None:
    """There is no file called `-`."""
    rival = shutil.copy("/bin/sleep", tmp_path / "ananicy-cpp")
    with subprocess.Popen([rival, "60"]) as sleeping:
        text = "rules: [{name: x, oom_score_adj: 1}]\n"
        done = oomguard("check", "--host", "--policy", "-", "--state-dir", str(tmp_path), text=text)
        sleeping.kill()
    assert "<stdin>: warning: ananicy-cpp (pid " in done.stdout
    assert not [line for line in done.stdout.splitlines() if line.startswith("-:")]


def test_plan_reads_standard_input(tmp_path: Path) -> None:
    """And so does every verb that reads its policy once."""
    done = oomguard("plan", "--policy", "-", "--state-dir", str(tmp_path), text="rules: []\n")
    assert done.returncode == 0, done.stderr


def test_check_takes_files_each_by_itself(tmp_path: Path) -> None:
    """Whoever may write them in a work tree, and without the drop-ins beside them."""
    good, bad = tmp_path / "oomguard.yaml", tmp_path / "bad.yaml"
    good.write_text("vm: {swappiness: 1}\n")
    good.chmod(0o666)
    (tmp_path / "oomguard.d").mkdir()
    (tmp_path / "oomguard.d" / "a.yaml").write_text("vm: {swappiness: 2}\n")
    bad.write_text("vm: {swapiness: 1}\n")
    assert oomguard("check", "--policy", str(good)).returncode == 78
    done = oomguard("check", str(good))
    assert (done.returncode, done.stdout) == (0, f"{good}: valid, 0 rules and 1 sysctl from {good}\n")
    done = oomguard("check", str(good), str(bad))
    assert done.returncode == 78
    assert f"{good}: valid" in done.stdout
    assert f"{bad}:1:6: vm.swapiness" in done.stdout
    done = oomguard("check", "--json", str(bad), str(good), str(bad))
    assert [fault["file"] for fault in json.loads(done.stdout)] == [str(bad), str(bad)]


def test_the_hook_for_pre_commit_checks_policies_and_drop_ins() -> None:
    """Its command is one that there is, and it is for the files that users have."""
    hook, _ = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    program, *words = hook["entry"].split()
    assert program == "oomguard"
    options = build_parser().parse_args([*words, "etc/oomguard.yaml", "etc/oomguard.d/a.yaml"])
    assert options.strict
    assert options.files == ["etc/oomguard.yaml", "etc/oomguard.d/a.yaml"]
    for file, is_policy in {
        "oomguard.yaml": True,
        "etc/oomguard.yaml": True,
        "roles/x/files/oomguard.d/10-db.yaml": True,
        "not-oomguard.yaml": False,
        "oomguard.d/a.yml": False,
    }.items():
        assert bool(re.search(hook["files"], file)) == is_policy, file


def is_default(words: str, option: str, path: str) -> bool:
    """Return whether this path is the default of the option."""
    options = build_parser().parse_args([*words.split(), option, path])
    default = {"--policy": DEFAULT_PATH, "--state-dir": RUN_FOLDER}[option]
    return bool(getattr(options, option.strip("-").replace("-", "_")) == default)


@pytest.mark.parametrize(
    "words",
    ["cat", "check", "plan", "apply", "run", "status", "rank", "explain 1", "test a.yaml", "postmortem"],
)
def test_the_default_policy_is_the_same_file_however_it_is_written(
    monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """It has more layers than another file would, for the daemon and for what previews it."""
    monkeypatch.chdir("/etc")
    for path, meant in (("oomguard.yaml", True), ("/etc//oomguard.yaml", True), ("x/oomguard.yaml", False)):
        assert is_default(words, "--policy", path) is meant


@pytest.mark.parametrize(
    "words",
    ["check", "plan", "apply", "run", "restore", "status", "explain 1", "rank", "advise", "history"],
)
def test_the_state_folder_of_the_host_is_the_same_however_it_is_written(
    monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """A shell completes it with a slash. What survives a reboot is not in it, as it is in any other."""
    monkeypatch.chdir("/run")
    for path, meant in (("oomguard", True), ("/run/oomguard/", True), ("/run/other", False)):
        assert is_default(words, "--state-dir", path) is meant


def test_run_does_not_read_standard_input() -> None:
    """The daemon reads its policy again when it changes."""
    done = oomguard("run", "--policy", "-")
    assert done.returncode == 2
    assert "write it to a file" in done.stderr
    assert "standard input" not in oomguard("run", "--help").stdout


@pytest.mark.parametrize("policy", ["", " --policy mine.yaml"])
def test_run_without_root_names_the_folder_to_use(policy: str) -> None:
    """Where the folder in /run is not its own; with the policy that was given."""
    command = [*as_user(65534), sys.executable, "-P", "-m", "oomguard", "run", *policy.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        [
            "oomguard: run needs root to manage other users' processes; for your own:",
            f'  oomguard run{policy} --state-dir "$XDG_RUNTIME_DIR/oomguard"',
        ],
    )


def test_run_says_which_file_it_cannot_start(tmp_path: Path) -> None:
    """As where a virtual environment leads to an interpreter in the home of root."""
    words = ["oomguard", "run", "--state-dir", str(tmp_path)]
    program = (
        "import sys; from oomguard.__main__ import main\n"
        f"sys.executable, sys.argv = '/nonexistent/python', {words}\n"
        "sys.exit(main())"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr == (
        "oomguard: /nonexistent/python cannot be started: No such file or directory\n"
        "  this user must be able to enter all folders above it\n"
    )


def test_help_fits_into_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That of every verb, without a broken word: what is written by hand is not wrapped by argparse."""
    monkeypatch.setenv("COLUMNS", "80")
    parser = build_parser()
    summary = parser.format_help()
    verbs = re.findall(r"^    ([a-z]+)(?: |$)", summary, re.MULTILINE)
    assert {"check", "postmortem", "schema"} <= set(verbs)
    for verb in verbs:
        with pytest.raises(SystemExit):
            parser.parse_args([verb, "--help"])
    shown = summary + capsys.readouterr().out
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    assert re.search(r"^    postmortem +explain", shown, re.MULTILINE)
    assert [name for name in NAMES if name not in shown] == []


@pytest.mark.parametrize("verb", VERBS, ids=[one.name for one in VERBS])
def test_nothing_takes_an_empty_word(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    """As from a variable that is not set: neither an option nor an argument, and not the verb."""
    parser = Parser(exit_on_error=False)
    verb.add_arguments(parser)
    named = {max(one.option_strings, key=len): one for one in parser.options.values() if one.nargs is None}
    lines = [([f"{name}="], f"{name} needs a value: {name} {one.metavar}") for name, one in named.items()]
    lines += [([words[0][:-1], ""], answer) for words, answer in lines]
    lines += [
        (words, f"an argument is empty; see oomguard {verb.name} --help") for words in ([""], ["--", ""])
    ]
    for words, answer in lines:
        with pytest.raises(SystemExit) as caught:
            run_verb([verb.name, *words])
        assert caught.value.code == 2
        assert capsys.readouterr().err == f"oomguard {verb.name}: {answer}\n"


def test_there_is_no_empty_verb(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor another empty word before one."""
    with pytest.raises(SystemExit):
        run_verb([""])
    assert capsys.readouterr().err == "oomguard: no verb ''; see oomguard --help\n"
