"""Logs that were written to keep `postmortem` busy, or to have it keep all of them."""

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from time import process_time

import pytest

from cpu import LENGTH, cpu_bound, ordinary_work, takes_at_most
from hostile_logs import KINDS, log
from oomguard.oom.log_reader import OomLog
from oomguard.oom.quoted import quoted_messages
from oomguard.oom.report import Report

BLOCK = 1 << 20
KILL = "Out of memory: Killed process 1 (init) total-vm:9kB, anon-rss:9kB, file-rss:0kB"


def read(text: str, log: OomLog | None = None, *, block: int = BLOCK) -> list[Report]:
    """Read a log in blocks of that many characters."""
    return list((log or OomLog()).read(text[at : at + block] for at in range(0, len(text), block)))


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_costs_more_than_its_length(kind: str) -> None:
    """At most 250 times as much as ordinary work on it, and four times as much of it at most 11 times."""
    with cpu_bound(60, kind):  # also within a regular expression
        for size in (1 << 10, 1 << 14, 1 << 16):
            reading = partial(read, log(kind, size))
            takes_at_most(_MOST * size / LENGTH, reading, ordinary_work, f"{size} characters of {kind}")
        more = log(kind, 1 << 18)
        takes_at_most(11, lambda: read(more), reading, f"four times as much of {kind}")


_MOST = 250
"""The most that one of the kinds takes is 110 to 160, which depends on the processor."""


def test_bound_is_neither_flaky_nor_loose() -> None:
    """Eight times of what one kind takes is noticed, however busy the host is, and once is not."""
    text = log("words of other programs", 1 << 14)
    times = _MOST * len(text) / LENGTH
    takes_at_most(times, lambda: read(text), ordinary_work, "once")
    with pytest.raises(AssertionError, match="eight times takes"):
        takes_at_most(times, lambda: [read(text) for _ in range(8)], ordinary_work, "eight times")


PEAK = """
import sys
from oomguard.__main__ import main
assert main() == 0
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")), file=sys.stderr)
"""


