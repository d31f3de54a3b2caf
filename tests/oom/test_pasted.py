"""What people do to a report before anybody reads it: notes, cuts, elisions, markup, lost prefixes."""

import json
import quopri

import pytest

import oom_formats as formats
from oomguard.oom.kill import Context, parse_context
from oomguard.oom.log_reader import OomLog
from oomguard.oom.postmortem import examine, share_of
from oomguard.oom.report import Report
from oomguard.report.postmortem import headline

FIGURES = "total-vm:400000kB, anon-rss:160000kB"
KILLED = f"Out of memory: Killed process 1204 (mysqld) {FIGURES}"
LINES = formats.host_report(formats.KERNELS[-1])


def read(*lines: str) -> tuple[list[Report], OomLog]:
    """Read a log of these lines."""
    log = OomLog()
    return list(log.read(["\n".join(lines)])), log


def victims(*lines: str) -> list[list[int]]:
    """Return who was killed in each report; no line may be unread."""
    reports, log = read(*lines)
    assert log.unread.count == 0
    return [[kill.pid for kill in report.kills] for report in reports]


@pytest.mark.parametrize(
    "note",
    [
        "   (task_memcg=…/db.service)",
        "  <-- this one",
        " ...",
        ", file-rss:0kB ... oom_score_adj:200",
        ", file-rss:0kB, shmem-rss:0kB, UID:0, ...",
        ", file-rss:0kB[   12.000000] [ pid ]   uid  tgid total_vm      rss cpu oom_adj name",
        ", file-rss:0kB   3m           1       aks-1.17b",
        ", file-rss:0kB, shmem-rss:0k0",
        ", file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:9kB oom_score_a0",
        "$",
        "[/code]",
        "`,",
        "│",
        "\n        file-rss:0kB, shmem-rss:0kB",
    ],
)
def test_note_behind_the_figures_is_no_part_of_them(note: str) -> None:
    """A person may add what explains the line, or leave out its end."""
    (report,), log = read(KILLED + note)
    assert [(kill.pid, kill.comm, kill.anon_rss_kib) for kill in report.kills] == [(1204, "mysqld", 160000)]
    assert log.unread.count == 0


@pytest.mark.parametrize("note", [" was the victim", " total-vm:4OOOOOkB, anon-rss:9kB", " score"])
def test_words_behind_the_name_are_no_note(note: str) -> None:
    """Without figures, nothing tells a sentence from the kernel's line."""
    reports, log = read(f"Killed process 1204 (mysqld){note}")
    assert (reports, log.unread.count) == ([], 1)


def test_container_of_openvz_is_not_the_host() -> None:
    """It ran out of memory alone; the line has figures of its own."""
    line = "OOM killed process 29 (httpd) score 0 vm:204800kB, rss:102400kB, swap:0kB"
    for text in (line, f"Out of memory in UB 101: {line}"):
        (report,), log = read(f"[  812.000000] {text}")
        assert [(kill.pid, kill.rss_kib) for kill in report.kills] == [(29, 102400)]
        assert headline(examine(report)) == "httpd[29] was killed: memory ran out."
        assert log.unread.count == 0
    assert victims(f'Killed process 30 (java) in VE "101" {FIGURES}, file-rss:0kB') == [[30]]


@pytest.mark.parametrize(
    ("fields", "context"),
    [
        ("NONE,nodemask=(null),task=a,pid=3,uid=9", Context("none", 3, "a", 9)),
        (
            "NONE,nodemask=0,cpuset=/,mems_allowed=0-1,task=a,pid=3,uid=9",
            Context("none", 3, "a", 9, nodes="0"),
        ),
        ("MEMCG ... task=a,pid=3,uid=9", Context("memcg", 3, "a", 9)),
        ("MEMCG,…,task=a,pid=3,uid=9", Context("memcg", 3, "a", 9)),
        ("MEMCG,oom_memcg=/x,task=a,pid=3,uid=9", Context("memcg", 3, "a", 9, "/x")),
        (
            "MEMCG,nodemask=(null),\n    oom_memcg=/x,task_memcg=/x,\n    task=a,pid=3,uid=9",
            Context("memcg", 3, "a", 9, "/x", "/x"),
        ),
    ],
)
def test_context_without_some_fields_is_read(fields: str, context: Context) -> None:
    """A kernel without memory cgroups prints none, and people leave out what is long."""
    assert parse_context(f"oom-kill:constraint=CONSTRAINT_{fields}") == context


