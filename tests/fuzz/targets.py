"""What reads bytes that others choose, each with the laws that hold for any of them.

A target takes bytes and raises AssertionError, or anything but what it says it refuses with, when a law
is broken. `test_targets.py` feeds them a few hundred inputs in the suite, `run.py` millions outside of it.
"""

import json
import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

from pydantic_core import PydanticCustomError

import hostile_logs
import oom_formats
from cpu import LENGTH, ordinary_work, takes_at_most
from datagram import parse_datagram
from oomguard.core.cgroup import in_system_service, parse_cgroup, system_unit, user_unit
from oomguard.core.errors import OomguardError
from oomguard.core.match import Matcher
from oomguard.core.name_regex import NameRegexes
from oomguard.core.policy import Policy
from oomguard.core.process import COMM_LENGTH, full_name
from oomguard.core.rule import Rule, Terms, Value
from oomguard.core.serialize import Decoder, decode, encode
from oomguard.core.text import printable
from oomguard.diagnose.case_runner import run_case
from oomguard.kernel.capability import parse_effective
from oomguard.kernel.connector import _EVENT, _MESSAGE_SIZE, Connector
from oomguard.kernel.event_filter import EVENT_OFFSET, FORK
from oomguard.kernel.proc_files import PF_KTHREAD, Stat, Status, parse_arguments, parse_stat
from oomguard.kernel.sysctl_files import parse_meminfo
from oomguard.kernel.timeout import TooLongError, within
from oomguard.oom.backtest import Backtester
from oomguard.oom.log_reader import OomLog
from oomguard.oom.postmortem import examine
from oomguard.policy import patterns
from oomguard.policy.cases.case_file import parse_cases
from oomguard.policy.effective import effective, render
from oomguard.policy.fault import PolicyError, render_text
from oomguard.policy.load import parse
from oomguard.policy.source import Source
from oomguard.policy.users import Users
from oomguard.propose.importers.files import ForeignError
from oomguard.propose.importers.table import IMPORTERS, import_settings
from oomguard.propose.mend import mended
from oomguard.propose.policy_draft import import_document
from oomguard.propose.policy_draft import render as render_draft
from oomguard.reconcile.ledger import Ledger, _line
from oomguard.report.case_results import file_document, result_lines, summary
from oomguard.report.events import STARTED, LogEntry
from oomguard.report.journal import encode as encode_entry
from oomguard.report.postmortem import Incident, circumstances, facts, headline, paths, short_moment
from oomguard.report.postmortem_document import incident_json
from oomguard.report.status_reader import decode_status

if TYPE_CHECKING:
    import socket

Target = Callable[[bytes], None]

BOOT = "b"
_LEDGER_HEADER = _line(b'{"version":2,"boot_id":"b"}')
_LEDGER_SEED = zlib.crc32(BOOT.encode())
_FIELD_LIMIT = 4096
_REPORTS = Path(__file__).parent.parent / "reports"


def policy(data: bytes) -> None:
    """Any file is a policy that survives its way to the daemon and to `cat`, or is refused in words."""
    sources = (Source("a.yaml", data),)
    try:
        loaded, faults = parse(sources, users=Users(), trial=lambda _pattern, _text: False)
    except PolicyError as error:
        faults = error.faults
        assert faults
    else:
        assert decode(encode(loaded)) == loaded
        printed = "\n".join(render(effective(sources, loaded, None)))
        assert all(line.isprintable() for line in printed.split("\n"))
        again = parse((Source("a.yaml", printed.encode()),), users=Users()).policy
        assert [(rule.names, rule.terms) for rule in again.rules] == [
            (rule.names, rule.terms) for rule in loaded.rules
        ]
        assert [(one.name, one.value) for one in again.sysctls] == [
            (one.name, one.value) for one in loaded.sysctls
        ]
        Matcher(loaded.rules).candidates(data[:COMM_LENGTH])
    assert all(line.isprintable() for line in render_text(faults).splitlines())
    assert len(json.loads(json.dumps([one._asdict() for one in faults]))) == len(faults)


