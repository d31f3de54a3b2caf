"""An unfinished report: what its lines have said so far, and which further lines may belong to it."""

import re
from itertools import islice

from oomguard.oom.kill import Context, Kill
from oomguard.oom.log_line import Line
from oomguard.oom.log_time import is_near
from oomguard.oom.report import UNKNOWN_MEMORY, Amount, Choice, Memory, Report, Task, Zone

_KILLS_LIMIT = 2_000
_COUNTERS_LIMIT = 128
NODES_LIMIT = 1024
"""Memory nodes of the largest configuration (MAX_NUMNODES)."""
_ZONE = re.compile(
    r"(?:Node (\d{1,5}) )?([A-Z]\w{1,20}) free:(\d{1,20})kB (?:boost:\d{1,20}kB )?min:(\d{1,20})kB"
)
_HUGE = re.compile(r"Node \d{1,5} hugepages_total=(\d{1,15}) .{0,80} hugepages_size=(\d{1,15})kB")
_PRESENT = re.compile(r" present:(\d{1,20})kB")
_MANAGED = re.compile(r" managed:(\d{1,20})kB")
_BUDDIES = re.compile(r"(?:Node \d{1,5} )?[A-Z]\w{1,20}: \d{1,20}\*(\d{1,5})kB")
_COUNTERS = re.compile(r" {0,8}[A-Za-z_]{1,40}:\d")
_COUNTER = re.compile(r"\b([a-z_]{1,40}):(\d{1,20})\b")
_PAGES = re.compile(r"(\d{1,20}) (?:pages (?:of )?(RAM|reserved)\b|(reserved) pages)")
_SWAP = re.compile(r"(Free|Total) swap {0,4}[=:] {0,20}(\d{1,20})kB")
_CERTAIN = ("when", "uptime_seconds", "host", "ending", "group")
"""What a line about it alone says of a report, whatever is among its lines."""
_PAGES_KIB = (4, 8, 16, 32, 64)


