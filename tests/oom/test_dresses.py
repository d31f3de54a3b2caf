"""Every kernel's reports in everything that tools and people put around them."""

import json

import pytest

import oom_formats as formats
from log_dresses import DRESSES, WRAPPED, dressed
from oomguard.oom.log_reader import OomLog
from oomguard.oom.report import Report

REPORTS = {kernel.release: formats.host_report(kernel) for kernel in formats.KERNELS} | {
    name: getattr(formats, name).splitlines() for name in formats.TEXTS
}


def read(text: str, block: int = 1 << 20) -> tuple[list[Report], OomLog]:
    """Read a log in blocks of that many characters."""
    log = OomLog()
    return list(log.read(text[at : at + block] for at in range(0, len(text), block))), log


@pytest.mark.parametrize("dress", DRESSES)
def test_every_report_is_read_in_every_dress(dress: str) -> None:
    """The same kills and tasks as in the kernel's own words, and no line is left unread."""
    for name, lines in REPORTS.items():
        expected, _ = read("\n".join(lines))
        found, log = read(dressed(dress, lines))
        if dress in WRAPPED:  # whether a name had a space is lost with the end of a line
            expected = [_without_spaces(one) for one in expected]
            found = [_without_spaces(one) for one in found]
        for key in ("kills", "tasks", "choice", "context", "group"):
            values = [[getattr(one, key) for one in reports] for reports in (found, expected)]
            assert values[0] == values[1], (name, key)
        if dress not in WRAPPED:
            assert [one.memory for one in found] == [one.memory for one in expected], name
            assert [one.oom_memcg for one in found] == [one.oom_memcg for one in expected], name
            assert [one.invoker for one in found] == [one.invoker for one in expected], name
        assert log.unread.count == 0, name


@pytest.mark.parametrize("dress", DRESSES)
def test_a_dress_is_the_same_in_pieces(dress: str) -> None:
    """Neighbors are known wherever a block ends."""
    text = dressed(dress, REPORTS["6.12.1"])
    assert read(text, 97)[0] == read(text)[0]


@pytest.mark.parametrize("dress", ["syslog", "rsyslog, no uptime", "json", "cut before the program"])
def test_newest_line_may_come_first(dress: str) -> None:
    """As `journalctl -r` and web pages show it."""
    for name in [kernel.release for kernel in formats.KERNELS]:
        lines = REPORTS[name]
        prefix = "2026-10-12T19:00:20.{number:06}+02:00 db1 kernel: " if "," in dress else ""
        text = "".join(f"{prefix.format(number=at)}{line}\n" for at, line in enumerate(lines))
        text = text if prefix else dressed(dress, lines)
        backward = "".join(reversed(text.splitlines(keepends=True)))
        (expected, _), (found, log) = read(text), read(backward)
        for key in ("kills", "tasks", "choice", "context", "group", "invoker"):
            assert [getattr(one, key) for one in found] == [getattr(one, key) for one in expected], name
        assert log.unread.count == 0


def test_log_with_the_kernels_own_times_is_never_reversed() -> None:
    """Nothing prints it so, and a user's text could make it look so, to have his own line come first."""
    kill = "Out of memory: Killed process 7 (a) total-vm:9kB, anon-rss:9kB"
    forged = (
        f"[    1.000000] {kill}\n"
        "[    2.000000] overlayfs: failed to resolve '/a\n"
        "[    2.000000] Out of memory: Killed process 1 (init) total-vm:9kB, anon-rss:9kB\n"
        "[    2.000000] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,"
        "global_oom,task_memcg=/,task=a,pid=7,uid=0\n"
    )
    reports, _ = read(forged)
    assert [one.pid for report in reports for one in report.kills] == [7]


@pytest.mark.parametrize("time", ["NaN", "Infinity", "-1.0", "1e300", "7", '"x"'])
def test_time_of_an_entry_is_a_time_or_none(time: str) -> None:
    """Whatever JSON has there."""
    (report,), _ = read(f'{{"pri":4,"time":{time},"msg":"Out of memory: Killed process 7 (a)"}}\n')
    assert report.uptime_seconds is None
    (report,), _ = read(f'{{"log":"Out of memory: Killed process 7 (a)","time":"hello {"x" * 99}"}}\n')
    assert report.when == ""