def cases(data: bytes) -> None:
    """Any file is a case file that can be run, or is refused in printable words."""
    try:
        results = [run_case("a.yaml", case) for case in parse_cases(Source("a.yaml", data))]
    except PolicyError as error:
        assert error.faults
        lines = render_text(error.faults).splitlines()
    else:
        assert all(result.compared for result in results)
        lines = [*result_lines(results), summary("a.yaml", results)]
        json.dumps(file_document("a.yaml", results, []))
    assert all(line.isprintable() for line in lines)


def name_regex(data: bytes) -> None:
    """Find what `re` finds, whatever the expression."""
    text, _, regex = data.decode("utf-8", "surrogateescape").partition("\0")
    text = text.replace("\n", "")  # `$` of `re` also matches before the last
    with suppress(PydanticCustomError):
        patterns.name_regex(regex)
        found = NameRegexes([(0, regex)])
        found.found(text * 100)
        with suppress(TooLongError):  # `re` takes for ever on some
            is_found = within(1.0, lambda: re.search(regex, text[:5], re.DOTALL)) is not None
            assert bool(found.found(text[:5])) == is_found
            assert not is_found or found.possible(text[:2])


def stat(data: bytes) -> None:
    """No name changes the fields behind it; what no kernel wrote is a ValueError or IndexError."""
    comm = data[:COMM_LENGTH].replace(b"\0", b"")
    behind = b" S 7 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 90311 5 6\n"
    assert parse_stat(b"10 (" + comm + b")" + behind) == Stat(comm, "S", 7, 4194560, 1, 90311, b"5 6\n")
    assert not 4194560 & PF_KTHREAD
    with suppress(ValueError, IndexError):
        parse_stat(data)


def status(data: bytes) -> None:
    """No name and no list of groups changes uid, depth or capabilities."""
    comm = data[:COMM_LENGTH].replace(b"\0", b"").replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    raw = (
        b"Name:\t%b\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t7\nPPid:\t6\nUid:\t1\t2\t3\t4\n"
        b"Gid:\t5\t5\t5\t5\nFDSize:\t64\nGroups:\t%b \n"
        b"NSpid:\t7\t8\nVmRSS:\t    4 kB\nCapEff:\t00000000000000ff\n"
    ) % (comm, b" ".join(b"%d" % byte for byte in data[COMM_LENGTH:]))
    found = Status(raw)
    assert (found.parent_pid, found.uids, found.namespace_depth) == (6, (1, 3), 2)
    assert parse_effective(raw) == 0xFF
    with suppress(ValueError, IndexError):
        _ = (Status(data).parent_pid, Status(data).uids, Status(data).namespace_depth)


def cgroup(data: bytes) -> None:
    """Any bytes are a path; and no cgroup below a user's is the system's."""
    path = parse_cgroup(data)
    system_unit(path)
    user_unit(path)
    in_system_service(path)
    own = "/user.slice/user-1000.slice/user@1000.service/x" + data.replace(b"\n", b"").decode(
        "utf-8", "surrogateescape"
    )
    path = parse_cgroup(f"0::{own}\n".encode("utf-8", "surrogateescape"))
    assert path == own
    assert system_unit(path) == "user@1000.service"
    assert not in_system_service(path)


def cmdline(data: bytes) -> None:
    """Any command line is read, named and shown."""
    arguments = parse_arguments(data)
    assert b"\0".join(arguments) == data.rstrip(b"\0")
    name = full_name(data[:COMM_LENGTH], arguments)
    assert name.startswith(data[:COMM_LENGTH])
    assert printable(name).isprintable()
    assert printable(b" ".join(arguments)).isprintable()


def meminfo(data: bytes) -> None:
    """Lines that are not known change nothing; what no kernel wrote is refused in a known way."""
    with suppress(ValueError, IndexError, KeyError):
        parse_meminfo(data)
    unknown = b"".join(b"X%d: %d kB\n" % (number, byte) for number, byte in enumerate(data))
    raw = b"MemTotal: 10 kB\n" + unknown + b"CommitLimit: 7 kB\nCommitted_AS: 5 kB\n"
    assert parse_meminfo(raw)[:2] == (10, 0)
    assert parse_meminfo(raw)[3:5] == (7, 5)


