"""The manual pages: complete, current, and without a warning."""

import argparse
import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest
from manual import FOLDER, PAGES, page

from oomguard.cli import main
from oomguard.cli.main import build_parser
from oomguard.core.choices import Cause
from oomguard.core.errors import OomguardError
from oomguard.core.policy import DEFAULT_PATH, layers
from oomguard.policy.fault import PolicyError
from oomguard.policy.load import load
from oomguard.reconcile import flight_recorder, ledger, state_folder
from oomguard.reconcile.peak_file import PeakFile
from oomguard.reconcile.policy_cache import PolicyCache
from oomguard.report.events import APPLIED, LogEntry
from oomguard.report.journal import encode
from oomguard.report.status_file import STATUS_FILE
from test_readme import VERBS

ROOT = FOLDER.parents[1]
SOURCE = ROOT / "src" / "oomguard"
COMMANDS = (FOLDER / "oomguard.8").read_text()
POLICY = (FOLDER / "oomguard.yaml.5").read_text()


def section(text: str, title: str) -> str:
    """Return what stands below a heading."""
    found = text.partition(f"\n.Sh {title}\n")[2].partition("\n.Sh ")[0]
    assert found, f"there is no section {title}"
    return found


def items(text: str, macro: str) -> set[str]:
    """Return what the items of a section are about: `.It Va MESSAGE`, `.It Dv SIGTERM , SIGINT`."""
    terms = re.findall(rf"^\.It {macro} ?(.*)$", text, re.MULTILINE)
    return {word for term in terms for word in term.replace("\\-", "-").split() if word != ","}


def calls(path: Path) -> list[ast.Call]:
    """Return every call in a module."""
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]


def called(call: ast.Call) -> str:
    """Return the last part of the name of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


@pytest.mark.parametrize("name", PAGES)
def test_what_is_made_from_the_code_is_current(name: str) -> None:
    """Verbs, options, messages, keys, sysctls. If this fails, run `python docs/man/manual.py`."""
    assert (FOLDER / name).read_text() == page(name)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(
    "command",
    [
        ["mandoc", "-Tlint", "-Wwarning"],
        ["groff", "-ww", "-mdoc", "-Tutf8", "-Kutf8", "-P-c"],
        ["man", "--warnings", "-l"],
    ],
    ids=lambda command: command[0],
)
def test_pages_are_set_without_a_warning(name: str, command: list[str]) -> None:
    """By each program a reader may have."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    done = subprocess.run(
        [*command, FOLDER / name],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    if command[0] != "mandoc":
        assert "oomguard" in done.stdout
        assert "BSD" not in done.stdout  # which groff calls every manual
    else:
        assert done.stdout == ""


def test_every_field_of_an_entry_is_described() -> None:
    """And no other. If this fails, change the list in THE JOURNAL of docs/man/oomguard.8."""
    written = set(re.findall(r"^(\w+)=", encode(LogEntry(APPLIED, "x", {})).decode(), re.MULTILINE))
    for path in (SOURCE / "report").glob("*.py"):
        written |= set(re.findall(r'"(OOMGUARD_[A-Z_]+|OBJECT_[A-Z_]+)"', path.read_text()))
    for path in SOURCE.rglob("*.py"):
        for call in calls(path):
            if called(call) == "say":
                written |= {f"OOMGUARD_{keyword.arg}" for keyword in call.keywords if keyword.arg}
    assert items(section(COMMANDS, "THE JOURNAL"), "Va") == written


def test_every_cause_is_described() -> None:
    """Each word that OOMGUARD_CAUSE can be."""
    assert items(section(COMMANDS, "THE JOURNAL"), "Cm") == set(get_args(Cause))


def test_every_exit_status_is_described() -> None:
    """What the verbs say they end with, what errors end with, and what `__main__` adds."""
    known = {"2"}  # argparse
    for parser in (build_parser(), *verb_parsers()):
        said = re.search(r"exit codes?:(.*)", parser.epilog or "", re.DOTALL)
        known |= set(re.findall(r"(?<!\w)\d+\b", said[1])) if said else set()
    known |= {str(error.exit_code) for error in (OomguardError, PolicyError)}
    known |= set(re.findall(r"return (\d+)\b", (SOURCE / "__main__.py").read_text()))
    assert items(section(COMMANDS, "EXIT STATUS"), "") == known


