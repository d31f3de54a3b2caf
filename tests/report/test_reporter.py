"""What is said: events, sentences, entries and how bursts of them are folded."""

import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.core.change import Change, Outcome, SetOomScoreAdj, SetSysctl
from oomguard.core.choices import Result
from oomguard.core.decide import Obstacle
from oomguard.core.process import Identity
from oomguard.core.rule import Rule, Terms, Value
from oomguard.report import events
from oomguard.report.change_document import change_document, outcome_document
from oomguard.report.events import EVENTS, LogEntry, outcome_entry
from oomguard.report.reporter import FOLD_SECONDS, Reporter

CATALOG = Path(__file__).parents[2] / "systemd" / "oomguard.catalog"

HOSTILE = [
    b"foo) Z 1 (",
    b"a\nMESSAGE=forged",
    b"\x1b[2J",
    b"",
    b"\xff\xfe",
    b"\r\t\0",
    "\u202eevil".encode(),
]


def rule(number: int = 0, *names: bytes, value: int = 300) -> Rule:
    """Return a rule by name."""
    return Rule(number, names or (b"worker",), Terms(Value("exact", value)), "/etc/p.yaml", number + 1)


def valued(pid: int = 7, comm: bytes = b"worker", by: Rule | None = None, **fields: Any) -> SetOomScoreAdj:
    """Return a change of a process."""
    change = SetOomScoreAdj(Identity(pid, 1), comm, 0, 300, 0, "policy", by or rule())
    return change._replace(**fields)


def applied(change: Change) -> Outcome:
    """Return its outcome."""
    return Outcome(change, "applied")


def denied(change: Change, reason: str = "no", hint: str = "try") -> Outcome:
    """Return its outcome."""
    return Outcome(change, "denied", 13, reason, hint)


class Memory:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.lost = 0
        self.records: list[LogEntry] = []

    def write(self, record: LogEntry) -> None:
        """Keep one."""
        self.records.append(record)

    @property
    def counts(self) -> list[int]:
        """How many outcomes each record stands for."""
        return [int(record.fields.get("OOMGUARD_COUNT", "1")) for record in self.records]


@pytest.fixture
def sink() -> Memory:
    """Return an empty sink."""
    return Memory()


@pytest.fixture
def reporter(sink: Memory) -> Reporter:
    """Return a reporter that writes to it."""
    return Reporter(sink)


# Events


def test_every_event_has_an_id_and_a_name_of_its_own() -> None:
    """The journal finds its explanation by the one, programs filter by the other."""
    assert len({event.message_id for event in EVENTS}) == len(EVENTS)
    assert len({event.name for event in EVENTS}) == len(EVENTS)
    for event in EVENTS:
        assert re.fullmatch("[0-9a-f]{32}", event.message_id)
        assert re.fullmatch("[a-z]+(-[a-z]+)*", event.name)
        assert event.priority in range(3, 7)


def test_every_event_of_the_module_is_listed() -> None:
    """One that is not could not be found by what checks them all."""
    found = {value for value in vars(events).values() if isinstance(value, events.Event)}
    assert found == set(EVENTS)


def test_the_catalog_explains_every_event() -> None:
    """And no other."""
    explained = set(re.findall(r"^-- ([0-9a-f]{32})", CATALOG.read_text(), re.MULTILINE))
    assert explained == {event.message_id for event in EVENTS}


@pytest.mark.parametrize(
    ("result", "event"),
    [
        ("applied", events.APPLIED),
        ("refused", events.REFUSED),
        ("denied", events.DENIED),
        ("contended", events.CONTENDED),
    ],
)
def test_each_result_is_an_event(result: Result, event: events.Event) -> None:
    """A process that vanished is none."""
    assert outcome_entry(Outcome(valued(), result)).event == event