@pytest.mark.parametrize("key", ["log", "MESSAGE", "msg"])
def test_half_a_character_is_none(key: str) -> None:
    """JSON can write what no text has."""
    context = (
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/"
    )
    for text in (f"{context},task=a\\ud800,pid=7,uid=0", "Out of memory: Killed process 7 (a\\udfff)"):
        (report,), _ = read(f'{{"{key}":"{text}","pri":4,"_HOSTNAME":"\\ud834"}}\n')
        one = report.chosen or report.victim
        assert one is not None
        assert one.comm == "a\ufffd"


def test_half_a_character_in_quotes_is_none() -> None:
    """Any program can print such an escape."""
    message = "Out of memory: Killed process 7 (a\\ud800) total-vm:5kB"
    (report,), _ = read(f'time="x" level=info msg="{message}"\n')
    assert [kill.comm for kill in report.kills] == ["a\ufffd"]
    reports, _ = read('"\\ud800 invoked oom-killer: gfp_mask=0x1, order=0, oom_score_adj=0"\n')
    assert [one.invoker and one.invoker.comm for one in reports] == ["\ufffd"]


def test_event_in_nested_json_is_read() -> None:
    """A field's object may begin in the line before."""
    kill = "Memory cgroup out of memory: Killed process 7 (a) total-vm:9kB, anon-rss:9kB"
    event = {"verb": "ADDED", "event": {"reason": "OOMKilling", "message": kill, "source": {"host": "a"}}}
    reports, log = read(json.dumps(event, indent=2) + "\n")
    assert ([one.pid for report in reports for one in report.kills], log.unread.count) == ([7], 0)


@pytest.mark.parametrize("before", ["changed: [db1] => ", "fatal: [db1]: FAILED! => ", "", "  (item=a) => "])
@pytest.mark.parametrize("stdout", [None, "", "cut", "one line", "garbled"])
def test_lines_of_a_task_are_read_if_its_output_is_not(before: str, stdout: str | None) -> None:
    """A string in JSON that ends early, and the list of its lines beside it."""
    lines = REPORTS["6.12.1"]
    text = "\n".join(lines)
    ways = {"cut": text[:500], "one line": " ".join(lines), "garbled": text.replace("Killed p", "KiIled p")}
    task: dict[str, object] = {"stdout": ways.get(stdout or "", stdout), "stdout_lines": lines}
    reports, log = read(f"{before}{json.dumps(task)}\n")
    assert [(len(one.kills), len(one.tasks)) for one in reports] == [(1, 4)]
    assert log.unread.count == 0


@pytest.mark.parametrize("ending", ["\\par", " \\\\", ";"])
def test_what_stands_behind_each_line_is_no_part_of_it(ending: str) -> None:
    """The heading of the table shows what that is."""
    lines = REPORTS["6.12.1"]
    (expected,), _ = read("\n".join(lines))
    (report,), log = read("".join(f"{line}{ending}\n" for line in lines))
    assert (report.tasks, report.kills, log.unread.count) == (expected.tasks, expected.kills, 0)


@pytest.mark.parametrize("whole", [True, False])
def test_every_log_in_an_entry_is_read(whole: bool) -> None:
    """One for each host or event, in which most lines are alike."""
    lines = REPORTS["6.12.1"]
    both = [lines, [line.replace("1377", "2377") for line in lines]]
    outputs: list[list[str]] = [["\n".join(one)] for one in both] if whole else both
    reports, _ = read(json.dumps({"results": [{"stdout": text} for one in outputs for text in one]}))
    assert [([kill.pid for kill in one.kills], len(one.tasks)) for one in reports] == [
        ([1377], 4),
        ([2377], 4),
    ]


def test_report_that_a_log_has_twice_is_told_once() -> None:
    """Two files, or two fields of an entry, have the same lines; another time is another kill."""
    one, other = (dressed(dress, REPORTS["6.12.1"]) for dress in ("dmesg", "dmesg -T"))
    assert len(read(one + one)[0]) == 1
    assert len(read(one + other + one + other)[0]) == 2


