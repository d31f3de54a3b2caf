"""Entries about kills: a sentence and fields for each, and exact counts however many there are."""

import pytest

from oomguard.core.rule import Rule, Terms, Value
from oomguard.core.sample import Growth, Holder
from oomguard.oom.kill import Context, Kill
from oomguard.report.events import ERROR, WARNING, LogEntry
from oomguard.report.kill_entries import ENTRIES_A_WINDOW, Death, KillReporter, kill_entry

RULE = Rule(3, (b"postgres",), Terms(Value("exact", -900)), "/etc/oomguard.yaml", 12)
KILL = Kill(356, "postgres", "Out of memory", 26, -900, 500000, 400000, 2048, 0, 844)
GLOBAL = Context("none", 356, "postgres", 26, task_memcg="/system.slice/postgresql.service")


class Sink:
    """Keeps what is written."""

    lost = 0

    def __init__(self) -> None:
        self.records: list[LogEntry] = []

    def write(self, record: LogEntry) -> None:
        """Keep it."""
        self.records.append(record)


def test_kill_is_one_sentence_with_its_facts_as_fields() -> None:
    """Which process and why, then its memory, value, rule, user and cgroup."""
    record = kill_entry(Death(KILL, GLOBAL, RULE))
    assert record.message == (
        "postgres[356] was killed by the kernel: the host ran out of memory (392.6 MiB in RAM; "
        "oom_score_adj -900, name=postgres, /etc/oomguard.yaml:12; uid 26; /system.slice/postgresql.service)"
    )
    assert record.fields == {
        "OBJECT_PID": "356",
        "OOMGUARD_COMM": "postgres",
        "OOMGUARD_OOM_SCORE_ADJ": "-900",
        "OOMGUARD_RSS_KIB": "402048",
        "OOMGUARD_UID": "26",
        "OOMGUARD_RULE": "name=postgres",
        "OOMGUARD_SOURCE": "/etc/oomguard.yaml:12",
        "OOMGUARD_CONSTRAINT": "none",
        "OOMGUARD_MEMCG": "/system.slice/postgresql.service",
    }


def test_death_of_the_protected_is_worse() -> None:
    """Somebody had meant to spare it."""
    assert kill_entry(Death(KILL)).event.priority == ERROR
    assert kill_entry(Death(KILL._replace(oom_score_adj=0))).event.priority == WARNING


def test_cgroup_and_nodes_are_named() -> None:
    """What was out is not always the host."""
    memcg = Context("memcg", 356, "a", 0, "/app", "/app/b")
    assert ": /app reached its limit (" in kill_entry(Death(KILL, memcg)).message
    assert kill_entry(Death(KILL, memcg)).fields["OOMGUARD_OOM_MEMCG"] == "/app"
    cpuset = Context("cpuset", 356, "a", 0, nodes="1")
    assert ": memory node 1 ran out of memory (" in kill_entry(Death(KILL, cpuset)).message
    two = cpuset._replace(nodes="0-1")
    assert ": memory nodes 0-1 ran out of memory (" in kill_entry(Death(KILL, two)).message
    in_short = KILL._replace(message="Memory cgroup out of memory")
    assert ": a memory cgroup reached its limit (" in kill_entry(Death(in_short)).message


def test_names_are_made_printable() -> None:
    """The dead chose theirs."""
    record = kill_entry(Death(KILL._replace(comm="a\n\x1b[31mb"), GLOBAL._replace(task_memcg="/\n")))
    assert record.message.isprintable()
    assert all(text.isprintable() for text in record.fields.values())


def test_hundreds_in_a_second_are_counted_exactly() -> None:
    """The first ones each for itself, the rest in one entry with its number."""
    sink = Sink()
    reporter = KillReporter(sink)
    for number in range(500):
        kill = KILL._replace(pid=number, oom_score_adj=0)
        reporter.take(Death(kill, GLOBAL, RULE if number % 2 else None), 10.0)
    assert len(sink.records) == ENTRIES_A_WINDOW
    assert reporter.next_flush() == 11.0
    reporter.flush(10.5)
    assert len(sink.records) == ENTRIES_A_WINDOW
    reporter.flush(11.0)
    assert sink.records[-1].fields == {"OOMGUARD_COUNT": "480"}
    assert "240 matched by name=postgres" in sink.records[-1].message
    assert "240 matched by no rule" in sink.records[-1].message
    assert reporter.counts == {("name=postgres", False): 250, ("", False): 250}
    assert reporter.next_flush() is None


def test_rules_that_are_not_named_are_counted() -> None:
    """Their number adds up to that of all."""
    sink = Sink()
    reporter = KillReporter(sink)
    rules = [Rule(at, (b"a%d" % at,), Terms(Value("exact", 1)), "p", at) for at in range(7)]
    for rule in rules * 30:
        reporter.take(Death(KILL._replace(oom_score_adj=0), GLOBAL, rule), 10.0)
    reporter.flush(11.0)
    assert sink.records[-1].message.endswith(" and 2 more rules")


def test_kills_of_a_users_own_processes_do_not_hide_that_of_a_protected_one() -> None:
    """With a limit of their own, users have as many killed as they like; there is a bound for both."""
    sink = Sink()
    reporter = KillReporter(sink)
    for _ in range(500):
        reporter.take(Death(KILL._replace(oom_score_adj=0)), 10.0)
    reporter.take(Death(KILL), 10.0)
    assert sink.records[-1].fields["OOMGUARD_OOM_SCORE_ADJ"] == "-900"
    for _ in range(500):
        reporter.take(Death(KILL), 10.0)
    assert len(sink.records) == 2 * ENTRIES_A_WINDOW


def test_next_second_is_told_one_by_one_again() -> None:
    """And what gathered before it is said first."""
    sink = Sink()
    reporter = KillReporter(sink)
    for _ in range(ENTRIES_A_WINDOW + 3):
        reporter.take(Death(KILL._replace(oom_score_adj=0)), 10.0)
    reporter.take(Death(KILL), 11.5)
    assert sink.records[-2].fields == {"OOMGUARD_COUNT": "3"}
    assert sink.records[-1].fields["OBJECT_PID"] == "356"


def test_kills_that_are_only_counted_say_so() -> None:
    """Where the log cannot be read there is a number, and the reason."""
    sink = Sink()
    reporter = KillReporter(sink)
    reporter.take_unknown(2, "/dev/kmsg cannot be opened")
    assert "killed 2 processes, names unknown: /dev/kmsg" in sink.records[0].message
    assert reporter.counts == {("", False): 2}


@pytest.mark.parametrize(
    ("before_kib", "part"),
    [(700 * 1024, "; it grew from 700.0 MiB to 2.0 GiB in 6 minutes; "), (2048 * 1024, "in RAM; oom_")],
)
def test_how_a_process_had_grown_is_said_if_it_did(before_kib: int, part: str) -> None:
    """As the recorder has it."""
    holder = Holder(356, 1, "postgres", "", 2 * 1024 * 1024, 0, -900)
    sink = Sink()
    KillReporter(sink).take(Death(KILL, GLOBAL, RULE, Growth(holder, before_kib, 360)), 10.0)
    assert part in sink.records[-1].message