@pytest.mark.parametrize("torn", [8, 20, 40])
@pytest.mark.parametrize(
    "chosen",
    [
        "Task in {path}/02 killed as a result of limit of {path}",
        "oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg={path},task_memcg={path}/02,task=a,pid=1204,uid=0",
    ],
)
def test_cgroup_that_a_line_break_tore_is_whole(chosen: str, torn: int) -> None:
    """A terminal breaks a path anywhere. The victim's cgroup is the one at its limit, or below it."""
    path = f"/kubepods/pod{'951f6bc5' * 6}"
    line = f"[    1.000000] {chosen.format(path=path)}"
    at = line.index(path, max(line.find("limit of "), 0)) + torn
    (report,), _ = read(line[:at], line[at:], f"[    1.000000] Memory cgroup o{KILLED[1:]}")
    assert (report.oom_memcg, report.task_memcg) == (path, f"{path}/02")


def test_cgroup_whose_name_is_cut_is_not_named() -> None:
    """What is left of it may look like another one's."""
    (report,), _ = read(
        "Task in /kubepods/pod1/02 killed as a result of limit of /kubepo", "Killed process 9 (a)"
    )
    assert (report.oom_memcg, report.task_memcg) == ("", "/kubepods/pod1/02")
    assert headline(examine(report)).endswith(": a memory cgroup reached its limit.")


def test_context_that_is_cut_tells_what_ran_out() -> None:
    """The line of the kill says so only of memory cgroups."""
    cut = "oom-kill:constraint=CONSTRAINT_CPUSET,nodemask=(null),cpuset=vcpu,mems_allowed=1,global_oom,ta>"
    (report,), log = read(cut, KILLED)
    assert headline(examine(report)).startswith("mysqld[1204] was killed: memory node 1 of its cpuset")
    assert log.unread.count == 0


@pytest.mark.parametrize("stamp", [("", ""), ("[    2.000000] ", "[    1.000000] ")])
def test_choice_may_follow_its_kill(stamp: tuple[str, str]) -> None:
    """As people order them, or a page that shows the newest line first."""
    context = (
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/x,task_memcg=/x,task=a,pid={},uid=0"
    )
    killed = KILLED.replace("Out of", "Memory cgroup out of")
    (report,), _ = read(stamp[0] + killed, stamp[1] + context.format(1204))
    assert (report.oom_memcg, [kill.pid for kill in report.kills]) == ("/x", [1204])
    reports, _ = read(stamp[0] + killed, stamp[1] + context.format(1205))
    assert [report.oom_memcg for report in reports] == ["", "/x"]


def test_newest_line_may_come_first_with_the_kernels_times() -> None:
    """If all times go back: a log in which one does not is in order, and somebody's text may look so."""
    lines = [f"[   12.{at:06}] {line}" for at, line in enumerate(LINES)]
    (expected,), _ = read(*lines)
    (found,), log = read(*reversed(lines))
    assert (found.invoker, found.tasks, found.kills) == (expected.invoker, expected.tasks, expected.kills)
    assert log.unread.count == 0
    reports, _ = read(lines[0], *reversed(lines))
    assert len(reports) > 1


def test_escaped_name_of_a_unit_is_shown_whole() -> None:
    """As systemd escapes it."""
    unit = "app-Hyprland-xdg\\x2dterminal\\x2dexec-977517a3.scope"
    (report,), _ = read(
        f"Sep 25 19:18:11 db1 systemd[999]: {unit}: systemd-oomd killed 17 process(es) in this unit."
    )
    assert (
        headline(examine(report))
        == f"Not the kernel: systemd-oomd killed {unit} for memory pressure or swap."
    )


@pytest.mark.parametrize("cut", [5, 16, 19, 28])
def test_first_line_may_have_lost_its_prefix(cut: int) -> None:
    """Whoever selects text with a mouse begins late."""
    text = "\n".join(f"Oct 12 19:00:20 db1 kernel: {line}" for line in LINES)
    (report,), log = read(text[cut:])
    assert report.invoker is not None
    assert (report.host, len(report.kills), log.unread.count) == ("db1", 1, 0)