def test_event_of_kubernetes_in_yaml_is_read() -> None:
    """As `kubectl get events -o yaml` folds it: in quotes, with further lines."""
    text = (
        "- count: 1\n  kind: Event\n"
        "  message: 'Memory cgroup out of memory: Killed process 3504804 (kubectl) total-vm:753508kB,\n"
        "    anon-rss:58776kB, file-rss:29400kB, shmem-rss:0kB, UID:0 pgtables:288kB oom_score_adj:999'\n"
        "  reason: OOMKilling\n"
    )
    reports, log = read(text * 2)
    assert [kill[:5] for report in reports for kill in report.kills] == [
        (3504804, "kubectl", "Memory cgroup out of memory", 0, 999)
    ]
    assert log.unread.count == 0


@pytest.mark.parametrize("dress", [dress for dress in DRESSES if dress not in WRAPPED])
def test_a_line_of_a_report_alone_says_what_it_has(dress: str) -> None:
    """What `grep` leaves of a report is the kill, or the line is counted; nothing is invented."""
    lines = REPORTS["6.12.1"]
    reports, log = read(dressed(dress, lines[-1:]))
    kills = [(kill.pid, kill.comm) for report in reports for kill in report.kills]
    victim = (formats.VICTIM.pid, formats.VICTIM.comm)
    assert kills == [victim] or (not kills and log.unread.count == 1)


def _without_spaces(report: Report) -> Report:
    return report._replace(
        kills=tuple(kill._replace(comm=kill.comm.replace(" ", "")) for kill in report.kills),
        tasks=tuple(task._replace(comm=task.comm.replace(" ", "")) for task in report.tasks),
        choice=report.choice and report.choice._replace(comm=report.choice.comm.replace(" ", "")),
        context=report.context and report.context._replace(comm=report.context.comm.replace(" ", "")),
    )


@pytest.mark.parametrize(
    "line",
    [
        "[    2.000000] overlayfs: failed to resolve '/a {}'",
        "[    2.000000] overlayfs: '/a [    3.000000] {}'",
        "Oct 12 19:00:20 db1 kernel: overlayfs: failed to resolve '/kernel: {}'",
        "[Mon Oct 12 19:00:20 2026] overlayfs: failed to resolve '/a {}'",
        "[Di Mär  4 12:00:01 2025] overlayfs: '/a [    3.000000] {}'",
        '[    2.000000] overlayfs: failed to resolve \'msg="{}"',
        "[    2.000000] overlayfs: failed to resolve '/a\\n[    3.000000] {}",
        "[    2.000000] overlayfs: failed to resolve '/a<br>[    3.000000] {}",
        "[    2.000000] overlayfs: failed to resolve '/a&#10;[    3.000000] {}",
        'Oct 12 19:00:20 db1 app[7]: level=info msg="{}"',
        'Oct 12 19:00:20 db1 app[7]: {{"message":"{}"}}',
        '2026-10-12T19:00:20Z db1 app[7]: {{"message":"{}"}}',
        "[12/10/2026 19:00] anna: [    2.000000] overlayfs: '/a {}",
        "[19:00] app: hello {}",
        "[    2.000000] overlayfs: '/a [19:00] anna: [    3.000000] {}",
        'level=info agent="{}"',
        'level=info agent="x \\"msg\\"=>\\"{}\\""',
        "{{'agent': 'x \"msg\": \"{}\"'}}",
        '{{"host"=>"a", "agent"=>"{}"}}',
        '{{"jsonPayload":{{"MESSAGE":"{}","_TRANSPORT":"stdout"}}}}',
        '{{"jsonPayload":{{"MESSAGE":"{}"}}}}',
        '{{"log":"{{\\"agent\\":\\"{}\\"}}"}}',
        "Oct 12 19:00:20 db1 app[7]: kernel: {}",
        "Oct 12 19:00:20 db1 app: [    3.000000] {}",
        "2026-10-12T19:00:20Z db1 app 7 - - [    3.000000] {}",
        "user: warning: [2026-10-12T19:00:20Z]: {}",
        "    MESSAGE=x\n            MESSAGE={}\n    _TRANSPORT=stdout",
        '{{"MESSAGE":"{}","_TRANSPORT":"stdout"}}',
        '{{"MESSAGE":"overlayfs: /a\\n{}","_TRANSPORT":"kernel"}}',
        '{{"MESSAGE":"[ 2.0] overlayfs: /a\\n[ 3.0] {}","_TRANSPORT":"kernel"}}',
        '{{"message":"GET /","agent":"{}"}}',
        '{{"message":"GET /","http":{{"user_agent":"[    2.000000] {}"}}}}',
        '{{"message":"overlayfs: failed to resolve \'/a\\n{}"}}',
        '{{"log":"[    2.000000] overlayfs: /a\\n               {}"}}',
        '{{"log":"[    2.000000] overlayfs: /a\\n[    2.000000] {}"}}',
        '{{"log":"Oct 12 19:00:20 db1 app[7]: a\\nOct 12 19:00:20 db1 app[7]: {}"}}',
        '\t"MESSAGE" : "{}",\n\t"_TRANSPORT" : "syslog"',
        "MESSAGE={}\n_TRANSPORT=syslog\n",
        "MESSAGE={}\nMESSAGE=x\n_TRANSPORT=syslog\n",
        "MESSAGE={}\n" + "A=1\n" * 99 + "_TRANSPORT=syslog\n",
        "MESSAGE={}\nA=" + "x" * 40_000 + "\n_TRANSPORT=syslog\n",
        "    MESSAGE={}\n            MESSAGE=x\n    _TRANSPORT=stdout",
    ],
)
def test_kill_within_another_message_is_none(line: str) -> None:
    """Whatever prefix the user's own text has in it; the line is counted."""
    kill = "Out of memory: Killed process 1 (init) total-vm:9kB, anon-rss:9kB, file-rss:0kB"
    neighbor = "[    1.000000] usb 1-1: new high-speed USB device number 2\n"
    for around in ("", neighbor):
        reports, log = read(f"{around}{line.format(kill)}\n{around}")
        assert reports == []
        assert log.unread.count == 1


