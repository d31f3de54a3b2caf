"""What stands in front of the kernel's words, in every log they are kept in."""

import json

import pytest

from oomguard.oom.log_entry import split_line
from oomguard.oom.log_line import Line
from oomguard.oom.log_reader import OomLog
from oomguard.oom.log_time import is_near, moment_of, seconds_between

TEXT = "python3 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"

PREFIXES = {
    "none": ("", Line(TEXT)),
    "dmesg": ("[   34.791100] ", Line(TEXT, uptime_seconds=34.7911)),
    "dmesg with caller": ("[   34.791100][  T123] ", Line(TEXT, uptime_seconds=34.7911)),
    "dmesg with caller, spaced": ("[   34.791100] [ C1] ", Line(TEXT, uptime_seconds=34.7911)),
    "dmesg -d": ("[   34.791100 <    0.000006>] ", Line(TEXT, uptime_seconds=34.7911)),
    "dmesg -x": ("kern  :warn  : [   34.791100] ", Line(TEXT, uptime_seconds=34.7911)),
    "dmesg -r": ("<4>[   34.791100] ", Line(TEXT, uptime_seconds=34.7911)),
    "dmesg -T": ("[Mon Oct 12 19:00:20 2026] ", Line(TEXT, "Mon Oct 12 19:00:20 2026")),
    "dmesg --time-format iso": (
        "2026-10-12T19:00:20,123456+00:00 ",
        Line(TEXT, "2026-10-12T19:00:20,123456+00:00"),
    ),
    "syslog": ("Oct  2 19:00:20 db1 kernel: ", Line(TEXT, "Oct  2 19:00:20", host="db1")),
    "syslog with uptime": (
        "Oct 12 19:00:20 db1 kernel: [ 8523.347168] ",
        Line(TEXT, "Oct 12 19:00:20", 8523.347168, "db1"),
    ),
    "rsyslog": (
        "2026-10-12T19:00:20.123456+02:00 db1.example.org kernel: [ 8523.347168] ",
        Line(TEXT, "2026-10-12T19:00:20.123456+02:00", 8523.347168, "db1.example.org"),
    ),
    "RFC 5424": (
        "<4>1 2026-10-12T19:00:20.123456Z db1 kernel - - - ",
        Line(TEXT, "2026-10-12T19:00:20.123456Z", host="db1"),
    ),
    "BusyBox": (
        "Oct 12 19:00:20 router kern.warn kernel: [ 8523.347168] ",
        Line(TEXT, "Oct 12 19:00:20", 8523.347168, "router"),
    ),
    "OpenWrt": (
        "Mon Oct 12 19:00:20 2026 kern.warn kernel: [ 8523.347168] ",
        Line(TEXT, "Mon Oct 12 19:00:20 2026", 8523.347168),
    ),
    "journalctl": ("Oct 12 19:00:20 db1 kernel: ", Line(TEXT, "Oct 12 19:00:20", host="db1")),
    "journalctl -o short-precise": (
        "Oct 12 19:00:20.123456 db1 kernel: ",
        Line(TEXT, "Oct 12 19:00:20.123456", host="db1"),
    ),
    "journalctl -o short-iso": (
        "2026-10-12T19:00:20+0200 db1 kernel: ",
        Line(TEXT, "2026-10-12T19:00:20+0200", host="db1"),
    ),
    "journalctl -o short-full": (
        "Mon 2026-10-12 19:00:20 UTC db1 kernel: ",
        Line(TEXT, "Mon 2026-10-12 19:00:20 UTC", host="db1"),
    ),
    "journalctl -o short-unix": (
        "1791831620.123456 db1 kernel: ",
        Line(TEXT, "1791831620.123456", host="db1"),
    ),
    "journalctl -o short-monotonic": (
        "[   34.791100] db1 kernel: ",
        Line(TEXT, uptime_seconds=34.7911, host="db1"),
    ),
    "CRI": (
        "2026-10-12T19:00:21.5Z stdout F Oct 12 19:00:20 db1 kernel: ",
        Line(TEXT, "2026-10-12T19:00:21.5Z", host="db1"),
    ),
    "dmesg -e": ("[Nov23 14:57] ", Line(TEXT, "Nov23 14:57")),
    "dmesg -e, the next": ("[  +0.000006] ", Line(TEXT)),
    "dmesg --time-format delta": ("[<    0.000006>] ", Line(TEXT)),
    "colours": ("\x1b[32m[   34.791100] \x1b[0m\x1b[33m", Line(TEXT, uptime_seconds=34.7911)),
    "/dev/kmsg": ("4,3578,34791100,-;", Line(TEXT, uptime_seconds=34.7911)),
    "/dev/kmsg with caller": ("4,3578,34791100,-,caller=T12;", Line(TEXT, uptime_seconds=34.7911)),
}