def test_a_record_has_the_facts_in_words_and_in_fields() -> None:
    """For a process, with what the kernel answered."""
    record = outcome_entry(denied(valued(), "below the floor", "grant it"))
    assert record.message == (
        "worker[7]: oom_score_adj 0 → 300 denied: below the floor "
        "(policy, name=worker, /etc/p.yaml:1); grant it"
    )
    assert record.fields == {
        "OOMGUARD_TARGET": "oom_score_adj",
        "OOMGUARD_OLD": "0",
        "OOMGUARD_NEW": "300",
        "OOMGUARD_CAUSE": "policy",
        "OOMGUARD_COMM": "worker",
        "OBJECT_PID": "7",
        "OOMGUARD_RULE": "name=worker",
        "OOMGUARD_SOURCE": "/etc/p.yaml:1",
        "OOMGUARD_ERRNO": "EACCES",
    }


def test_a_sysctl_is_named_by_its_full_name() -> None:
    """With the line that asks for it."""
    record = outcome_entry(applied(SetSysctl("vm.swappiness", 60, 0, "drift", "/etc/p.yaml:2")))
    assert record.message == "vm.swappiness: 60 → 0 (drift, /etc/p.yaml:2)"
    assert record.fields["OOMGUARD_TARGET"] == "vm.swappiness"
    assert "OBJECT_PID" not in record.fields


def test_a_restore_is_by_no_rule() -> None:
    """Neither in words nor in fields."""
    record = outcome_entry(applied(valued(cause="restore")._replace(rule=None)))
    assert record.message == "worker[7]: oom_score_adj 0 → 300 (restore)"
    assert "OOMGUARD_RULE" not in record.fields


@pytest.mark.parametrize("comm", HOSTILE, ids=repr)
def test_no_name_reaches_a_record_or_a_document_unescaped(comm: bytes) -> None:
    """Neither of a process nor of a rule."""
    outcome = denied(valued(comm=comm, by=rule(0, b"\x1bname", comm)))
    record = outcome_entry(outcome)
    for text in (record.message, *record.fields.values()):
        assert text.isprintable()
    document = outcome_document(outcome)
    assert str(document["comm"]).isprintable()
    assert str(document["rule"]).isprintable()
    json.dumps(document).encode("ascii")


def test_no_condition_reaches_a_label_unescaped() -> None:
    """A regular expression may hold any character."""
    terms = Terms(Value("keep"), cmdlines=("a\nb", "\x1b[0m"), exes=("/a\tb",), cgroups=("/\u202e",))
    assert Rule(0, (), terms, "f", 1).label.isprintable()


# Folding


def test_the_first_of_a_kind_is_said_at_once(reporter: Reporter, sink: Memory) -> None:
    """What comes after it in the same second is gathered."""
    for pid in range(10):
        reporter.outcome(applied(valued(pid)), now=100.0)
    assert len(sink.records) == 1
    assert reporter.next_flush() == 100.0 + FOLD_SECONDS
    reporter.flush(100.0 + FOLD_SECONDS / 2)
    assert len(sink.records) == 1
    reporter.flush(100.0 + FOLD_SECONDS)
    assert sink.counts == [1, 9]
    assert "and 8 more of this kind: worker[1], worker[2], worker[3], worker[4], worker[5], …" in (
        sink.records[1].message
    )


def test_what_is_told_again_names_others_only(reporter: Reporter, sink: Memory) -> None:
    """One process may be corrected many times."""
    for pid in (1, 2, 2, 1, 2):
        reporter.outcome(applied(valued(pid)), now=0.0)
    reporter.flush(FOLD_SECONDS)
    assert sink.records[1].message.endswith("; and 3 more of this kind: worker[1], …")
    for pid in (2, 2):
        reporter.outcome(applied(valued(pid)), now=FOLD_SECONDS)
    reporter.flush(2 * FOLD_SECONDS)
    assert sink.records[2].message.endswith("; and 1 more of this kind")


def test_a_second_alone_is_said_as_itself(reporter: Reporter, sink: Memory) -> None:
    """With no count."""
    reporter.outcome(applied(valued(1)), now=0.0)
    reporter.outcome(applied(valued(2)), now=0.5)
    reporter.flush(1.0)
    assert sink.records[1] == outcome_entry(applied(valued(2)))


