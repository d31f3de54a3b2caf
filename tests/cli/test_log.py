"""`oomguard log`: entries as journald keeps them, shown, filtered, and never trusted."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from oomguard.__main__ import main
from oomguard.core.change import Outcome, SetOomScoreAdj, SetSysctl
from oomguard.core.process import Identity
from oomguard.core.rule import Rule, Terms, Value
from oomguard.diagnose.journalctl import has_journal
from oomguard.oom.kill import Context, Kill
from oomguard.report.events import STARTED, LogEntry, outcome_entry
from oomguard.report.kill_entries import Death, KillReporter, kill_entry
from oomguard.report.log_entries import parse_entry
from pages import ROOT, blocks

RULE = Rule(0, (b"sshd",), Terms(Value("exact", -900)), "/etc/oomguard.yaml", 12)
CHANGE = SetOomScoreAdj(Identity(812, 5), b"ss\x1bhd", 0, -900, 0, "exec", RULE)

JOURNALCTL = """\
#!/bin/sh
printf '%s\\n' "$*" > "{folder}/asked"
case "$*" in
*" --reverse "*) exec tac "{folder}/entries" ;;
*--after-cursor=*) cat "{folder}/later" ;;
*) cat "{folder}/entries" ;;
esac
{tail}
"""


def line(record: LogEntry, second: int, **fields: object) -> str:
    """Return an entry as `journalctl -o json` prints it."""
    known = {
        "MESSAGE": record.message,
        "OOMGUARD_EVENT": record.event.name,
        "__REALTIME_TIMESTAMP": str((1_790_000_000 + second) * 1_000_000),
        "__CURSOR": f"s=1;i={second}",
        "SYSLOG_IDENTIFIER": "oomguard",
    }
    return json.dumps(known | record.fields | fields)


ENTRIES = [
    line(LogEntry(STARTED, "oomguard 0.1.0 started", {}), 0),
    line(outcome_entry(Outcome(CHANGE, "applied"), count=3, examples=("sshd[9]",)), 1),
    line(outcome_entry(Outcome(CHANGE._replace(after=-500), "denied", 13, "no right", "grant it")), 2),
    line(
        outcome_entry(
            Outcome(SetSysctl("vm.swappiness", 60, 10, "drift", "/etc/oomguard.yaml:3"), "applied")
        ),
        3,
    ),
]

Log = Callable[..., tuple[int, str, str]]


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return what puts a journalctl with these entries on the PATH."""

    def put(entries: Sequence[str] = ENTRIES, tail: str = "exit 0") -> Path:
        program = tmp_path / "journalctl"
        program.write_text(JOURNALCTL.format(folder=tmp_path, tail=tail))
        program.chmod(0o755)
        (tmp_path / "entries").write_text("".join(f"{entry}\n" for entry in entries))
        (tmp_path / "later").write_text("")
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setattr("oomguard.diagnose.own_log.has_journal", lambda: True)
        return tmp_path / "asked"

    return put


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Log:
    """Return what runs the verb."""
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["oomguard", "log", *arguments])
        code = main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_journal_that_this_user_must_not_look_at_is_one(
    log: Log, journalctl: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Journalctl then says why it shows nothing."""
    journalctl(tail="echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1")
    monkeypatch.setattr("oomguard.diagnose.own_log.has_journal", has_journal)

    def refuse(_: str) -> list[str]:
        raise PermissionError

    monkeypatch.setattr("oomguard.diagnose.journalctl.os.listdir", refuse)
    code, _, err = log()
    assert (code, "insufficient permissions" in err) == (1, True)


def test_a_journalctl_that_says_much_holds_up_nothing(log: Log, journalctl: Callable[..., Path]) -> None:
    """A pipe for it would be full."""
    journalctl(tail="head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1")
    code, _, err = log()
    assert (code, err.startswith("oomguard: journalctl: xxxx")) == (1, True)


def test_adjustments_are_a_table_of_80_columns(log: Log, journalctl: Callable[..., Path]) -> None:
    """With who, from what to what, why and by which rule; what is about no value is left out."""
    journalctl()
    code, out, _ = log()
    assert code == 0
    assert "started" not in out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80
    applied = next(row for row in out.splitlines() if "applied" in row and "812" in row)
    assert "ss\\x1bhd[812] +2" in applied
    assert applied.split()[-4:] == ["0", "-900", "exec", "name=sshd"]
    assert "vm.swappiness" in out
    assert "oomguard.yaml:3" in out


def test_the_page_shows_what_is_printed(log: Log, journalctl: Callable[..., Path]) -> None:
    """Also its spaces."""
    begin = int(datetime(2026, 11, 23, 5, 46, 53).astimezone().timestamp()) - 1_790_000_000
    swappiness = SetSysctl("vm.swappiness", 60, 10, "drift", "/etc/oomguard.d/site.yaml:2")
    nginx = CHANGE._replace(
        comm=b"nginx", identity=Identity(81, 5), cause="drift", rule=RULE._replace(names=(b"nginx",))
    )
    journalctl(
        [
            line(outcome_entry(Outcome(swappiness, "applied")), begin),
            line(outcome_entry(Outcome(nginx, "applied"), count=4, examples=("nginx[82]",)), begin + 17),
        ]
    )
    _, out, _ = log("--since", "today", "--cause", "drift")
    [shown] = blocks((ROOT / "docs" / "log.md").read_text(), "text")
    assert out == shown


def test_where_names_need_the_room_the_cause_is_left_out(log: Log, journalctl: Callable[..., Path]) -> None:
    """And lines are broken between a name and its pid, or the names of a rule."""
    browsers = RULE._replace(names=(b"chromium", b"chrome", b"google-chrome*"))
    tab = CHANGE._replace(comm=b"Isolated Web Co", identity=Identity(3_999_815, 5), rule=browsers)
    strict = SetSysctl("vm.overcommit_memory", 0, 2, "policy", "/etc/oomguard.d/50-site.yaml:3")
    journalctl([line(outcome_entry(Outcome(one, "contended")), 0) for one in (tab, strict)])
    _, out, _ = log()
    assert [row[16:] for row in out.splitlines()] == [
        "EVENT      WHAT                  FROM    TO  BY",
        "─" * 64,
        "contended  Isolated Web             0  -900  name=chromium|",
        "           Co[3999815]                       chrome|",
        "                                             google-chrome*",
        "contended  vm.overcommit_memory     0     2  50-site.yaml:3",
    ]


POD = "/kubepods/burstable/pod5931aa75-4603-4e65-b552-7c71cf55cfb5"
KILLS = [
    Death(
        Kill(356, "sshd", "Out of memory", 26, -900, 500000, 400000, 2048, 0, 844),
        Context("none", 356, "sshd", 26, task_memcg="/system.slice/ssh.service"),
        RULE,
    ),
    Death(
        Kill(99, "worker", "Memory cgroup out of memory", 33, 500, 500000, 50000, 0, 0, 844),
        Context("memcg", 99, "worker", 33, POD, f"{POD}/{'25a38b5b' * 8}"),
    ),
    Death(Kill(7, "a\x1bb", "Out of memory")),
]


def test_kills_are_a_table_of_their_own(log: Log, journalctl: Callable[..., Path]) -> None:
    """What was killed at which value, how large it was, what ran out, and which rule matched."""
    counted: list[LogEntry] = []

    class Sink:
        lost = 0

        def write(self, record: LogEntry) -> None:
            counted.append(record)

    KillReporter(Sink()).take_unknown(3, "/dev/kmsg cannot be opened")
    records = [kill_entry(death) for death in KILLS] + counted
    journalctl([line(record, number) for number, record in enumerate(records)])
    _, out, _ = log("--event", "killed")
    assert max(map(len, out.splitlines())) <= 80
    rows = [" ".join(row.split()[2:]) for row in out.splitlines()[2:]]
    assert out.split("\n", 1)[0].split() == ["TIME", "KILLED", "VALUE", "RAM", "OUT", "OF", "RULE"]
    assert rows == [
        "sshd[356] -900 393M the host name=sshd",
        "worker[99] 500 49M pod 5931aa75",
        "a\\x1bb[7]",
        "3 processes",
    ]
    _, out, _ = log("--json", "--event", "killed")
    first, second, third, unknown = json.loads(out)
    assert (first["oom_score_adj"], first["rss_bytes"], first["constraint"]) == (-900, 402048 << 10, "none")
    assert (second["oom_memcg"], second["memcg"]) == (POD, f"{POD}/{'25a38b5b' * 8}")
    assert (third["oom_score_adj"], third["rss_bytes"], third["constraint"]) == (None, None, None)
    assert (unknown["count"], unknown["pid"]) == (3, None)


def test_kills_that_are_not_the_kernels_are_listed(log: Log, journalctl: Callable[..., Path]) -> None:
    """What systemd-oomd and earlyoom say, by their units; nobody else's word."""
    base = {"__REALTIME_TIMESTAMP": "1790000001000000", "_TRANSPORT": "stdout"}
    earlyoom = {"MESSAGE": 'sending SIGTERM to process 4711 uid 1000 "chrome": badness 853, VmRSS 2134 MiB'}
    oomd = {"MESSAGE": "Killed /system.slice/a.service due to memory pressure for / being 78.12% > 50.00%"}
    asked = journalctl(
        [
            json.dumps(base | earlyoom | {"_SYSTEMD_UNIT": "earlyoom.service"}),
            json.dumps(base | oomd | {"_SYSTEMD_UNIT": "systemd-oomd.service"}),
            json.dumps(base | earlyoom | {"_SYSTEMD_UNIT": "forged.service"}),
        ]
    )
    _, out, _ = log("--event", "killed")
    assert "+ _SYSTEMD_UNIT=systemd-oomd.service _SYSTEMD_UNIT=earlyoom.service" in asked.read_text()
    assert [word for word in out.split() if "chrome[" in word or "a.service" in word] == [
        "chrome[4711]",
        "a.service",
    ]
    assert out.count("not the kernel:") == 2
    _, out, _ = log("--event", "killed", "--json")
    assert [entry["killer"] for entry in json.loads(out)] == ["earlyoom", "systemd-oomd"]


def test_kubelet_is_asked_for_evictions_where_there_is_one(
    log: Log, journalctl: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its many entries journalctl drops all but evictions, and none of others."""
    eviction = (
        'I1012 19:34:45.4    24 a.go:595] "Eviction manager: pod is evicted successfully" pod="default/a"'
    )
    entry = {
        "MESSAGE": eviction,
        "_SYSTEMD_UNIT": "kubelet.service",
        "__REALTIME_TIMESTAMP": "1790000001000000",
    }
    asked = journalctl([json.dumps(entry)])
    monkeypatch.setattr("oomguard.diagnose.journalctl._KUBELET_FOLDERS", (str(tmp_path / "none"),))
    log("--event", "killed")
    assert "kubelet" not in asked.read_text()
    assert "--grep" not in asked.read_text()
    monkeypatch.setattr("oomguard.diagnose.journalctl._KUBELET_FOLDERS", (str(tmp_path),))
    _, out, _ = log("--event", "all", "--json")
    assert [one["killer"] for one in json.loads(out)] == ["kubelet"]
    assert "_SYSTEMD_UNIT=kubelet.service" in asked.read_text()
    (pattern,) = re.findall(r"--grep=(.*?) \+", asked.read_text())
    ours = [f"{name}[1] was killed" for name in ("E0000 00:00:00.", 'time="2026-10-1')]
    kept = [text for text in (eviction, "sending SIGTERM", *ours, *KLOG) if re.search(pattern, text)]
    assert kept == [eviction, "sending SIGTERM", *ours]


KLOG = (
    'I1012 19:34:45.445172    2480 a.go:163] "Cleaned up"',
    'time="2026-10-12T19:00:20Z" level=info msg="x"',
)


def test_signals_to_one_process_are_one_entry(log: Log, journalctl: Callable[..., Path]) -> None:
    """SIGTERM, and SIGKILL where it did not help."""
    base = {"__REALTIME_TIMESTAMP": "1790000001000000", "_SYSTEMD_UNIT": "earlyoom.service"}
    text = 'sending SIGTERM to process 4711 uid 1000 "chrome": badness 853, VmRSS 2134 MiB'
    journalctl([json.dumps(base | {"MESSAGE": one}) for one in (text, text.replace("TERM", "KILL"))])
    _, out, _ = log("--event", "killed", "--json")
    assert len(json.loads(out)) == 1


def test_entries_of_several_kinds_are_sentences(log: Log, journalctl: Callable[..., Path]) -> None:
    """No column of one kind is empty for another."""
    journalctl([*ENTRIES, line(kill_entry(KILLS[0]), 9)])
    _, out, _ = log("--event", "all")
    assert max(map(len, out.splitlines())) <= 80
    assert out.split()[:3] == ["TIME", "EVENT", "WHAT"]
    shown = " ".join(out.split())
    assert "started oomguard 0.1.0 started" in shown
    assert "killed sshd[356] was killed by the kernel: the host ran out of memory (" in shown


def test_the_document_has_everything_as_it_is(log: Log, journalctl: Callable[..., Path]) -> None:
    """Numbers are numbers, and what an entry does not have is null."""
    journalctl()
    _, out, _ = log("--json")
    first, denied, sysctl = json.loads(out)
    assert (first["pid"], first["old"], first["new"], first["count"]) == (812, 0, -900, 3)
    assert (first["rule"], first["source"]) == ("name=sshd", "/etc/oomguard.yaml:12")
    assert denied["errno"] == "EACCES"
    assert (sysctl["target"], sysctl["pid"], sysctl["comm"]) == ("vm.swappiness", None, None)
    assert datetime.fromisoformat(first["time"]).timestamp() == 1_790_000_001
    assert first["time"][-6] in "+-", "with the offset from UTC"


def test_filters_are_the_journals_where_it_has_an_index(log: Log, journalctl: Callable[..., Path]) -> None:
    """Time, pid, cause and event; and only root's entries and one's own."""
    asked = journalctl()
    log(
        "--since",
        "-1h",
        "--until",
        "now",
        "--pid",
        "812",
        "--cause",
        "exec",
        "--event",
        "applied",
        "--event",
        "denied",
    )
    assert asked.read_text().split()[:4] == ["--output=json", "--no-pager", "--all", "--quiet"]
    for word in (
        "--since=-1h",
        "--until=now",
        "SYSLOG_IDENTIFIER=oomguard",
        "_UID=0",
        "OBJECT_PID=812",
        "OOMGUARD_CAUSE=exec",
        "OOMGUARD_EVENT=applied",
        "OOMGUARD_EVENT=denied",
    ):
        assert word in asked.read_text().split()


@pytest.mark.parametrize(
    ("arguments", "events"),
    [
        (["--rule", "sshd"], ["applied", "denied"]),
        (["--rule", "*.yaml:3"], ["applied"]),
        (["--rule", "nothing"], []),
        (["--event", "all"], ["started", "applied", "denied", "applied"]),
        (["-n", "1"], ["applied"]),
        (["-n", "2", "--rule", "sshd"], ["applied", "denied"]),
    ],
)
def test_rules_and_counts_are_filtered_here(
    log: Log, journalctl: Callable[..., Path], arguments: list[str], events: list[str]
) -> None:
    """By a part of label or place, or a glob on the whole; the last N of what is left."""
    journalctl()
    _, out, _ = log("--json", *arguments)
    assert [entry["event"] for entry in json.loads(out)] == events


def test_nothing_is_said_to_be_nothing(log: Log, journalctl: Callable[..., Path]) -> None:
    """It then ends with 1 and prints nothing."""
    journalctl([], tail="exit 1")
    assert log() == (0, "No matching journal entries.\n", "")
    assert log("--json")[1] == "[]\n"


def test_the_last_none_are_none(log: Log, journalctl: Callable[..., Path]) -> None:
    """As with journalctl: nothing is printed, also not that there is nothing."""
    asked = journalctl()
    assert log("-n", "0") == (0, "", "")
    assert log("-n", "0", "--json") == (0, "[]\n", "")
    log("-n", "0", "--follow")
    assert "--follow --lines=0 " in asked.read_text()


def test_the_last_entries_before_those_to_come_are_counted_after_the_filters(
    log: Log, journalctl: Callable[..., Path], tmp_path: Path
) -> None:
    """By default ten, and none is printed twice or missed."""
    rules = [RULE._replace(names=(name,)) for name in (b"sshd", b"cron")]
    changes = [
        CHANGE._replace(identity=Identity(pid, 1), rule=rules[pid % 7 != 0]) for pid in range(100, 190)
    ]
    entries = [line(outcome_entry(Outcome(one, "applied")), second) for second, one in enumerate(changes)]
    asked = journalctl([*entries, ENTRIES[0]])
    (tmp_path / "later").write_text(f"{entries[5]}\n")
    _, out, _ = log("--follow", "--rule", "sshd", "--since", "today")
    assert [int(pid) for pid in re.findall(r"\[(\d+)\]", out)] == [*range(126, 190, 7), 105]
    assert re.search("--follow --after-cursor=s=1;i=8[0-9] --lines=all ", asked.read_text())
    assert "--since" not in asked.read_text()  # journalctl takes one or the other
    _, out, _ = log("--follow", "-n", "1")
    assert [int(pid) for pid in re.findall(r"\[(\d+)\]", out)] == [189, 105]
    log("--follow", "--rule", "nothing", "--since", "today")
    assert "--follow --lines=all --since=today " in asked.read_text()


def test_the_last_kills_of_nohang_have_their_own_names(log: Log, journalctl: Callable[..., Path]) -> None:
    """It writes who, and then that it sends a signal."""
    base = {"_SYSTEMD_UNIT": "nohang.service", "SYSLOG_IDENTIFIER": "nohang"}
    entries: list[str] = []
    for pid, name in ((101, "alpha"), (202, "beta"), (303, "gamma")):
        for text in (f"  PID: {pid}, Name: {name}, badness: 849", "  Sending SIGTERM to the victim"):
            number = len(entries)
            times = {"__REALTIME_TIMESTAMP": f"{1790000000 + number}000000", "__CURSOR": f"s={number}"}
            entries.append(json.dumps(base | times | {"MESSAGE": text}))
    journalctl(entries)
    _, out, _ = log("--follow", "--event", "killed", "-n", "2")
    assert re.findall(r"\w+\[\d+\]", out) == ["beta[202]", "gamma[303]"]


@pytest.mark.parametrize(
    ("arguments", "before"),
    [
        ((), "applied      "),
        (("--event", "applied"), "applied  "),
        (("--event", "all"), f"applied{' ' * 12}"),
    ],
)
def test_messages_that_follow_start_in_one_column(
    log: Log, journalctl: Callable[..., Path], arguments: tuple[str, ...], before: str
) -> None:
    """Behind the longest event that may come."""
    journalctl()
    _, out, _ = log("--follow", *arguments)
    row = next(row for row in out.splitlines() if "swappiness" in row)
    assert row[16:].startswith(f"{before}vm.swappiness")


def test_without_journalctl_there_is_a_hint(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 1."""
    monkeypatch.setenv("PATH", "/nonexistent")
    code, out, err = log()
    assert (code, out) == (1, "")
    assert "journalctl is not installed" in err
    assert "standard error" in err


def test_without_a_journal_nothing_found_is_an_error(
    log: Log, journalctl: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1, as the help says: journalctl alone ends the same way on a host where nothing is kept."""
    journalctl([], tail="exit 1")
    monkeypatch.undo()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    kept = tmp_path / "journal"
    monkeypatch.setattr("oomguard.diagnose.journalctl._FOLDERS", (str(kept), str(tmp_path / "none")))
    for is_made in (False, True):
        if is_made:
            kept.mkdir()
        for asked in ("--json", "--follow"):
            code, out, err = log(asked)
            assert (code, out) == (1, "")
            assert "this host has no journal" in err
    (kept / "machine").mkdir()
    assert log("--json")[:2] == (0, "[]\n")


def test_a_journal_that_only_others_can_read_is_an_error(
    log: Log, journalctl: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a user gets their own entries from journalctl, which says nothing: others may be missing."""
    kept = tmp_path / "kept" / "id" / "system.journal"
    kept.parent.mkdir(parents=True)
    kept.symlink_to("nowhere")  # root can read any file that is there
    monkeypatch.setattr("oomguard.diagnose.journalctl._FOLDERS", (str(tmp_path / "kept"),))
    machine = tmp_path / "machine-id"
    monkeypatch.setattr("oomguard.diagnose.journalctl._MACHINE_ID", str(machine))
    journalctl()
    for other in ("another", None):  # of the template of a virtual machine, or none
        if other:
            machine.write_text(f"{other}\n")
        else:
            machine.unlink()
        assert log("--event", "all")[0] == 0
    machine.write_text("id\n")
    why = f"oomguard: {kept} cannot be read, so entries are missing\n  run this as root"
    code, out, err = log("--event", "all")
    assert (code, err.startswith(why)) == (1, True)
    assert "vm.swappiness" in out
    code, out, err = log("--follow")
    assert (code, err.startswith(why)) == (0, True)
    journalctl([], tail="exit 1")
    code, out, err = log()
    assert (code, out, err.startswith(why)) == (1, "", True)
    journalctl([], tail="echo 'insufficient permissions' >&2; exit 1")
    code, out, err = log()
    assert (code, out) == (1, "")
    assert err.startswith("oomguard: journalctl: insufficient permissions\n  run this as root")


def test_what_journalctl_complains_of_is_passed_on(log: Log, journalctl: Callable[..., Path]) -> None:
    """As a time that it cannot read."""
    journalctl([], tail="echo 'Failed to parse timestamp: soon' >&2; exit 1")
    code, _, err = log("--since", "soon")
    assert code == 1
    assert "journalctl: Failed to parse timestamp: soon\n  write a time such as today, " in err
    journalctl(tail="echo 'Hint: you see your own messages only' >&2")
    code, out, err = log()
    assert code == 0
    assert "vm.swappiness" in out
    assert "Hint: you see your own" in err


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "null",
        "[]",
        "[" * 5000,
        "{}",
        '{"__REALTIME_TIMESTAMP": "1e9", "OOMGUARD_EVENT": "x"}',
        '{"__REALTIME_TIMESTAMP": "99999999999999999999999", "OOMGUARD_EVENT": "x"}',
        '{"__REALTIME_TIMESTAMP": "1", "OOMGUARD_EVENT": null}',
    ],
)
def test_a_line_that_is_no_entry_is_passed_over(hostile: str) -> None:
    """Cut off, not ours, or made to hurt."""
    assert parse_entry(hostile.encode()) is None


def test_values_that_are_no_text_are_shown_escaped() -> None:
    """Bytes come as numbers, and repeated fields as lists."""
    entry = parse_entry(
        line(
            LogEntry(STARTED, "", {}),
            0,
            MESSAGE=[27, 91, 255],
            OOMGUARD_COMM=["one", "two"],
            OOMGUARD_RULE="\x1b]0;x\x07",
            OOMGUARD_COUNT="²",
            OBJECT_PID="-",
        ).encode()
    )
    assert entry is not None
    assert entry.message == "\\x1b[\\xff"
    assert entry.comm == "one"
    assert entry.rule == "\\x1b]0;x\\x07"
    assert entry.total == 1


@pytest.mark.parametrize("as_json", [False, True])
def test_following_prints_a_line_each_until_it_is_ended(
    journalctl: Callable[..., Path], as_json: bool
) -> None:
    """At once, and journalctl ends with it."""
    asked = journalctl(tail="exec sleep 60")
    asked.with_name("later").write_text(f"{ENTRIES[1]}\n")
    code = (
        "import sys; from oomguard.diagnose import journalctl; from oomguard.__main__ import main;"
        f"journalctl._FOLDERS = ({str(asked.parent)!r},); sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "log", "--follow", *(["--json"] if as_json else [])]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one thread
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        os.killpg(process.pid, signal.SIGINT)
        started = time.monotonic()
        assert process.wait(20) == 0
        assert time.monotonic() - started < 20
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert "--follow" in asked.read_text()
    if as_json:
        assert [json.loads(one)["event"] for one in lines] == ["applied", "denied", "applied", "applied"]
    else:
        assert "oom_score_adj 0 → -900" in lines[0].decode()