def test_records_of_the_device_may_be_in_a_string() -> None:
    """Whatever begins the first of them, a name with a line break included."""
    kill = "Memory cgroup out of memory: Killed process 7 (a) total-vm:9kB, anon-rss:9kB"
    records = f"4,1,5,-;a\\x0ab invoked oom-killer: gfp_mask=0x0, order=0\n3,2,6,-;{kill}\n"
    for text in (json.dumps({"log": records}), f'payload: "3,2,6,-;{kill}"', repr(records.encode())):
        reports, log = read(f"{text}\n")
        assert [kill.pid for report in reports for kill in report.kills] == [7]
        assert log.unread.count == 0


def test_messages_of_a_line_of_json_keep_their_time() -> None:
    """A tag may stand between the time and the object."""
    kill = "Out of memory: Killed process 7 (a) total-vm:9kB, anon-rss:9kB"
    for tag in ("kern.warn: ", "kernel.messages\t"):
        (report,) = read(f'2026-10-12 19:00:20.5 +0000 {tag}{{"message":"{kill}"}}\n')[0]
        assert report.when == "2026-10-12 19:00:20.5 +0000"


def test_line_that_a_mail_broke_is_not_joined_elsewhere() -> None:
    """A user may end a message with the character of a soft break; the kill behind it is listed."""
    kill = "[    3.000000] Out of memory: Killed process 7 (a) total-vm:9kB, anon-rss:9kB"
    reports, log = read(f"[    2.000000] overlayfs: '=3D/a=\n{kill}\n")
    assert (reports, log.unread.count) == ([], 1)


@pytest.mark.parametrize("mark", [">", "…"])
def test_line_that_a_pager_cut_is_read_as_far_as_it_goes(mark: str) -> None:
    """As `journalctl` shows it on a narrow screen, where the line of the choice is too long."""
    for width in range(80, 200, 7):
        lines = [f"Oct 12 19:00:20 db1 kernel: {line}" for line in REPORTS["6.12.1"]]
        cut = [line if len(line) <= width else f"{line[: width - 1]}{mark}" for line in lines]
        reports, log = read("\n".join(cut))
        kills = [kill.pid for report in reports for kill in report.kills]
        assert (kills, log.unread.count) == ([formats.VICTIM.pid], 0), width
