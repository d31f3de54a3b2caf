"""Decides what is logged: combines bursts into one entry, and logs a repeated failure or a limit once."""

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Hashable, Iterable
from itertools import islice

from oomguard.core.change import Change, Outcome, SetOomScoreAdj
from oomguard.core.process import Identity
from oomguard.core.rule import Rule
from oomguard.core.text import some_of
from oomguard.core.typed import TYPE_CHECKING
from oomguard.report import events
from oomguard.report.events import Event, LogEntry, outcome_entry
from oomguard.report.journal import Sink
from oomguard.report.kill_entries import KillReporter
from oomguard.report.sentences import because, subject, target
from oomguard.report.status_file import Complaint, OutcomeCounts, RecentChange

if TYPE_CHECKING:
    from oomguard.core.choices import Cause, Result

FOLD_SECONDS = 1.0
"""At most one entry of each kind in this time."""

CONTENDED_SECONDS = 3600.0
"""The same for corrections of contended values, which every pass may make."""

REPEAT_SECONDS = 60.0
"""At most one entry in this time about a repeated event of the daemon itself."""

_EXAMPLES = 5
_COMPLAINTS_LIMIT = 1024
"""Distinct failures remembered. A hostile user can cause any number, so it is bounded."""

_COMPLAINTS_PER_RULE = 16
"""Distinct failures logged for one rule; later ones are only counted."""

_RECENT = 20

_LOGGED_LIMIT = 64
"""Sentences about one thing: some name processes or users."""


class _Fold:
    """Outcomes of one kind since the last entry about it."""

    __slots__ = ("count", "deadline", "examples", "last")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.count = 0
        self.examples: list[str] = []
        self.last: Outcome | None = None


class _Repeat:
    """How often something happened to the daemon since the last entry about it."""

    __slots__ = ("count", "deadline", "message")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.count = 0
        self.message = ""