@pytest.mark.parametrize("log", PREFIXES)
def test_kernels_words_are_found_in_each_log(log: str) -> None:
    """What was put in front is taken off, and what it tells is kept."""
    prefix, line = PREFIXES[log]
    (report,) = OomLog().read([prefix + TEXT + "\n" + prefix + "Mem-Info:\n"])
    assert report.invoker is not None
    assert report.invoker.comm == "python3"
    assert (report.when, report.uptime_seconds, report.host) == (line.when, line.uptime_seconds, line.host)


@pytest.mark.parametrize(
    "line",
    [
        "Oct 12 19:00:20 db1 systemd[1]: x.service: A process of this unit was killed by the OOM killer.",
        "Oct 12 19:00:20 db1 earlyoom: sending SIGTERM to process 12",
        "2026-10-12T19:00:20.123+00:00 db1 kernel-monitor: Out of memory: Killed process 7 (a)",
        "2026-10-12T19:00:20Z stdout F 2026-10-12 19:00:20 app[3]: Killed process 7 (a)",
        "[   34.791100] db1 systemd[1]: Killed process 7 (a)",
        "<12>Oct 12 19:00:20 alice: Killed process 7 (a)",
        "12,900,5000,-;Killed process 7 (a)",
        "user  :emerg : [38516.991826] Killed process 7 (a)",
        "<14>Killed process 7 (a)",
        '{"MESSAGE":"Killed process 7 (a)","_TRANSPORT":"stdout"}',
        '{"log":"Oct 12 19:00:20 db1 app[1]: Killed process 7 (a)\\n"}',
        "{",
        "{}",
        "[1]",
        '{"MESSAGE":null}',
        '{"MESSAGE":[1,2,999]}',
    ],
)
def test_what_others_say_is_no_line_of_the_kernel(line: str) -> None:
    """Only the kernel's own words are evidence."""
    log = OomLog()
    assert list(log.read([line])) == []
    assert log.unread.count == ("Killed process" in line or "OOM killer" in line)


def test_name_with_a_newline_is_whole_in_the_device() -> None:
    """The device escapes what is not printable, and the backslash."""
    line = split_line(r"4,1,2,-;a\x0a\x5cx41\xc3\xa4 invoked oom-killer")
    assert line is not None
    assert line.text == "a\n\\x41ä invoked oom-killer"


def test_journal_entries_are_read_in_every_form() -> None:
    """A message is a string, or a list of bytes where it is not printable."""
    entry = {
        "MESSAGE": "a\nb",
        "_TRANSPORT": "kernel",
        "_HOSTNAME": "db1",
        "__REALTIME_TIMESTAMP": "1791831620123456",
        "_SOURCE_MONOTONIC_TIMESTAMP": "34791100",
    }
    expected = Line("a\nb", "1791831620.123456", 34.7911, "db1")
    assert split_line(json.dumps(entry)) == expected
    raw = entry | {"MESSAGE": list(b"\x1ba\xff")}
    found = split_line(json.dumps(raw))
    assert found is not None
    assert found.text == "\x1ba\udcff"


def test_docker_logs_are_read() -> None:
    """A container that follows the kernel's log wraps each line."""
    entry = {"log": f"[   34.791100] {TEXT}\n", "stream": "stdout", "time": "2026-10-12T19:00:20Z"}
    assert split_line(json.dumps(entry)) == Line(TEXT, "2026-10-12T19:00:20Z", 34.7911)


def test_newlines_that_rsyslog_escaped_come_back() -> None:
    """It writes #012 for one."""
    line = split_line("Oct 12 19:00:20 db1 kernel: active_anon:1#012 active_file:2")
    assert line is not None
    assert line.text == "active_anon:1\n active_file:2"


def test_lines_of_two_boots_are_as_far_apart_as_the_clock_says() -> None:
    """Their times since boot may be near."""
    first, other = Line("", "Oct 12 19:00:20", 100.0), Line("", "Oct 12 21:00:20", 101.0)
    assert seconds_between(first, other) == 7200
    assert not is_near(first, other)


def test_a_time_with_a_zone_is_the_same_moment_everywhere() -> None:
    """Logs of several hosts are joined by it."""
    assert moment_of("2026-11-20T12:00:00+05:00") == moment_of("2026-11-20T07:00:00Z") == 1795158000
    assert moment_of("2026-11-20T12:00:00") is not None  # this host's
    assert moment_of("Nov 20 12:00:00") is None