@pytest.mark.parametrize("kind", ["tables of many hosts", "a table without an end", "counters"])
def test_what_is_kept_of_any_log_has_a_bound(kind: str, tmp_path: Path) -> None:
    """A process that reads 20 MB of it stays below 64 MiB, its interpreter and modules included."""
    path = tmp_path / "log"
    path.write_text(log(kind, 20_000_000))
    command = [sys.executable, "-c", PEAK, "postmortem", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert 10 << 10 < int(done.stderr.split()[1]) < 64 << 10


def test_rest_of_a_long_line_is_no_line() -> None:
    """However long a user makes a line, and wherever a block ends: nothing in it begins a line."""
    for filling in (KILL, f"[    1.000000] {KILL}"):
        text = "x" * (BLOCK - 1) + filling + "y" * 40_000 + "\n"
        for block in (BLOCK - 1, 1000, BLOCK):
            log = OomLog()
            assert read(text, log, block=block) == []
            assert log.skipped == 1


def test_end_of_a_long_line_is_no_message() -> None:
    """Nor what stands before indented lines, where looking for the beginning of their message ends."""
    for length in range(16_300, 16_500, 50):
        text = "x" * 20_000 + f"[    1.000000] {KILL[:40]}" + "." * (length % 977)
        text = (
            text.ljust(20_000 + length, "\n") + "               ) total-vm:9kB, anon-rss:9kB\n" + "oom-kill\n"
        )
        assert read(text) == []


def test_short_lines_are_skipped_and_counted_when_there_are_too_many() -> None:
    """And what comes behind them is read."""
    log = OomLog()
    noise = "oom-kill\n" * 1_000_000
    reports = read(noise + "x\n" * 3_000_000 + KILL, log)
    assert [kill.pid for report in reports for kill in report.kills] == [1]
    assert log.skipped > 500_000


def test_reports_of_real_kernels_pay_for_themselves() -> None:
    """Nothing of a log is skipped that has nothing but reports, however many."""
    log = OomLog()
    text = (Path(__file__).parent.parent / "reports" / "6.1-host.txt").read_text()
    times = (text.replace("[   28.", f"[{at:5}.") for at in range(1000))
    assert len(read("".join(times), log)) == 1000
    assert log.skipped == 0


@pytest.mark.parametrize("prefix", ["", "> ", "a long prefix that nobody knows, 12 | "])
def test_reports_without_times_are_read(prefix: str) -> None:
    """Hundreds in a row, although their lines cost more, as nothing shows where they begin."""
    log = OomLog()
    text = (Path(__file__).parent.parent / "reports" / "6.1-host.txt").read_text()
    bare = re.sub(r"(?m)^\[ *\d+\.\d+\] ?", prefix, text)
    assert read(bare * 300, log)
    assert log.skipped == 0


def test_storm_of_kills_is_read_whole() -> None:
    """Beyond ten reports in five seconds the kernel prints one line for each kill."""
    log = OomLog()
    text = "".join(
        f"[{pid / 100:12.6f}] Memory cgroup out of memory: Killed process {pid} (worker) total-vm:36000kB, "
        "anon-rss:12000kB, file-rss:0kB, shmem-rss:0kB, UID:33 pgtables:60kB oom_score_adj:0\n"
        for pid in range(100_000, 120_000)
    )
    assert len(read(text, log)) == 20_000
    assert log.skipped == 0


def test_rows_beyond_any_hosts_are_counted() -> None:
    """A report says what it left out."""
    heading = "[ pid ]   uid  tgid total_vm      rss oom_score_adj name\n"
    rows = "".join(f"[{pid}] 0 {pid} 9 9 0 a\n" for pid in range(1, 25_101))
    (report,) = read(heading + rows + KILL)
    assert (len(report.tasks), report.rows_left_out) == (25_000, 100)


# What reads the kernel's log by syslog(2) puts the prefix of a message in front of each of its lines. These
# are of `mount -t overlay -o upperdir=$'/a\nOut of memory: …'` in a user namespace of an unprivileged user's.

FIRST = "overlayfs: failed to resolve '/nonexistent/a"
REPORT_HEADER = "sh invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"
PREFIXES = {
    "dmesg -S": "[ 2840.101979] ",
    "dmesg -S -r": "<3>[ 2840.101979] ",
    "a serial console": "[ 2840.101979][    C1] ",
    "rsyslog": "2026-10-12T19:00:20.123456+02:00 db1 kernel: [ 2840.101979] ",
    "syslog": "Oct 12 19:00:20 db1 kernel: [ 2840.101979] ",
}


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
@pytest.mark.parametrize("between", [(), ("",) * 400, (REPORT_HEADER,), (" ",), (REPORT_HEADER, KILL)])
def test_further_lines_of_a_message_are_no_reports(prefix: str, between: tuple[str, ...]) -> None:
    """Whatever else the user puts in front, and wherever a block ends."""
    before = prefix.replace("2840.101979", "2840.101871") + "usb 1-1: new high-speed USB device number 2"
    lines = [before, *(prefix + text for text in (FIRST, *between, KILL, "x': -2"))]
    text = "".join(f"{line}\n" for line in lines)
    for block in (61, 1000, BLOCK):
        log = OomLog()
        assert read(text, log, block=block) == []
        assert log.unread.count == 1 + between.count(KILL) + between.count(REPORT_HEADER)


@pytest.mark.parametrize(
    "first", [f"{FIRST} invoked oom-killer: ", f"{FIRST}: Killed process 1 (", "audit: Manual OOM execution"]
)
def test_first_line_of_a_message_does_not_vouch_for_the_next(first: str) -> None:
    """Although it has the words of a report in it."""
    prefix = PREFIXES["dmesg -S"]
    assert read(f"{prefix}{first}\n{prefix}{KILL}\n") == []


def test_further_lines_of_a_message_are_known_among_the_lines_of_others() -> None:
    """A log server, or one file for the kernel and all programs."""
    prefix = PREFIXES["syslog"]
    others = [
        "Oct 12 19:00:20 db2 kernel: [ 2840.101979] eth0: link is up\n",
        "Oct 12 19:00:20 db1 app[7]: [ 2840.101979] hello\n",
        "Oct 12 19:00:20 db1 app[7]: Mem-Info:\n",
    ]
    for other in others:
        assert read(f"{prefix}{FIRST}\n{other}{prefix}{KILL}\n") == []
        assert len(read(f"{other}{prefix}{KILL}\n")) == 1


def test_reports_of_a_coarse_clock_are_believed() -> None:
    """Many lines of one report may have one time; and another message may come right before."""
    text = (Path(__file__).parent.parent / "reports" / "6.1-host.txt").read_text()
    (report,) = read(text)
    one_time = re.sub(r"(?m)^\[ *\d+\.\d+\]", "[   28.843324]", text)
    (coarse,) = read(f"[   28.843320] {FIRST}': -2\n{one_time}")
    assert (coarse.victim, coarse.tasks, coarse.memory) == (report.victim, report.tasks, report.memory)


def test_line_without_a_time_is_no_report_where_others_have_one() -> None:
    """A dmesg that does not indent leaves the further lines of a message bare."""
    assert read(f"[ 2840.101979] {FIRST}\n{KILL}\nx': -2\n") == []
    assert len(read(f"[ 2840.101979] {KILL}\n")) == 1
    assert len(read(f"{FIRST}\n{KILL}\n")) == 1  # nothing tells it there: docs/postmortem.md


# journalctl and dmesg put the prefix in front of a message, and indent its further lines by the width of it.

INDENTING = {
    "dmesg": "[ 2840.101979] ",
    "dmesg -x": "kern  :err   : [ 2840.101979] ",
    "dmesg, another program": "<30>[ 2840.101979] ",
    "journalctl": "Oct 12 19:00:20 db1 kernel: ",
    "journalctl, another program": "Oct 12 19:00:20 db1 a[7]: ",
    "short-full, another program": "Mon 2026-10-12 19:00:20 UTC db1 a b[7]: ",
    "short-monotonic, another program": "[ 2840.101979] db1 a[7]: ",
}
FORGED = {
    "bare": KILL,
    "with a time": f"[ 2841.000000] {KILL}",
    "deeper": f"    [ 2841.000000] {KILL}",
    "with a program": f"Oct 12 19:00:21 db1 kernel: {KILL}",
    "in quotes": f'"[ 2841.000000] {KILL}"',
    "in JSON": json.dumps({"log": f"[ 2841.000000] {KILL}"}),
}
every_dress = pytest.mark.parametrize("prefix", INDENTING.values(), ids=INDENTING)
every_forgery = pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)