class Reporter:
    """Turns outcomes and events into log entries, and remembers those that `status` shows."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.complaints: dict[tuple[object, ...], Complaint] = {}
        self._applied: deque[tuple[float, Outcome]] = deque(maxlen=_RECENT)
        self._said: set[tuple[object, ...]] = set()
        """Complaints that were written under this policy, those that ended included."""
        self._current: set[tuple[object, ...]] = set()
        """Complaints that were true since the last pass ended."""
        self.changes: Counter[tuple[str, Cause, Result]] = Counter()
        """How many changes there were, by `target`, cause and result."""
        self.kills = KillReporter(sink)
        self._folds: dict[float, dict[tuple[object, ...], _Fold]] = {FOLD_SECONDS: {}, CONTENDED_SECONDS: {}}
        """By how long they combine, then by kind of outcome, in the order in which they are due, so that more
        rules do not make a flush slower."""
        self._repeats: dict[Event, _Repeat] = {}

    def say(self, event: Event, message: str, **fields: str) -> None:
        """Write one entry about the daemon itself."""
        self.sink.write(LogEntry(event, message, {f"OOMGUARD_{key}": text for key, text in fields.items()}))

    def uncontended(self, targets: Iterable[Hashable], rule_of: Callable[[int], Rule | None]) -> None:
        """Report that nothing rewrites these values any more: once for each sysctl, and for each rule."""
        of_rules: dict[int, tuple[Rule, list[int]]] = {}
        targets = [*targets]
        if targets:
            folds = self._folds[CONTENDED_SECONDS]
            for fold in folds.values():
                self._write(fold)
            folds.clear()
        for one in targets:
            if not isinstance(one, Identity):
                self.complaints.pop((one, True), None)
                self._said.discard((one, True))  # the next time is news
                self._uncontended(str(one))
            elif (rule := rule_of(one.pid)) is not None:
                of_rules.setdefault(rule.number, (rule, []))[1].append(one.pid)
        for rule, pids in of_rules.values():
            name = f"oom_score_adj of {some_of([f'pid {pid}' for pid in pids], _EXAMPLES)}"
            count = {} if len(pids) == 1 else {"COUNT": str(len(pids))}
            self._uncontended(name, **count, RULE=rule.label, SOURCE=rule.source)

    def _uncontended(self, name: str, **fields: str) -> None:
        self.say(events.UNCONTENDED, f"{name}: nothing rewrites it any more", TARGET=name, **fields)

    def again(self, event: Event, message: str, now: float) -> None:
        """Write an entry about the daemon itself, at most one a minute: users can cause any number."""
        repeat = self._repeats.get(event)
        if repeat is None:
            self._repeats[event] = _Repeat(now + REPEAT_SECONDS)
            self.say(event, message)
        else:
            repeat.count += 1
            repeat.message = message

    def outcome(self, outcome: Outcome, now: float, *, is_contended: bool = False) -> None:
        """Log an outcome at the monotonic time `now`; `is_contended`: so is its value."""
        change = outcome.change
        self.changes[target(change), change.cause, outcome.result] += 1
        if outcome.result == "vanished":
            return
        if outcome.result == "applied":
            if self._said:
                key = _complaint_key(outcome)
                self.complaints.pop(key, None)
                self._said.discard(key)
            self._applied.append((time.time(), outcome))  # monotonic time stops while a host is suspended
        elif not self._complain(outcome):
            return
        is_correction = is_contended and outcome.result == "applied"
        self._fold(outcome, now, CONTENDED_SECONDS if is_correction else FOLD_SECONDS)

    @property
    def recent(self) -> list[RecentChange]:
        """The last changes that were made."""
        return [_recent_change(outcome, at) for at, outcome in self._applied]

    @property
    def counts(self) -> OutcomeCounts:
        """How many changes had each result."""
        totals = Counter[str]()
        for (_, _, result), count in self.changes.items():
            totals[result] += count
        return OutcomeCounts(*(totals[result] for result in OutcomeCounts._fields))

    def flush(self, now: float) -> None:
        """Write the entries that are due."""
        self.kills.flush(now)
        for event, repeat in list(self._repeats.items()):
            if repeat.deadline > now:
                continue
            if not repeat.count:
                del self._repeats[event]
                continue
            times = f"{repeat.count} times in the last {REPEAT_SECONDS:.0f} s"
            self.say(event, f"{repeat.message} ({times})", COUNT=str(repeat.count))
            self._repeats[event] = _Repeat(now + REPEAT_SECONDS)
        for seconds, folds in self._folds.items():
            while folds:
                key, fold = next(iter(folds.items()))
                if fold.deadline > now:
                    break
                del folds[key]
                if self._write(fold):
                    folds[key] = _Fold(now + seconds)

    def next_flush(self) -> float | None:
        """Return when the next entry is due, or None."""
        due = [fold.deadline for folds in self._folds.values() for fold in islice(folds.values(), 1)]
        due += [repeat.deadline for repeat in self._repeats.values()]
        of_kills = self.kills.next_flush()
        return min(due if of_kills is None else [*due, of_kills], default=None)

    def close(self) -> None:
        """Write all entries that are not written yet."""
        self.flush(float("inf"))

    def start_over(self) -> None:
        """Forget the complaints: under another policy they are written again."""
        self.complaints.clear()
        self._said.clear()

    def still_denied(self, change: Change) -> None:
        """Log that a denied change is still wanted but was not retried."""
        if isinstance(change, SetOomScoreAdj):
            kind = (_rule_number(change), "denied")
            self._current.update(key for key in self.complaints if key[:2] == kind)
        else:
            self._current.add((change.name, False))

    def end_pass(self) -> None:
        """Drop complaints that are no longer true. The journal does not repeat those that are true again."""
        for key in self.complaints.keys() - self._current:
            del self.complaints[key]
        self._current.clear()

    def _complain(self, outcome: Outcome) -> bool:
        """Count a failure; return whether it must be logged, as the first of its kind."""
        key = _complaint_key(outcome)
        known = self.complaints.get(key)
        if known is not None:
            self._current.add(key)
            self.complaints[key] = known._replace(tries=known.tries + 1)
            return False
        change, is_new = outcome.change, key not in self._said and self._has_room(outcome, self._said)
        if is_new:
            self._said.add(key)
        elif not self._has_room(outcome, self.complaints):
            return False
        self._current.add(key)
        self.complaints[key] = Complaint(
            subject(change), change.after, outcome.result, outcome.reason, outcome.hint, because(change), 1
        )
        return is_new

    def _has_room(self, outcome: Outcome, keys: Collection[tuple[object, ...]]) -> bool:
        """Return whether a failure may be added to those with these keys.

        The reason names a uid, and one user may own thousands. They must not displace other failures of this
        rule, or, with many rules, all others.
        """
        if isinstance(outcome.change, SetOomScoreAdj):
            kind = _complaint_key(outcome)[:2]
            is_crowded = outcome.result == "refused" and len(keys) >= _COMPLAINTS_LIMIT // 2
            if is_crowded or sum(1 for other in keys if other[:2] == kind) >= _COMPLAINTS_PER_RULE:
                return False
        return len(keys) < _COMPLAINTS_LIMIT

    def _fold(self, outcome: Outcome, now: float, seconds: float) -> None:
        change, folds = outcome.change, self._folds[seconds]
        key = (outcome.result, change.cause, target(change), _rule_number(change))
        fold = folds.get(key)
        if fold is None:
            folds[key] = _Fold(now + seconds)
            self.sink.write(outcome_entry(outcome))
            return
        fold.count += 1
        if fold.last is not None and len(fold.examples) < _EXAMPLES:
            fold.examples.append(subject(fold.last.change))
        fold.last = outcome

    def _write(self, fold: _Fold) -> bool:
        """Write the entry of a fold; return whether there is anything in it."""
        if fold.last is None:
            return False
        others = dict.fromkeys(fold.examples)
        others.pop(subject(fold.last.change), None)
        self.sink.write(outcome_entry(fold.last, count=fold.count, examples=tuple(others)))
        return True


class Degradations:
    """Sentences for people, by what they are about; `status` shows them."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._texts: dict[str, tuple[str, ...]] = {}
        self._logged: dict[str, set[str]] = {}

    @property
    def texts(self) -> list[str]:
        """All that hold now."""
        return [text for texts in self._texts.values() for text in texts if text]

    def set(self, about: str, *texts: str) -> None:
        """Say what holds now about one thing; nothing, or "", if it works."""
        self._texts[about] = texts
        logged = self._logged.setdefault(about, set())
        for text in texts:
            if text and text not in logged and len(logged) < _LOGGED_LIMIT:
                logged.add(text)
                self._reporter.say(events.LIMITED, text)


def _rule_number(change: Change) -> int | None:
    return change.rule.number if isinstance(change, SetOomScoreAdj) and change.rule is not None else None


def _complaint_key(outcome: Outcome) -> tuple[object, ...]:
    """Return the key of a failure: for a sysctl its name, for a process its rule and reason, not its pid."""
    change = outcome.change
    if isinstance(change, SetOomScoreAdj):
        return (_rule_number(change), outcome.result, outcome.reason)
    return (change.name, outcome.result == "contended")


def _recent_change(outcome: Outcome, at: float) -> RecentChange:
    change = outcome.change
    made = change.after if outcome.made is None else outcome.made
    return RecentChange(at, subject(change), change.before, made, change.cause, because(change))