def test_when_a_burst_is_over_nothing_waits(reporter: Reporter, sink: Memory) -> None:
    """An idle daemon has no timer for it."""
    for pid in range(3):
        reporter.outcome(applied(valued(pid)), now=0.0)
    reporter.flush(1.0)
    reporter.flush(2.0)
    assert reporter.next_flush() is None
    reporter.outcome(applied(valued(9)), now=2.0)
    assert sink.counts == [1, 2, 1]


def test_what_is_due_first_is_known_without_a_look_at_the_rest(reporter: Reporter, sink: Memory) -> None:
    """A flush looks only at the kinds that are due, however many rules have matched."""
    first, second = applied(valued(1, cause="exec")), applied(valued(1, cause="drift"))
    reporter.outcome(first, 0.0)
    reporter.outcome(second, 0.5)
    reporter.outcome(first, 0.75)
    assert reporter.next_flush() == 1.0
    reporter.flush(1.0)
    assert sink.counts == [1, 1, 1]
    assert reporter.next_flush() == 1.5
    reporter.flush(1.5)
    assert reporter.next_flush() == 2.0
    reporter.flush(2.0)
    assert reporter.next_flush() is None


def test_corrections_of_a_contended_value_are_combined_for_an_hour(reporter: Reporter, sink: Memory) -> None:
    """Each pass makes one. The rest is told when the contention ends, and another is told like the first."""
    change = SetSysctl("vm.swappiness", 60, 0, "drift", "p:1")
    begun = Outcome(change, "contended", reason="something else keeps rewriting it")
    for hour in (0.0, 7200.0):
        reporter.outcome(begun, hour, is_contended=True)
        for minute in range(1, 71):
            reporter.outcome(applied(change), hour + minute * 60, is_contended=True)
            reporter.flush(hour + minute * 60)
        reporter.uncontended(["vm.swappiness"], lambda _: None)
    assert [record.event.name for record in sink.records] == [
        *("contended", "applied", "applied", "applied", "uncontended")
    ] * 2
    assert sink.counts == [1, 1, 60, 9, 1] * 2
    assert sink.records[2].message == "vm.swappiness: 60 → 0 (drift, p:1); and 59 more of this kind"
    assert reporter.next_flush() is None


def test_contended_values_of_many_rules_take_little_memory(reporter: Reporter, sink: Memory) -> None:
    """They wait for an hour, and a user can contend for a value of each rule: a name is enough of most."""
    tracemalloc.start()
    try:
        for pid in range(7 * 500):
            by = rule(pid % 500, b"program-%d" % (pid % 500))
            reporter.outcome(applied(valued(pid, b"program", by)), 0.0, is_contended=True)
        sink.records.clear()
        assert tracemalloc.get_traced_memory()[0] < 2**20
    finally:
        tracemalloc.stop()


def test_a_failure_about_a_contended_value_does_not_wait_for_an_hour(
    reporter: Reporter, sink: Memory
) -> None:
    """Only its corrections do."""
    for pid, reason in enumerate(("it is rewritten", "this user rewrites")):
        reporter.outcome(Outcome(valued(pid), "contended", reason=reason), 0.0, is_contended=True)
        reporter.outcome(denied(valued(pid), reason), 0.0, is_contended=True)
    reporter.flush(FOLD_SECONDS)
    assert [record.event.name for record in sink.records] == ["contended", "denied"] * 2


def test_kinds_are_folded_apart(reporter: Reporter, sink: Memory) -> None:
    """By rule, cause, target and result."""
    for change in (
        valued(1),
        valued(2, by=rule(1)),
        valued(3, cause="drift"),
        SetSysctl("vm.swappiness", 60, 0, "policy", "p:1"),
        SetSysctl("vm.page-cluster", 3, 0, "policy", "p:2"),
    ):
        reporter.outcome(applied(change), now=0.0)
    assert len(sink.records) == 5


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["applied", "denied"]), st.floats(0, 3)), max_size=60
    )
)
def test_folding_loses_no_count(burst: list[tuple[int, Result, float]]) -> None:
    """For any burst: entries stand for exactly the outcomes that were applied, and each failure once."""
    sink = Memory()
    reporter = Reporter(sink)
    now = 0.0
    for pid, (number, result, pause) in enumerate(burst):
        now += pause
        reporter.flush(now)
        reporter.outcome(Outcome(valued(pid, by=rule(number)), result, reason="no"), now)
    reporter.close()
    done = [
        count
        for record, count in zip(sink.records, sink.counts, strict=True)
        if record.event == events.APPLIED
    ]
    assert sum(done) == sum(result == "applied" for _, result, _ in burst) == reporter.counts.applied
    assert reporter.counts.denied == sum(result == "denied" for _, result, _ in burst)