class Draft:
    """An unfinished report."""

    memory: "MemoryDraft | None" = None
    context: Context | None = None
    choice: Choice | None = None
    rows_left_out = rows_unread = raw_length = 0
    has_tasks = False
    ended = False
    is_mixed = has_other_asker = has_other_choice = follows_open = False
    """Whether lines of another report may be among its own: any, its header, what it chose; and whether that
    had no end where this one began."""

    def __init__(self, line: Line, before: "Draft | None" = None) -> None:
        """`before` is another report whose lines may follow."""
        self.last = line
        if before is not None:
            self.follows_open = is_open = not before.is_over
            self.is_mixed = before.is_mixed or (is_open and before.has_details)
            self.has_other_asker = "invoker" in before.fields if is_open else before.has_other_asker
            self.has_other_choice = before.has_other_choice or before.choice is not None
        self.fields: dict[str, object] = {
            "when": line.when,
            "uptime_seconds": line.uptime_seconds,
            "host": line.host,
        }
        self.stack: list[str] = []
        self.raw: list[str] = []
        self.tasks: list[Task] = []
        self.kills: dict[int, Kill] = {}

    def is_near(self, line: Line) -> bool:
        """Return whether a line may be the report's by its time."""
        if is_near(self.last, line):
            self.last = line
            return True
        return False

    def can_take(self, chosen: Context | Choice) -> bool:
        """Return whether what was chosen may be the report's, which has one line of each kind."""
        if self.killed_nothing:
            return False
        both = (self.choice, self.context)
        same, other = both if isinstance(chosen, Choice) else reversed(both)
        return same is None and (other is None or other.pid == chosen.pid)

    def was_killed(self, pid: int, line: Line) -> bool:
        """Return whether a line about that choice follows its kill: the newest line may come first."""
        is_first = self.ended and self.context is None and self.choice is None and [*self.kills] == [pid]
        return is_first and self.is_near(line)

    def can_kill(self, kill: Kill) -> bool:
        """Return whether a kill may be the report's: with a child or a thread of what was chosen."""
        if self.kills:
            first = next(iter(self.kills.values()))
            return bool(self.fields.get("group")) and kill.message == first.message
        if self.killed_nothing:
            return False
        context = self.context
        if self.has_other_choice and self.choice is not None and self.choice.pid != kill.pid:
            return False
        if context is None or self.choice is not None or context.pid == kill.pid:
            return True
        return (
            context.comm == kill.comm and self.has_tasks and all(row.pid != context.pid for row in self.tasks)
        )

    def can_pass_over(self, line: Line) -> bool:
        """Return whether a victim that is already exiting may be one of the group that is being killed."""
        return bool(self.kills and self.fields.get("group")) and self.is_near(line)

    def add_kill(self, kill: Kill, line: Line) -> None:
        """Add a victim."""
        if len(self.kills) < _KILLS_LIMIT:
            self.kills[kill.pid] = kill
        self.last = line
        self.ended = True

    @property
    def killed_nothing(self) -> bool:
        """Whether it ended without a victim: a kill that follows is another report's."""
        is_panic = self.ended and not self.kills
        return is_panic or str(self.fields.get("ending")).startswith("Out of memory and no killable")

    @property
    def has_details(self) -> bool:
        """Whether it shows more than what asked, what was chosen and what was killed."""
        return self.has_tasks or self.memory is not None or "constraint" in self.fields

    @property
    def is_over(self) -> bool:
        """Whether it shows how it ended."""
        return self.ended or "ending" in self.fields

    def _learn_page_size(self) -> None:
        """Compute it from a victim in the table: a cgroup's report does not show it."""
        if not self.tasks or not self.kills or self.need_memory().page_kib is not None:
            return
        rows = ((self.kills[row.pid], row) for row in self.tasks if row.pid in self.kills)
        for kill, row in rows:
            page_kib, rest = divmod(kill.total_vm_kib or 0, row.total_vm or 1)
            if page_kib not in _PAGES_KIB or rest:
                continue
            self.need_memory().page_kib = page_kib
            if page_kib > 4 and "pgtables_bytes" in self.fields.get("columns", ()):  # type: ignore[operator]
                self.tasks = [one._replace(page_tables=one.page_tables * 4 // page_kib) for one in self.tasks]

    def need_memory(self) -> "MemoryDraft":
        """Return what the report says about memory, to add to it; from then on it says something."""
        if self.memory is None:
            self.memory = MemoryDraft()
        return self.memory

    def finished(self) -> Report:
        """Return the report, or of one that may have lines of another only what is certain."""
        has_header = "invoker" in self.fields
        if self.is_mixed or self._is_of_two:
            is_mixed = has_header or self.has_details
            if is_mixed:
                self._forget_details()
        else:
            is_mixed = has_header and self.has_other_asker and bool(self.kills)
            if is_mixed:
                self.fields["invoker"] = None
        self._learn_page_size()
        return Report(
            **self.fields,  # type: ignore[arg-type] # the keys are the fields
            memory=UNKNOWN_MEMORY if self.memory is None else self.memory.finished(),
            context=self.context,
            choice=self.choice,
            is_mixed=is_mixed,
            tasks=tuple(self.tasks),
            rows_left_out=self.rows_left_out,
            rows_unread=self.rows_unread,
            raw="".join(self.raw),
            kills=tuple(self.kills.values()),
            stack=tuple(self.stack),
        )

    def _forget_details(self) -> None:
        self.memory, self.tasks, self.stack = None, [], []
        self.fields = {name: self.fields[name] for name in _CERTAIN if name in self.fields}
        if self.context is not None:
            self.take_context(self.context)

    @property
    def _is_of_two(self) -> bool:
        """Whether it has the kill of a whole host, and what only the report of a cgroup has."""
        message = next((kill.message for kill in self.kills.values()), "")
        message = message or (self.choice.message if self.choice is not None and self.kills else "")
        is_cgroups = self.fields.get("constraint") == "memcg" or (
            self.memory is not None and self.memory.cgroup
        )
        return bool(is_cgroups) and self.context is None and message.startswith("Out of memory")

    def take_context(self, context: Context) -> None:
        """Add which memory ran out, and what was chosen."""
        self.context = context
        self.fields |= {
            "constraint": context.constraint,
            "oom_memcg": context.oom_memcg,
            "task_memcg": context.task_memcg,
            "nodes": context.nodes,
        }

    @property
    def is_worth_telling(self) -> bool:
        """Whether it is more than a fragment of a table, which means nothing alone."""
        has_cause = not self.fields.keys().isdisjoint(("invoker", "ending", "constraint"))
        return has_cause or bool(self.kills or self.context or self.choice)


class MemoryDraft:
    """What an unfinished report says about the state of memory."""

    page_kib: int | None = None
    huge_kib = 0
    is_open = False
    """Whether the lines about the host's memory have begun."""

    def __init__(self) -> None:
        self.amounts: dict[str, int] = {}
        self.pages: dict[str, int] = {}
        self.cgroup: dict[str, Amount] = {}
        self.held_kib: dict[str, int] = {}
        self.nodes_kib: dict[int, int] = {}
        self.managed_kib = 0
        self.zones: list[Zone] = []

    def finished(self) -> Memory:
        """Return what is known of it."""
        if not (self.page_kib or self.amounts or self.pages or self.cgroup or self.nodes_kib):
            return UNKNOWN_MEMORY
        return Memory(
            self.page_kib or 4,
            knows_page=self.page_kib is not None,
            **self.amounts,
            pages=self.pages,
            cgroup=self.cgroup,
            nodes_kib=self.nodes_kib,
            managed_kib=self.managed_kib,
            zones=tuple(self.zones),
            huge_kib=self.huge_kib,
            held_kib=self.held_kib,
        )

    def take(self, text: str) -> bool:
        """Add a line about the memory of the host. Return whether it is one."""
        if (zone := _ZONE.match(text)) is not None:
            managed = _MANAGED.search(text)
            node, size = int(zone[1] or 0), _PRESENT.search(text) or managed
            self.managed_kib += 0 if managed is None else int(managed[1])
            if size is not None and (node in self.nodes_kib or len(self.nodes_kib) < NODES_LIMIT):
                self.nodes_kib[node] = self.nodes_kib.get(node, 0) + int(size[1])
            if len(self.zones) < NODES_LIMIT:
                self.zones.append(Zone(node, zone[2], int(zone[3]), int(zone[4])))
        elif (buddies := _BUDDIES.match(text)) is not None:
            self.page_kib = max(int(buddies[1]), 1)
        elif (huge := _HUGE.match(text)) is not None:
            self.huge_kib += int(huge[1]) * int(huge[2])
        elif text[:1].isdigit():
            if (pages := _PAGES.match(text)) is not None:
                self.amounts["ram_pages" if pages[2] == "RAM" else "reserved_pages"] = int(pages[1])
        elif text.startswith(("Free swap", "Total swap")):
            if (swap := _SWAP.match(text)) is not None:
                self.amounts["swap_free_kib" if swap[1] == "Free" else "swap_total_kib"] = int(swap[2])
        elif _COUNTERS.match(text) is None:
            return False
        elif not self.nodes_kib and len(self.pages) < _COUNTERS_LIMIT:
            for name, count in islice(_COUNTER.findall(text), _COUNTERS_LIMIT):
                self.pages.setdefault(name, int(count))
        return True