class _Queue:
    """A socket that gives back datagrams: of 76 bytes, as the kernel's, and shorter ones."""

    def __init__(self, data: bytes) -> None:
        self.datagrams = []
        while data:
            size = min(_MESSAGE_SIZE, data[0])
            datagram = data[1 : 1 + size]
            if size == _MESSAGE_SIZE:
                datagram = datagram.ljust(size, b"\0")
            self.datagrams.append(datagram)
            data = data[1 + size :]
        self._left = iter(self.datagrams)

    def recv_into(self, buffer: bytearray) -> int:
        for datagram in self._left:
            buffer[: len(datagram)] = datagram
            return len(datagram)
        raise BlockingIOError


def connector(data: bytes) -> None:
    """Only whole messages are read, only their pids are heard, and any other shape is a loss."""
    opened = object.__new__(Connector)
    opened._buffer, opened._fork_buffer = bytearray(4096), bytearray(4096)
    opened._behind = opened._left = 0
    opened.changed = []
    opened._own = -1
    opened._is_asked = False
    queue = _Queue(data)
    opened._socket = cast("socket.socket", queue)
    opened._forks = cast("socket.socket", _Queue(data))
    heard: set[int] = set()
    lost = opened.receive(heard, limit=len(data) + 1)
    whole = [d for d in queue.datagrams if len(d) == _MESSAGE_SIZE]
    events = [_EVENT.unpack_from(d, EVENT_OFFSET) for d in whole]
    assert heard == {pid for what, _, pid in events if what > FORK}
    assert lost == (len(whole) < len(queue.datagrams))
    forks: list[tuple[int, int, int]] = []
    opened.forks(lambda *fork: forks.append(fork))
    assert len(forks) == len(whole)


def wire(data: bytes) -> None:
    """Nothing but a policy comes of what its reader writes, or a ValueError."""
    decoder = Decoder()
    try:
        for line in data.split(b"\n"):
            decoder.feed(line)
        found = decoder.policy()
    except ValueError:
        return
    assert decode(encode(found)) == found


def ledger(data: bytes) -> None:
    """Only the lines that are damaged are lost of a file, and are counted."""
    intact = b"".join(_line(text, _LEDGER_SEED) for text in data.split(b"\n"))
    for content in (data, _LEDGER_HEADER + data, _LEDGER_HEADER + intact):
        found = Ledger(boot_id=BOOT)
        found._read(content)
        entries = [*found.sysctls.values(), *found.processes.values()]
        assert all(type(entry.original) is type(entry.given) is int for entry in entries)
        assert found.ignored_lines <= content.count(b"\n") + 1
        assert all(found.entry(one) == entry for one, entry in found.processes.items())
    behind = Ledger(boot_id=BOOT)
    line = _line(b'{"sysctl":"vm.swappiness","entry":[60,10,null,1,0]}', _LEDGER_SEED)
    behind._read(_LEDGER_HEADER + data + b"\n" + line)
    assert behind.sysctls["vm.swappiness"][:2] == (60, 10)