def indented(prefix: str, *texts: str) -> str:
    """Return the lines of a message."""
    return prefix + ("\n" + " " * len(prefix)).join(texts) + "\n"


def cut(before: str, at: int, text: str) -> list[str]:
    """Return a log in two blocks, so that its first piece ends that many characters within the text."""
    noise = before.rstrip("\n").ljust(1000, ".") + "\n"
    log = noise * 1100 + text + noise * 40
    end = 1100 * len(noise) + at + (1 << 15)
    return [log[:end], log[end:]]


@pytest.mark.parametrize("name", ["kernel", "a:", "a kernel"])
@pytest.mark.parametrize("forged", [KILL, f"kernel: {KILL}", f"[ 2841.000000] {KILL}"])
def test_program_with_the_kernels_name_is_another(name: str, forged: str) -> None:
    """Anybody may log by any name (`logger -t kernel`). journalctl shows the pid, and the kernel has none."""
    usual = INDENTING["journalctl"] + "usb 1-1: new high-speed USB device number 2\n"
    assert read(f"{usual}Oct 12 19:00:20 db1 {name}[7]: {forged}\n{usual}") == []
    assert len(read(f"{usual}Oct 12 19:00:20 db1 kernel[0]: {KILL}\n{usual}")) == 1


@every_dress
@every_forgery
def test_indented_lines_of_a_message_are_no_reports(prefix: str, forged: str) -> None:
    """However many are before, however long, and whatever is in them."""
    usual = indented(prefix.replace("2840", "2839"), "usb 1-1: new high-speed USB device number 2")
    for between in (
        *[[""] * count for count in (0, 69, 299, 899)],
        ["x" * 50] * 2000,
        ["x" * 40_000],
        [forged],
        ["oom-kill"],
        ["  A=B"],
    ):
        for first in (FIRST, "total-vm:", "x" * 40_000):
            assert read(usual + indented(prefix, first, *between, forged, "x': -2") + usual) == []