def verb_parsers() -> list[argparse.ArgumentParser]:
    """Return the parser of each verb."""
    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return [*action.choices.values()]
    raise AssertionError("the parser has no verbs")


def test_every_signal_is_described() -> None:
    """Each that the daemon acts on; and SIGKILL, which nobody can."""
    handled = {"SIGKILL"}
    for path in (SOURCE / "daemon").glob("*.py"):
        for call in calls(path):
            if called(call) == "on_signal":
                handled.add(ast.unparse(call.args[0]).removeprefix("signal."))
    assert items(section(COMMANDS, "SIGNALS"), "Dv") == handled


def test_every_variable_of_the_environment_is_described() -> None:
    """Each that is read, NOTIFY_SOCKET by sdnotify and COLUMNS by rich."""
    read = {"NOTIFY_SOCKET", "COLUMNS"}
    for path in SOURCE.rglob("*.py"):
        read |= set(re.findall(r'os\.environ\.get\("(\w+)"', path.read_text()))
    assert items(section(COMMANDS, "ENVIRONMENT"), "Ev") == read


def test_every_file_is_described() -> None:
    """The policy, what is kept in the state folder, and what is installed below /usr for people to read."""
    files = {f"{path}/*.yaml" if is_folder else path for path, is_folder in layers(DEFAULT_PATH)}
    files |= {f"{state_folder.RUN_FOLDER}/{name}" for name in (ledger._FILE, state_folder._LOCK, STATUS_FILE)}
    files |= {f"{state_folder.RUN_FOLDER}/{flight_recorder.FILE}"}
    files |= {PeakFile(state_folder.RUN_FOLDER).path, PolicyCache(state_folder.RUN_FOLDER).path}
    files |= {
        f"/usr/share/oomguard/{name}"
        for name in ("oomguard.yaml", "oomguard.schema.json", "oomguard-cases.schema.json")
    }
    files.add("/usr/share/doc/oomguard")
    units = {"system/oomguard.service", "system/oomguard-exporter.service", "user/oomguard-notify.service"}
    files |= {f"/usr/lib/systemd/{name}" for name in (*units, "catalog/oomguard.catalog")}
    assert items(section(COMMANDS, "FILES"), "Pa") == files
    assert ledger._DAMAGED in section(COMMANDS, "FILES")


@pytest.mark.parametrize("text", [COMMANDS, POLICY], ids=PAGES)
def test_commands_shown_are_ones_that_the_parser_takes(text: str) -> None:
    """Where a line or a quotation begins with oomguard and a verb."""
    text = text.replace("\\-", "-")
    blocks = "".join(re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", text, re.MULTILINE | re.DOTALL))
    shown = re.findall(r"^oomguard ([a-z].*)$", blocks, re.MULTILINE)
    shown += re.findall(r'^\.Ql "?oomguard ([a-z][^"\n]*?)"?(?: [.,:;?)]+)?$', text, re.MULTILINE)
    assert shown
    for command in shown:
        words = shlex.split(re.split(r" {2,}| >|;|&&", command)[0])
        assert words[0] in VERBS, command
        if len(words) > 1:
            prepare = next(verb.prepare for verb in main.VERBS if verb.name == words[0])
            build_parser().parse_args([words[0], *prepare(words[1:])])


def test_the_policy_shown_is_valid(tmp_path: Path) -> None:
    """The loader takes it without an error."""
    block = section(POLICY, "A POLICY").partition(".Bd -literal -offset 2n\n")[2].partition(".Ed")[0]
    shown = tmp_path / "shown.yaml"
    shown.write_text(block.replace("\\-", "-"))
    shown.chmod(0o644)
    assert len(load(str(shown)).policy.rules) == 5
