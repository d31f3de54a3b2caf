"""A megabyte of whatever is dearest, for each parser that meets text which others choose.

Kernel logs are in core/test_hostile_log.py; a policy's patterns on command lines, reconcile/test_patterns.py.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cpu import cpu_bound
from oomguard.core.cgroup import in_system_service, parse_cgroup, system_unit, user_unit
from oomguard.core.errors import OomguardError
from oomguard.core.process import full_name
from oomguard.core.text import printable
from oomguard.foreign.sysctl_d import sysctls_said
from oomguard.foreign.tuned import tuned_sysctls
from oomguard.foreign.units import assignments, host_units
from oomguard.kernel.proc_files import parse_arguments
from oomguard.kernel.sysctl_files import parse_meminfo
from oomguard.oom.kill import parse_context, parse_group, parse_kill
from oomguard.oom.kmsg import parse_record
from oomguard.policy.fault import PolicyError
from oomguard.policy.load import parse
from oomguard.policy.regex_to_glob import globs
from oomguard.policy.source import Source
from oomguard.propose.importers import earlyoom
from oomguard.propose.importers.table import IMPORTERS, import_settings
from oomguard.report.log_entries import parse_entry
from oomguard.report.status_reader import decode_status

SIZE = 1_000_000
SECONDS = 10
"""Most take a tenth of a second. What is not linear takes minutes."""


def _imported(tool: str) -> Callable[[str, Path], object]:
    def read(text: str, folder: Path) -> object:
        file = folder / "a.service"  # the name that systemd's needs; others take any
        file.write_text(text)
        return import_settings(tool, [str(file)])

    return read


def _in_root(path: str, read: Callable[[str], object]) -> Callable[[str, Path], object]:
    def reader(text: str, folder: Path) -> object:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return read(str(folder))

    return reader


def _policy(text: str, _folder: Path) -> object:
    return parse((Source("a.yaml", text.encode()),))


def _cgroup(text: str, _folder: Path) -> object:
    path = parse_cgroup(text.encode())
    return system_unit(path), user_unit(path), in_system_service(path)


READERS: dict[str, Callable[[str, Path], object]] = {
    **{tool: _imported(tool) for tool in IMPORTERS},
    "a regular expression": lambda text, _: globs(text),
    "a unit": lambda text, _: [*assignments(text.split("\n"))],
    "a unit of the host": _in_root(
        "etc/systemd/system/a.service", lambda root: host_units(root).setting("a.service", "OOMScoreAdjust")
    ),
    "sysctl.d": _in_root("etc/sysctl.d/a.conf", sysctls_said),
    "TuneD": _in_root("etc/tuned/a/tuned.conf", lambda root: tuned_sysctls("a", root)),
    "the journal": lambda text, _: parse_entry(text.encode()),
    "the status file": lambda text, _: decode_status(text.encode(), "status.json"),
    "a policy": _policy,
    "a cgroup": _cgroup,
    "a command line": lambda text, _: full_name(b"a" * 15, parse_arguments(text.encode())),
    "a name": lambda text, _: printable(text),
    "meminfo": lambda text, _: parse_meminfo(text.encode()),
    "a kernel record": lambda text, _: parse_record(text),
    "a kill": lambda text, _: (parse_kill(text), parse_context(text), parse_group(text)),
}

_ENTRY = '{"__REALTIME_TIMESTAMP":"1","OOMGUARD_EVENT":"applied",'

TEXTS: dict[str, tuple[str, str]] = {
    # by reader: what it begins with, and what is repeated
    "earlyoom, one word": ("EARLYOOM_ARGS=", "a"),
    "earlyoom, options": ("EARLYOOM_ARGS='", "-n "),
    "earlyoom, lines of options": ("", f"EARLYOOM_ARGS='{'-n ' * 40_000}'\n"),
    "earlyoom, options in one word": ("EARLYOOM_ARGS='-", "n"),
    "earlyoom, groups": ("", f"EARLYOOM_ARGS=\"--prefer '{'(a)' * 1300}'\"\n"),
    "earlyoom, alternatives": ("", f"EARLYOOM_ARGS=\"--prefer '{'|'.join('abcdefgh')}'\"\n" * 100),
    "earlyoom, spaces": ("", " "),
    "nohang, digits": ("@BADNESS_ADJ_RE_NAME ", "1"),
    "nohang, words": ("", "a"),
    "nohang, groups": ("", f"@BADNESS_ADJ_RE_NAME 1 /// {'(a|b)' * 6}{'c' * 50}\n"),
    "ananicy, depth": ('{"name":', "["),
    "ananicy, digits": ('{"oom_score_adj":', "1"),
    "ananicy, rules": ("", '{"name":"a","oom_score_adj":1}\n'),
    "systemd, continued lines": ("", "a\\\n"),
    "systemd, digits": ("[Service]\nOOMScoreAdjust=", "1"),
    "systemd, wrong values": ("[Service]\n", "OOMScoreAdjust=x\n"),
    "systemd, values": ("[Service]\n", "OOMScoreAdjust=1\n"),
    "sysctl, lines": ("", "x y\n"),
    "earlyoom, open quotes": ("EARLYOOM_ARGS='", "a\n"),
    "a regular expression, groups": ("", "(a)"),
    "a regular expression, depth": ("", "(a"),
    "a regular expression, sets": ("", "["),
    "a unit, continued lines": ("", "\\\n"),
    "a unit of the host, continued lines": ("", "\\\n"),
    "sysctl.d, names": ("", "a/b=1\n"),
    "sysctl.d, globs": ("", "v*/[s]*=1\n"),
    "TuneD, includes": ("[main]\n", "include=a a a a a\n"),
    "TuneD, variables": ("[variables]\na=" + "b" * 99 + "\n", "a=${a}${a}\nb=${a}${a}\n"),
    "TuneD, spaces in a list": ("[main]\ninclude=a", " "),
    "TuneD, lists": ("[sysctl]\n", f"drop=a{' ' * 4000}b\n"),
    "TuneD, open variables": ("[sysctl]\nvm.swappiness=", "${"),
    "TuneD, lines of them": ("[sysctl]\n", f"vm.swappiness={'${' * 2000}\n"),
    "TuneD, long variables": (f"[variables]\na={'b' * 4096}\nc=", "${a}"),
    "the journal, count": (_ENTRY + '"OOMGUARD_COUNT":"', "1"),
    "the journal, depth": (_ENTRY + '"MESSAGE":', "["),
    "the journal, bytes": (_ENTRY + '"MESSAGE":[', "1,"),
    "the status file, depth": ("", "["),
    "the status file, digits": ("", "1"),
    "a policy, depth": ("rules: ", "["),
    "a policy, mappings": ("", "{a: "),
    "a policy, lists": ("rules:\n", "- "),
    "a policy, anchors": ("", "&a "),
    "a policy, keys": ("", "a: 1\n"),
    "a policy, digits": ("vm: {overcommit_ratio: ", "1"),
    "a policy, sixties": ("vm: {overcommit_ratio: ", "1:"),
    "a policy, quotes": ("a: ", "''"),
    "a policy, spaces": ("", " "),
    "a policy, empty lines": ("", "\n"),
    "a cgroup, folders": ("0::/", "a/"),
    "a cgroup, services": ("0::/", "system.slice/a.service/"),
    "a cgroup, lines": ("", "1:name=systemd:/a\n"),
    "a command line, arguments": ("", "\0"),
    "a command line, paths": ("", "/"),
    "a name, escapes": ("", "\x1b"),
    "a name, backslashes": ("", "\\"),
    "meminfo, lines": ("", "a: 1 kB\n"),
    "a kernel record, escapes": ("4,1,1,-;", "\\x0a"),
    "a kernel record, flags": ("4,1,1,", "-,"),
    "a kill, figures": ("Killed process 1 (a)", "a:1"),
    "a kill, names": ("Killed process 1 (", ")"),
    "a kill, paths": ("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null)", ",oom_memcg=/a,task_memcg=/a"),
    "a kill, groups": ("Tasks in ", "Tasks in are going to be killed"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_megabyte_of_it_is_read_or_refused_soon(name: str, tmp_path: Path) -> None:
    """And if it is refused, then with an error that says so."""
    reader = name.partition(",")[0]
    before, repeated = TEXTS[name]
    text = before + repeated * ((SIZE - len(before)) // len(repeated))
    with cpu_bound(SECONDS, name):
        try:
            READERS[reader](text, tmp_path)
        except (OomguardError, PolicyError):
            pass
        except (ValueError, KeyError, IndexError):
            assert reader == "meminfo"  # what no kernel writes


def test_many_groups_become_a_name_or_a_note() -> None:
    """One after the other or nested: an import goes on, and nothing is lost in silence."""
    for regex in ("(a)" * 1300, "(?:" * 90 + "a" + ")" * 90, "(" * 1500 + "a" + ")" * 1500, "(a|b)" * 1500):
        draft = earlyoom.import_arguments(["--prefer", regex, "--avoid", "^sshd$"])
        assert len(draft.rules) + len(draft.notes) == 2
        assert draft.rules[0].conditions["name"] == ["sshd"]


def test_values_of_the_journal_that_are_no_numbers_are_none() -> None:
    """However many digits they have."""
    fields = {"__REALTIME_TIMESTAMP": "1", "OOMGUARD_EVENT": "applied", "OOMGUARD_COUNT": "9" * 5000}
    entry = parse_entry(json.dumps(fields).encode())
    assert entry is not None
    assert entry.total == 1