# Complaints


def test_a_failure_that_repeats_is_said_once_and_counted(reporter: Reporter, sink: Memory) -> None:
    """By rule and reason, whichever process it meets."""
    for pid in range(50):
        reporter.outcome(denied(valued(pid)), now=float(pid))
        reporter.flush(float(pid))
    reporter.close()
    assert len(sink.records) == 1
    assert [complaint.tries for complaint in reporter.complaints.values()] == [50]


def test_another_reason_is_another_complaint(reporter: Reporter, sink: Memory) -> None:
    """So is another rule."""
    reporter.outcome(denied(valued(1), "one"), now=0.0)
    reporter.outcome(denied(valued(1), "two"), now=0.0)
    reporter.outcome(denied(valued(1, by=rule(1)), "one"), now=0.0)
    reporter.close()
    assert len(reporter.complaints) == 3
    assert sum(sink.counts) == 3


def test_a_complaint_ends_with_success_and_may_begin_again(reporter: Reporter, sink: Memory) -> None:
    """As for a sysctl that could be written at last."""
    change = SetSysctl("vm.swappiness", 60, 0, "policy", "p:1")
    for now in (0.0, 10.0):
        reporter.outcome(denied(change), now)
        reporter.outcome(applied(change), now + 2)
        reporter.flush(now + 5)
        assert not reporter.complaints
    assert [record.event.name for record in sink.records] == ["denied", "applied"] * 2


def test_a_complaint_ends_with_the_first_pass_that_does_not_meet_it(reporter: Reporter, sink: Memory) -> None:
    """The process has ended, or become another user's. The journal has it once, also if it comes back."""
    for _ in range(3):
        reporter.outcome(denied(valued(1)), now=0.0)
        reporter.end_pass()
        assert [complaint.tries for complaint in reporter.complaints.values()] == [1]
        reporter.end_pass()
        assert not reporter.complaints
    assert len(sink.records) == 1


def test_a_complaint_stays_while_the_kernel_is_not_asked_again(reporter: Reporter) -> None:
    """A denied change is tried less and less often, and passes come in between."""
    changes: list[Change] = [valued(1), SetSysctl("vm.swappiness", 60, 0, "policy", "p:1")]
    for change in changes:
        reporter.outcome(denied(change), now=0.0)
    reporter.end_pass()
    for change in changes:
        reporter.still_denied(change)
    reporter.end_pass()
    assert len(reporter.complaints) == 2
    reporter.still_denied(changes[1])
    reporter.end_pass()
    assert [complaint.subject for complaint in reporter.complaints.values()] == ["vm.swappiness"]


def test_what_the_kernel_granted_in_part_is_a_warning(reporter: Reporter, sink: Memory) -> None:
    """It is applied, and not what was asked for."""
    change = SetSysctl("vm.nr_hugepages", 0, 14, "start", "p:1")
    reporter.outcome(applied(change)._replace(made=13), now=0.0)
    reporter.outcome(applied(SetSysctl("vm.swappiness", 60, 10, "start", "p:2")), now=0.0)
    assert [(record.event.name, record.event.priority) for record in sink.records] == [
        ("applied", events.WARNING),
        ("applied", events.INFO),
    ]
    assert "13 of 14" in sink.records[0].message


def test_under_another_policy_complaints_are_said_anew(reporter: Reporter, sink: Memory) -> None:
    """The administrator just tried to mend them."""
    reporter.outcome(denied(valued()), now=0.0)
    reporter.start_over()
    reporter.outcome(denied(valued()), now=10.0)
    reporter.close()
    assert sum(sink.counts) == 2