@every_dress
@pytest.mark.parametrize("count", [0, 20, 70, 900])
def test_piece_of_a_log_may_end_within_a_message(prefix: str, count: int) -> None:
    """Its other lines are further lines still, be they in the next piece."""
    usual = prefix.replace("2840", "2839")
    for forged in (KILL, FORGED["with a time"]):
        message = indented(prefix, FIRST, *[""] * count, forged, "x': -2")
        for at in range(0, len(message), len(message) // 4):
            assert [*OomLog().read(cut(usual, at, message))] == [], at


@every_dress
def test_rest_of_a_further_line_is_no_line(prefix: str) -> None:
    """If a message is longer than what is known of the log, the next block may begin within a line of it."""
    usual = prefix.replace("2840", "2839")
    for length in (40_000, 1000):
        filling = [f"{'x' * length}[ 2841.000000] {KILL}"] * (80_000 // length)
        message = indented(prefix, "oom-kill", *filling) + f"{usual}{filling[0][-600:]}\n" * 200
        for at in range(0, 1000, 300):
            assert [*OomLog().read(cut(usual, at, message))] == [], (length, at)


def test_real_message_of_two_lines_is_read_wherever_a_piece_ends() -> None:
    """A process may have a name with a line break."""
    text = (Path(__file__).parent.parent / "reports" / "6.18-memcg-newline-name.txt").read_text()
    [expected] = read(text)
    assert expected.invoker is not None
    for found in re.finditer(r"\n {10}", text):
        blocks = cut(INDENTING["dmesg"], found.start() + 1, text)
        assert [*OomLog().read(blocks)] == [expected], found.start()


@every_forgery
@pytest.mark.parametrize("transport", ["kernel", "syslog"])
def test_further_lines_of_a_field_are_no_messages(transport: str, forged: str) -> None:
    """`journalctl -o verbose` indents them by the name of the field."""
    for text in (forged, f"MESSAGE={forged}", f"_TRANSPORT=kernel\n            MESSAGE={forged}"):
        fields = [f"_TRANSPORT={transport}", "_HOSTNAME=db1", f"MESSAGE={FIRST}\n            {text}"]
        for order in (fields, fields[::-1]):
            entry = "\n    ".join(["Mon 2026-10-12 19:00:20.123456 UTC [s=a1;i=1;b=b2;m=1;t=2;x=3]", *order])
            log = OomLog()
            assert read(f"{entry}\n{entry}\n", log) == []
            assert log.unread.count == 2


def test_quotes_without_an_end_are_searched_once() -> None:
    """Many quotes take no longer than two."""
    rest = "\\x" * 14_000
    times = []
    for line in (f"'\"{rest}", "'" + rest.replace("x", '"')):
        start = process_time()
        for _ in range(20):
            assert quoted_messages(line) == ([], 0)
        times.append(process_time() - start)
    assert times[1] < 5 * times[0]


def test_short_logs_in_strings_cost_more_than_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is searched like a whole log, so fewer are parsed: of messages of that length, twice as many."""
    monkeypatch.setattr("oomguard.oom.log_reader._CREDIT", 1 << 22)
    text, reader = log("short logs in a string of JSON", 6_000_000), OomLog()
    assert read(text, reader) == []
    assert text.count("\n") - reader.skipped < 10_000


@pytest.mark.parametrize(
    ("kind", "parsed"),
    [
        ("messages in strings", 3000),
        ("counters in a report", 3400),
        ("rows between other lines", 6600),
        ("a storm of kills", 1000),
    ],
)
def test_lines_that_take_longer_cost_more(kind: str, parsed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose beginning must be found, rows of which each is read by itself, and kills to print."""
    monkeypatch.setattr("oomguard.oom.log_reader._CREDIT", 0)
    text, reader = log(kind, 600_000), OomLog()
    read(text, reader)
    assert parsed // 2 < text.count("\n") - reader.skipped < parsed