def test_time_without_a_date_is_a_time() -> None:
    """As viewers show it, which may go past midnight."""
    lines = [f"{'23:59:59' if at < 9 else '00:00:01'} kernel: {line}" for at, line in enumerate(LINES)]
    (report,), _ = read(*lines)
    assert (report.when, len(report.kills)) == ("23:59:59", 1)
    (report,), _ = read(*(f"10/12/2026, 7:00:20 PM {line}" for line in LINES))
    assert report.when == "10/12/2026, 7:00:20 PM"


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        ("  <message>", "</message>"),
        ("<Event><Data>", "</Data></Event>"),
        ("<msg><![CDATA[", "]]></msg>"),
        ("<tr><td>Oct 12 19:00:20</td><td>db1</td><td>", "</td></tr>"),
        ('- {"lvl": "target", "msg": "', '"}'),
        ("Oct 12 19:00:20 db1 kernel:  ", ""),
        ("\u200b", "$"),
    ],
)
def test_lines_in_markup_are_read(before: str, behind: str) -> None:
    """Of events, web pages, test benches and editors."""
    assert victims(*(f"{before}{line}{behind}" for line in LINES)) == [[formats.VICTIM.pid]]


@pytest.mark.parametrize(
    "text",
    [
        "[code]\n{}[/code]",
        '[QUOTE="anna, post: 12"]{}[/QUOTE]',
        "<nowiki>{}</nowiki>",
    ],
)
def test_report_in_tags_is_read(text: str) -> None:
    """Their end may stand in the line of the kill."""
    assert victims(text.format("\n".join(LINES))) == [[formats.VICTIM.pid]]


def test_escapes_and_hyphens_of_editors_are_undone() -> None:
    """Markdown escapes underscores; word processors put in hyphens and dashes of their own."""
    text = "\n".join(LINES)
    for other in (text.replace("_", "\\_"), text.replace("-", "\u2011"), text.replace("-rss", "\u2013rss")):
        assert victims(other) == [[formats.VICTIM.pid]]
    stamped = "\r".join(f"[    1.0{at:05}] {line}" for at, line in enumerate(LINES))
    assert victims(stamped) == [[formats.VICTIM.pid]]


def test_strings_of_one_list_are_a_log() -> None:
    """As a program prints the lines it has."""
    lines = [f"[    1.0{at:05}] {line}" for at, line in enumerate(LINES)]
    assert victims(repr(lines)) == [[formats.VICTIM.pid]]


def test_list_of_entries_in_one_line_is_a_log() -> None:
    """As an API returns them."""
    stamped = [f"[ 8523.{at:06}] {line}" for at, line in enumerate(LINES)]
    for key, lines in (("message", stamped), ("SyslogMessage", LINES)):
        entries = [{"timestamp": "2026-10-12T19:00:20Z", key: line} for line in lines]
        for text in (json.dumps(entries), json.dumps(entries, separators=(",", ":")) + ","):
            assert victims(text) == [[1377]]
    assert victims(json.dumps([{"message": KILLED}])) == [[1204]]


def test_entries_of_the_journal_in_one_line_are_a_log() -> None:
    """With their times and hosts, as `jq --slurp` makes it; others' entries are not the kernel's."""
    entry = {"__REALTIME_TIMESTAMP": "1791831620000000", "_TRANSPORT": "kernel", "_HOSTNAME": "db1"}
    entries = [entry | {"MESSAGE": line} for line in LINES]
    forged = [one | {"_TRANSPORT": "stdout"} for one in entries]
    (report,), log = read(json.dumps([*forged, *entries]))
    assert (report.when, report.host, log.unread.count) == ("1791831620.000000", "db1", 0)
    assert read(json.dumps(forged))[0] == []


@pytest.mark.parametrize("key", ["dmesg", ""])
def test_entries_of_dmesg_in_one_line_are_read_like_those_in_many(key: str) -> None:
    """With their times; what a user wrote to /dev/kmsg is not the kernel's."""
    entries = [{"pri": 4, "time": 100.5, "msg": line} for line in LINES]
    (report,), _ = read(json.dumps({key: entries} if key else entries))
    assert report.uptime_seconds == 100.5
    forged = [one | {"pri": 12} for one in entries]
    assert read(json.dumps({key: forged} if key else forged))[0] == []


@pytest.mark.parametrize("end", ["\tdb1", "\t/var/log/messages\tsyslog", "\t"])
def test_columns_behind_each_line_are_no_part_of_it(end: str) -> None:
    """A table, copied with the columns to its right."""
    (report,), log = read(*(f"Oct 12, 2026 @ 19:00:20.123\t{line}{end}" for line in LINES))
    assert (len(report.tasks), [kill.pid for kill in report.kills], log.unread.count) == (4, [1377], 0)