def test_a_hostile_host_cannot_make_it_remember_without_end(reporter: Reporter, sink: Memory) -> None:
    """A reason may name a uid, and there are many."""
    for uid in range(5000):
        reporter.outcome(denied(valued(uid), f"uid {uid}"), now=0.0)
    assert len(reporter.complaints) <= 1024
    assert reporter.counts.denied == 5000
    assert len(reporter.recent) <= 20


def test_a_process_that_vanished_is_counted_and_not_said(reporter: Reporter, sink: Memory) -> None:
    """Processes end at any time."""
    reporter.outcome(Outcome(valued(), "vanished", 3), now=0.0)
    reporter.close()
    assert (sink.records, reporter.counts.vanished) == ([], 1)


def test_what_is_said_of_the_daemon_has_its_own_fields(reporter: Reporter, sink: Memory) -> None:
    """Named as all others are."""
    reporter.say(events.STARTED, "started", POLICY="abc")
    assert sink.records == [LogEntry(events.STARTED, "started", {"OOMGUARD_POLICY": "abc"})]


# Documents


def test_a_document_says_why_a_change_is_refused() -> None:
    """And null where it is not."""
    change = valued(obstacle=Obstacle("refused", "too dear", "pay"))
    assert change_document(change)["obstacle"] == {
        "kind": "refused",
        "reason": "too dear",
        "hint": "pay",
    }
    assert change_document(valued())["obstacle"] is None


def test_a_document_of_a_sysctl_has_no_process() -> None:
    """Its source is null for a restore."""
    assert change_document(SetSysctl("vm.swappiness", 60, 0, "restore")) == {
        "target": "vm.swappiness",
        "from": 60,
        "to": 0,
        "cause": "restore",
        "obstacle": None,
        "source": None,
        "said": None,
    }


def test_one_rules_failures_do_not_crowd_out_anothers(reporter: Reporter) -> None:
    """The reason of a refusal names a uid, and a user may have thousands of them."""
    for number in range(5000):
        reporter.outcome(denied(valued(number), reason=f"uid {number}"), 0.0)
    reporter.outcome(denied(valued(1, by=rule(1, b"other"))), 0.0)
    told = [complaint.by for complaint in reporter.complaints.values()]
    assert len(told) == 17
    assert told[-1].startswith("name=other")
    assert reporter.counts.denied == 5001


def test_processes_that_have_ended_hide_no_later_refusal(reporter: Reporter) -> None:
    """A user has 16 subordinate uids refused, and ends them: `status` shows what is refused afterwards."""
    for uid in range(16):
        reporter.outcome(Outcome(valued(), "refused", 0, f"uid {uid}"), 0.0)
    reporter.end_pass()
    reporter.end_pass()
    assert not reporter.complaints
    reporter.outcome(Outcome(valued(), "refused", 0, "uid 998"), 9.0)
    assert [complaint.reason for complaint in reporter.complaints.values()] == ["uid 998"]


def test_refusals_crowd_out_no_denial(reporter: Reporter) -> None:
    """Of no rule, though users make sure that every rule of a long policy has many."""
    rules = [rule(number, b"%d" % number) for number in range(200)]
    for by in rules:
        for uid in range(20):
            reporter.outcome(Outcome(valued(by=by), "refused", 0, f"uid {uid}"), 0.0)
    for by in (rules[0], rules[-1]):
        reporter.outcome(denied(valued(by=by)), 0.0)
    results = [complaint.result for complaint in reporter.complaints.values()]
    assert results[-2:] == ["denied", "denied"]
    assert results.count("refused") == 512


def test_what_others_can_repeat_is_written_once_a_minute(reporter: Reporter, sink: Memory) -> None:
    """At once the first time, then with how often it happened, and at the end once more."""
    for second in range(150):
        reporter.again(events.EVENTS_LOST, "events were lost", float(second))
        reporter.flush(float(second))
    assert sink.counts == [1, 60, 60]
    assert sink.records[1].message == "events were lost (60 times in the last 60 s)"
    reporter.flush(180.0)
    assert sink.counts == [1, 60, 60, 29]
    reporter.flush(240.0)
    assert reporter.next_flush() is None
    reporter.again(events.EVENTS_LOST, "events were lost", 700.0)
    assert sink.counts == [1, 60, 60, 29, 1]
