"""Entries about the kernel's kills: one for each, up to a number per second, and exact counts."""

from collections import Counter

from oomguard.core.rule import Rule
from oomguard.core.sample import Growth
from oomguard.core.text import counted, kib, legible, printable, some_of
from oomguard.core.typed import NamedTuple
from oomguard.oom.kill import Context, Kill
from oomguard.report.events import ERROR, KILLED, LogEntry
from oomguard.report.journal import Sink
from oomguard.report.shortage_entries import grew

WINDOW_SECONDS = 1.0
ENTRIES_A_WINDOW = 20
"""Kills in a second; further ones are counted in one entry: a cgroup may run out of memory again and
again."""

_RULES = 5
"""Rules named in that entry."""

RULES_LIMIT = 1000
"""Rules with a count of their own. Each reload of the policy may bring new ones."""


class Death(NamedTuple):
    """A kill, which memory ran out (None: the kernel did not say), and the rule that matched the victim."""

    kill: Kill
    context: Context | None = None
    rule: Rule | None = None
    growth: Growth | None = None
    """How it had grown, if recorded."""

    @property
    def was_protected(self) -> bool:
        """Whether its value was below 0."""
        value = self.kill.oom_score_adj
        return value is not None and value < 0


class KillReporter:
    """Writes the entries about kills, and counts them by rule."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.counts: Counter[tuple[str, bool]] = Counter()
        """Kills by the label of the victim's rule, "" for none, and by whether it was protected."""
        self._until = 0.0
        self._written = 0
        self._more: Counter[str] = Counter()

    def take(self, death: Death, now: float) -> None:
        """Count a kill at the monotonic time `now`, and write its entry."""
        label = "" if death.rule is None else death.rule.label
        key = (label, death.was_protected)
        self.counts[key if key in self.counts or len(self.counts) < RULES_LIMIT else ("", key[1])] += 1
        self.flush(now)
        if now >= self._until:
            self._until, self._written = now + WINDOW_SECONDS, 0
        # Any user can have processes killed 20 times a second, but has none that is protected.
        if self._written < ENTRIES_A_WINDOW * (1 + death.was_protected):
            self._written += 1
            self._sink.write(kill_entry(death))
        else:
            self._more[label] += 1

    def take_unknown(self, count: int, why: str) -> None:
        """Count kills of unknown processes, and write one entry."""
        self.counts["", False] += count
        self._write_count(count, f"{counted(count, 'process', 'es')}, names unknown: {why}")

    def flush(self, now: float) -> None:
        """Write an entry with the number of further kills, when their second is over."""
        if not self._more or now < self._until:
            return
        each = [f"{count} matched by {label or 'no rule'}" for label, count in self._more.most_common()]
        by_rule = some_of(each, _RULES, "more rules")
        count = self._more.total()
        self._more.clear()
        self._write_count(count, f"{counted(count, 'more process', 'es')} in the same second: {by_rule}")

    def next_flush(self) -> float | None:
        """Return when to call `flush`, or None."""
        return self._until if self._more else None

    def _write_count(self, count: int, which: str) -> None:
        self._sink.write(LogEntry(KILLED, f"the kernel killed {which}", {"OOMGUARD_COUNT": str(count)}))


def kill_entry(death: Death) -> LogEntry:
    """Return the entry for a kill."""
    kill, context, rule, _ = death
    fields = {"OBJECT_PID": str(kill.pid), "OOMGUARD_COMM": printable(kill.comm)}
    if kill.oom_score_adj is not None:
        fields["OOMGUARD_OOM_SCORE_ADJ"] = str(kill.oom_score_adj)
    if kill.rss_kib is not None:
        fields["OOMGUARD_RSS_KIB"] = str(kill.rss_kib)
    if kill.uid is not None:
        fields["OOMGUARD_UID"] = str(kill.uid)
    if rule is not None:
        fields["OOMGUARD_RULE"] = rule.label
        fields["OOMGUARD_SOURCE"] = rule.source
    if context is not None:
        fields["OOMGUARD_CONSTRAINT"] = context.constraint
        fields["OOMGUARD_MEMCG"] = printable(context.task_memcg)
        if context.oom_memcg:
            fields["OOMGUARD_OOM_MEMCG"] = printable(context.oom_memcg)
    event = KILLED._replace(priority=ERROR) if death.was_protected else KILLED
    return LogEntry(event, _sentence(death), fields)


def _sentence(death: Death) -> str:
    kill, context, rule, growth = death
    parts = [] if kill.rss_kib is None else [f"{kib(kill.rss_kib)} in RAM"]
    if grown := growth and grew(growth):
        parts.append(grown)
    value = "" if kill.oom_score_adj is None else f"oom_score_adj {kill.oom_score_adj}, "
    parts.append(value + ("no rule" if rule is None else f"{rule.label}, {rule.source}"))
    if kill.uid is not None:
        parts.append(f"uid {kill.uid}")
    if context is not None and context.task_memcg:
        parts.append(legible(context.task_memcg))
    return f"{printable(kill.comm)}[{kill.pid}] was killed by the kernel: {_why(death)} ({'; '.join(parts)})"


def _why(death: Death) -> str:
    context = death.context
    if context is None:
        is_cgroup = death.kill.message.startswith("Memory cgroup")
        return "a memory cgroup reached its limit" if is_cgroup else "memory ran out"
    match context.constraint:
        case "none":
            return "the host ran out of memory"
        case "memcg":
            return f"{legible(context.oom_memcg)} reached its limit"
        case "cpuset" | "memory-policy":
            return f"{memory_nodes(context.nodes)} ran out of memory"


def memory_nodes(nodes: str) -> str:
    """Return memory nodes, such as `0-1,3`, in the middle of a sentence."""
    if not nodes:
        return "the memory nodes"
    return f"memory {'node' if nodes.isdecimal() else 'nodes'} {printable(nodes)}"