@pytest.mark.parametrize("stamp", ["", "[   35.270000] "])
def test_end_of_a_panic_is_no_other_panic(stamp: str) -> None:
    """The kernel repeats its words behind the stack, which a console without times shows as they are."""
    words = "Kernel panic - not syncing: System is deadlocked on memory"
    lines = (words, "Call Trace:", "---[ end trace ad1803c957b45442 ]---", f"---[ end {words} ]---")
    (report,), _ = read(*(f"{stamp}{line}" for line in lines))
    assert (report.host, report.ending) == ("", words)


def test_what_follows_a_panic_is_no_part_of_its_line() -> None:
    """Nothing may follow it at all, so the end of a block of code does."""
    stamp = "[480156.950575] "
    for words in ("System is deadlocked on memory", "Out of memory and no killable processes..."):
        (report,), _ = read(f"{stamp}Kernel panic - not syncing: {words}", "```", "What now?")
        assert report.ending == f"Kernel panic - not syncing: {words}"
    (report,), _ = read(
        f"{stamp}Kernel panic - not syncing: Out of memory: compulsory", "panic_on_oom is enabled"
    )
    assert report.ending.endswith(" panic_on_oom is enabled")


def test_line_that_begins_a_report_is_never_lost() -> None:
    """Nor one about a kill without a pid, or a cgroup that reached its limit."""
    for line in (
        "java invoked oom-killer: …",
        '{"log": "[    1.000000] java invoked oom-killer: gfp_mask=0xcc0(GFP_KER',
        "Out of memory: Killed process (java)",
        "`Memory cgroup out of memory: Killed process ...`",
    ):
        reports, log = read(line)
        assert (reports, log.unread.count) == ([], 1), line
    (report,), _ = read(
        "Task in /1037/uid killed as a result of limit of /1037", "memory: usage 9kB, limit 9kB, failcnt 7"
    )
    assert headline(examine(report)).startswith("Cgroup /1037 reached its limit of 9 KiB")


def test_limit_is_known_where_a_report_begins_with_it() -> None:
    """The lines before are often left out."""
    rows = [line for line in LINES if line.startswith("[")]
    killed = LINES[-1].replace("Out of", "Memory cgroup out of")
    (report,), _ = read("memory: usage 800000kB, limit 800000kB, failcnt 7", *rows, killed)
    assert report.memory.cgroup["memory"].limit_kib == 800000
    assert examine(report).total_pages == 200000 + sum(task.swap for task in report.tasks)


def test_share_of_unknown_memory_is_unknown() -> None:
    """The order is known where no value matters, but no percentage."""
    lines = formats.host_report(formats.KERNELS[-1], values=(0, 0, 0, 0))
    finding = examine(read(*(line for line in lines if "pages" not in line))[0][0])
    assert finding.ranked[0].badness is not None
    assert share_of(finding.ranked[0], finding) is None


def test_lines_have_the_numbers_of_the_file() -> None:
    """Also where a mail broke the lines before, and where the newest line is the first."""
    broken = quopri.encodestring("\n".join(LINES).encode()).decode().replace("=0A", "\n")
    text = f"<p>=3D</p>\n{broken}\nOut of memory: KiIled pr0cess 12O4 (a)\n"
    reports, log = read(text)
    assert [kill.pid for kill in reports[0].kills] == [formats.VICTIM.pid]
    assert "=\n" in text
    assert [one.number for one in log.unread.lines] == [text.count("\n")]
    reports, log = read("Out of memory: KiIled pr0cess 12O4 (a)", *reversed(LINES), "x")
    assert [kill.pid for kill in reports[0].kills] == [formats.VICTIM.pid]
    assert [one.number for one in log.unread.lines] == [1]


@pytest.mark.parametrize("character", "\x0b\x0c\x1c\x85\u2028")
def test_no_character_but_a_newline_breaks_a_line(character: str) -> None:
    """A user chooses them: no text behind one is a line of its own, in either order."""
    forged = f"overlayfs: failed to resolve '/a{character}Out of memory: Killed process 1 (init) {FIGURES}"
    for lines in ((*LINES, forged), (forged, *reversed(LINES))):
        reports, log = read("<p>", *lines, "Out of memory: KiIled pr0cess 12O4 (a)", "</p>")
        assert [kill.pid for report in reports for kill in report.kills] == [formats.VICTIM.pid]
        assert {one.number for one in log.unread.lines} >= {len(lines) + 2}