def journal(data: bytes) -> None:
    """Fields come back as they were: no value forges another."""
    text = data.decode("utf-8", "surrogateescape")
    fields = {"OOMGUARD_COMM": text, "OOMGUARD_RULE": text[::-1]}
    found = parse_datagram(encode_entry(LogEntry(STARTED, text, fields)))
    assert [name for name, _ in found] == [
        *("MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "OOMGUARD_EVENT"),
        *("OOMGUARD_COMM", "OOMGUARD_RULE"),
    ]
    for name, value in {"MESSAGE": text, **fields}.items():
        assert dict(found)[name] == value.encode("utf-8", "backslashreplace")[:_FIELD_LIMIT]


def text(data: bytes) -> None:
    """Whatever a process is called, what is shown is one printable line that tells it from others."""
    shown = printable(data)
    assert shown.isprintable()
    assert json.loads(json.dumps(shown)) == shown
    assert printable(data + b"\x1b") != shown


_FOREIGN = {
    "ananicy": ("a.rules", "a.types"),
    "earlyoom": ("earlyoom",),
    "nohang": ("nohang.conf",),
    "systemd": (
        "a@b.service",
        "a@.service.d/b.conf",
        "a-.service.d/c.conf",
        "service.d/d.conf",
        "system.conf",
    ),
    "sysctl": ("a.conf", "tuned.conf"),
}
"""The files of each tool that `import` reads."""


def imports(data: bytes) -> None:
    """Whatever another tool's file says is a valid policy without warnings of its making, or refused."""
    with TemporaryDirectory() as folder:
        for tool in IMPORTERS:
            names = _FOREIGN[tool]
            for name in names:
                file = Path(folder, tool, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
            named = f"{folder}/{tool}" if names[1:] else f"{folder}/{tool}/{names[0]}"
            try:
                draft = mended(import_settings(tool, [named]))
            except ForeignError:
                continue
            json.dumps(import_document(draft)).encode("ascii")
            source = Source("a.yaml", render_draft(draft).encode())
            assert not {fault.code for fault in parse((source,)).warnings} & _OF_CONVERSION


_OF_CONVERSION = {"shadowed-rule", "never-matches", "list-as-name", "regex-as-name", "path-as-name"}
_OF_CONVERSION |= {"unit-as-name", "command-line-as-name", "unusual-character", "handed-on", "unvouched"}
"""Warnings about what a conversion should have said otherwise."""


def status_file(data: bytes) -> None:
    """Nothing is raised over a damaged file but the error that says what to do."""
    with suppress(OomguardError):
        decode_status(data, "status.json")


def kernel_log(data: bytes) -> None:
    """Any text is a log, the same in pieces; whatever is found in it can be told, and is printable."""
    log = data.decode("utf-8", "surrogateescape")
    reports = [*OomLog().read([log])]
    assert reports == [*OomLog().read(log[at : at + 61] for at in range(0, len(log), 61))]
    for number, report in enumerate(reports, 1):
        finding = examine(report)
        assert sorted(one.task for one in finding.ranked) in ([], sorted(report.tasks))
        told = Incident(number, finding, backtest=_BACKTESTER.replay(finding), policy="a.yaml")
        shown = [headline(finding), circumstances(report), short_moment(report)]
        shown += [fact.text for fact in (*facts(told), *paths(report))]
        assert all(text.isprintable() for text in shown)
        incident_json(told).encode("ascii")


_TERMS = (
    Terms(Value("exact", 500)),
    Terms(Value("at_most", -900)),
    Terms(Value("exact", 0), cmdlines=("x",)),
)
_BACKTESTER = Backtester(
    Policy(rules=[Rule(number, (b"*",), terms, "a", 1) for number, terms in enumerate(_TERMS)])
)


def cost(data: bytes) -> None:
    """Nothing costs more than its length, however often it is repeated: 300 times ordinary work."""
    for text in (data, data + b"\n"):
        log = (text * (_COST_BYTES // max(len(text), 1)))[:_COST_BYTES].decode("utf-8", "surrogateescape")
        times = 300 * _COST_BYTES / LENGTH
        takes_at_most(times, lambda: [*OomLog().read([log])], ordinary_work, "the log")  # noqa: B023


_COST_BYTES = 1 << 13


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        *(
            policy,
            cases,
            name_regex,
            stat,
            status,
            cgroup,
            cmdline,
            meminfo,
            connector,
            wire,
            ledger,
            status_file,
            imports,
        ),
        *(journal, text, kernel_log, cost),
    )
}

SEEDS: dict[str, list[bytes]] = {
    "policy": [
        b"vm: {overcommit_memory: 2, overcommit_ratio: 80}\nkernel: {panic: 10}\n",
        b"rules:\n- name: [sshd, 'my*']\n  user: root\n  scope: main\n  oom_score_adj: {at_most: -900}\n",
        b"rules:\n- {cmdline: 'a(b|c)+', unit: x.service, oom_score_adj: keep}\n",
        b"a: &x [1, *x]\n<<: !!str 010\n? [1]\n",
    ],
    "cases": [
        b"policy: {rules: [{name: a, oom_score_adj: 5}]}\n%b" % case
        for case in (
            b"cases: [{case: b, processes: [{name: a, expect: 5}]}]\n",
            b"host: {memory: 1TiB, swap: none}\ncases: [{case: c, expect: {vm: {swappiness: 9}}}]\n",
            (
                b"users: {u: 7}\ncases: [{case: d, processes: [{name: p, user: u, pid: 9}, {name: q,"
                b" parent: 9, container: true, expect: {oom_score_adj: 0, rule: none, refused: no}}]}]\n"
            ),
        )
    ],
    "name_regex": [b"node\0^(node|npm)$", b"aab\0(a+)+$", b"x\0(?i:[^a-c]{1,3})|\\d*?", b"ab\0a.b?|$"],
    "stat": [b"10 (a) S 1 1 1 0 -1 64 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0\n"],
    "status": [b"Name:\ta\nUid:\t0\t0\t0\t0\nNSpid:\t1\n"],
    "cgroup": [
        b"0::/system.slice/a.service\n",
        b"1:name=systemd:/user.slice/user@1.service/b\n",
    ],
    "cmdline": [b"/usr/bin/chromium-browser\0--type=renderer\0"],
    "meminfo": [b"MemTotal:       16 kB\nCommitLimit: 5 kB\nCommitted_AS: 4 kB\n"],
    "connector": [b"\xff" + bytes(range(1, 77)) + b"\x05short"],
    "ledger": [b'{"pid": 812, "start": 90311, "entry": [0, -900, null, 90312, 1]}\n'],
    "status_file": [b'{"format": 1, "pid": 1, "start_time_ticks": 1, "sysctls": [], "rules": []}'],
    "imports": [
        b"""{"name": "postgres", "type": "B"}
{"name": "x*", "oom_score_adj": -5},
{"type": "B", "oom_score_adj": 9}
{"name": "y", "type": []}
{"name": "\\ud800", "oom_score_adj": 1}
""",
        b"""EARLYOOM_ARGS="-r 60 --avoid '(^|/)(init|Xorg|sshd)$' \\
--prefer ^j[[:alpha:]]+|a{2}"
""",
        b"""a = 5 %
@BADNESS_ADJ_RE_NAME -20 /// ^(sshd|Xorg)$
@BADNESS_ADJ_RE_CGROUP_V2 5 /// /a\\.service$
@BADNESS_ADJ_RE_UID 5 /// ^0$
@BADNESS_ADJ_RE_REALPATH 9 /// ^/usr/bin/(a|b)$
""",
        b"""\xef\xbb\xbf[Unit]
[Service]
ExecStart=/x \\
 y
OOMScoreAdjust=
OOMScoreAdjust=-9
""",
        b"""# a
-vm.overcommit_ratio = 80
vm/swappiness=1
vm.dirty_*=3
[sysctl]
vm.swappiness=${s}
[vm]
dirty_bytes=10%
[variables]
s=1
[main]
include=x
""",
    ],
    "journal": [b"a\nMESSAGE=forged\n"],
    "kernel_log": [path.read_bytes()[:4000] for path in sorted(_REPORTS.glob("*.txt"))]
    + [path.read_bytes()[-1500:] for path in sorted(_REPORTS.glob("*.txt"))]
    + [getattr(oom_formats, name).encode() for name in dir(oom_formats) if name[-1].isdigit()],
    "cost": [hostile_logs.log(kind, 2000).encode() for kind in hostile_logs.KINDS],
    "text": [b"\x1b[31m\xe2\x80\xae\xff\n"],
}
"""What a fuzzer starts from."""


def seeds(name: str) -> list[bytes]:
    """Return the inputs that a target's search starts from."""
    if name != "wire":
        return SEEDS[name]
    lines = [*encode(parse((Source("a", SEEDS["policy"][1]),)).policy)]
    return ["\n".join(lines).encode()]
