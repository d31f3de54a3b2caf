"""From the kernel's lines to a report for each time that it was out of memory.

Kernels since 2.6.18 differ in what they print and in which order; other lines may stand in between, and the
beginning or the end may be lost. What is there is told.
"""

import re
from typing import TYPE_CHECKING

from oomguard.core.oom_kill import Context, Kill, parse_context, parse_group, parse_kill
from oomguard.core.oom_report import Amount, Choice, Invoker, Memory, Report, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oomguard.core.log_line import Line

_VALUE_MOST = 1000
_TASKS_LIMIT = 200_000
"""More than any report has: a host of 4 million pids prints no more before its log is full."""

_HEADER = re.compile(
    r"(?:(?P<comm>.*) invoked )?oom-killer: gfp_mask=(?P<gfp_mask>0x[0-9a-f]{1,16}(?:\([^)]{0,400}\))?)"
    r"(?:, nodemask=(?P<nodemask>[^ ]{1,200}))?(?:, order=(?P<order>-?\d{1,4}))?"
    r"(?:, oom_adj=-?\d{1,5}(?=, oom_score_adj))?"  # 2.6.36 to 3.6 had both
    r"(?:, (?:oom_score_adj|oom_adj|oomkilladj)=(?P<value>-?\d{1,5}))?\s*",
    re.DOTALL,
)
_CPU = re.compile(
    r"(?:CPU: \d{1,6} +)?(?:UID: \d{1,10} +)?P(?:ID|id): (?P<pid>\d{1,10}),? +[Cc]omm: .{0,80}?"
    r"(?:Not tainted|Tainted: .{0,60}?) +(?:\(?(?P<release>\d+\.\d+\.\d+[^ )]{0,80})\)?)",
    re.DOTALL,
)
_CHOICE = re.compile(
    r"(?:(?P<message>[\w ()]{1,80}): )?[Kk]ill process (?P<pid>\d{1,10}) \((?P<comm>.*)\)"
    r" score (?P<score>\d{1,20}) or (?:sacrifice child|a child)\s*",
    re.DOTALL,
)
_LIMIT = re.compile(r"Task in (?P<task>.*) killed as a result of limit of (?P<oom>.*)", re.DOTALL)
_AMOUNT = re.compile(r"(memory|memory\+swap|swap|kmem): usage (\d{1,20})kB, limit (\d{1,20})kB")
_ZONE = re.compile(r"Node (\d{1,5}) \w{1,20} free:.{0,900}? (?:managed|present):(\d{1,20})kB")
_MANAGED = re.compile(r" managed:(\d{1,20})kB")
_BUDDIES = re.compile(r"Node \d{1,5} \w{1,20}: \d{1,20}\*(\d{1,5})kB")
_COUNTER = re.compile(r"\b([a-z_]{1,40}):(\d{1,20})\b")
_PAGES = re.compile(r"(\d{1,20}) pages (RAM|reserved)\b")
_SWAP = re.compile(r"(Free|Total) swap *[=:] *(\d{1,20})kB")
_REAPED = re.compile(r"oom_reaper: reaped process (\d{1,10}) ")
_PANIC = re.compile(r"Kernel panic - not syncing: (.*(?:[Oo]ut of memory|deadlocked on memory).*)", re.DOTALL)
_SUPPRESSED = re.compile(r"(?:oom_kill_process|dump_header|out_of_memory): (\d{1,12}) callbacks suppressed")
_NO_VICTIM = re.compile(
    r"(?:Out of memory and no killable processes|OOM victim \d+ \(.*\) is already exiting)", re.DOTALL
)
_CPUSET = re.compile(r"(?:.*) cpuset=(?P<cpuset>.*) mems_allowed=(?P<mems>[\d,-]{1,200})\s*", re.DOTALL)

_UNLIMITED_KIB = 1 << 52
"""Limits above are none: PAGE_COUNTER_MAX in KiB is 2^53 or so, whatever a page is."""
_HAS_ROWS = ("total_vm", "rss", "name")


class _Draft:
    """A report in the making."""

    def __init__(self, line: "Line") -> None:
        self.fields: dict[str, object] = {
            "when": line.when,
            "uptime_seconds": line.uptime_seconds,
            "host": line.host,
        }
        self.memory: dict[str, object] = {}
        self.pages: dict[str, int] = {}
        self.cgroup: dict[str, Amount] = {}
        self.nodes_kib: dict[int, int] = {}
        self.tasks: list[Task] = []
        self.kills: list[Kill] = []
        self.context: Context | None = None
        self.choice: Choice | None = None
        self.has_tasks = False
        self.in_memory = False
        self.ended = False

    def finished(self) -> Report:
        memory = Memory(
            **self.memory,  # type: ignore[arg-type] # the keys below are the fields
            pages=self.pages,
            cgroup=self.cgroup,
            nodes_kib=self.nodes_kib,
        )
        return Report(
            **self.fields,  # type: ignore[arg-type]
            memory=memory,
            context=self.context,
            choice=self.choice,
            tasks=tuple(self.tasks),
            kills=tuple(self.kills),
        )


class Assembler:
    """Puts the lines of one host together. A report is there once the next begins, or at the end.

    Lines of other parts of the kernel may stand in between.
    """

    def __init__(self) -> None:
        self._draft: _Draft | None = None
        self.row: re.Pattern[str] | None = None
        """What a row of the task table looks like, once its heading was there."""
        self._make: Callable[[tuple[str, ...]], Task] | None = None
        self._suppressed = 0
        self.quiet = 0
        """Lines since the last that belonged to the report."""

    @property
    def is_reading(self) -> bool:
        """Whether a report has begun and nobody has died yet: every line may be part of it."""
        return self._draft is not None and not self._draft.ended

    def feed(self, line: "Line") -> "Iterator[Report]":
        """Take a line, and yield the reports that are finished by it."""
        text = line.text
        if text.startswith("["):
            if self.row is not None and (row := self.row.fullmatch(text)) is not None:
                self.add_task(row.groups())
                return
            if "total_vm" in text:
                yield from self._begin_table(line)
            return
        head = text[:1]
        if head == " " and not (self._draft and self._draft.in_memory) and "oom-killer:" not in text:
            return  # the stack; only the header begins with a name, which may begin with a blank
        yield from self._feed_words(line)

    def finish(self) -> "Iterator[Report]":
        """Yield the report that is in the making, if there is one."""
        draft, self._draft = self._draft, None
        self.row = None
        if draft is not None and _is_worth_telling(draft):
            yield draft.finished()

    def _feed_words(self, line: "Line") -> "Iterator[Report]":
        text = line.text
        draft = self._draft
        if "oom-killer:" in text and (header := _HEADER.fullmatch(text)) is not None:
            yield from self._begin_report(line, header)
        elif "ill process " in text or "Killed process " in text:
            yield from self._take_victim(line)
        elif text.startswith("oom-kill:"):
            context = parse_context(text)
            if context is not None:
                if draft is None or draft.ended or draft.context is not None:
                    yield from self._begin(line)
                self._take_context(context)
        elif (panic := _PANIC.match(text)) is not None or _NO_VICTIM.match(text) is not None:
            if draft is None or draft.ended:
                yield from self._begin(line)
            assert self._draft is not None
            if not self._draft.fields.get("ending"):
                self._draft.fields["ending"] = text.strip()
            self._draft.ended = panic is not None
        elif (suppressed := _SUPPRESSED.match(text)) is not None:
            self._suppressed += int(suppressed[1])
        elif text.startswith("Task in ") and (limit := _LIMIT.fullmatch(text)) is not None:
            if draft is None or draft.ended:
                yield from self._begin(line)
            assert self._draft is not None
            self._draft.fields |= {
                "constraint": "memcg",
                "oom_memcg": limit["oom"],
                "task_memcg": limit["task"],
            }
        elif draft is not None:
            self._take_detail(draft, text)

    # Beginnings

    def _begin(self, line: "Line") -> "Iterator[Report]":
        yield from self.finish()
        self._draft = _Draft(line)
        self.quiet = 0
        if self._suppressed:
            self._draft.fields["suppressed"] = self._suppressed
            self._suppressed = 0

    def _begin_report(self, line: "Line", header: re.Match[str]) -> "Iterator[Report]":
        yield from self._begin(line)
        assert self._draft is not None
        order, value = header["order"], header["value"]
        self._draft.fields["invoker"] = Invoker(
            header["comm"] or "",
            None,
            header["gfp_mask"],
            int(order or 0),
            None if value is None else int(value),
        )

    def _begin_table(self, line: "Line") -> "Iterator[Report]":
        columns = tuple(line.text.replace("[", " ").replace("]", " ").split())
        if not all(name in columns for name in _HAS_ROWS) or columns[-1] != "name":
            return
        if self._draft is None or self._draft.ended or self._draft.has_tasks:
            yield from self._begin(line)
        assert self._draft is not None
        self._draft.has_tasks = True
        self._draft.fields["columns"] = columns
        self._draft.in_memory = False
        self.row = re.compile(
            r"\[ *(\d{1,10})\]" + r" +(-?\d{1,20})" * (len(columns) - 2) + r" (.{0,200})", re.DOTALL
        )
        self._make = _task_maker(columns, self._page_kib())

    def _page_kib(self) -> int:
        assert self._draft is not None
        page = self._draft.memory.get("page_kib", 4)
        assert isinstance(page, int)
        return page

    # Parts

    def add_task(self, fields: tuple[str, ...]) -> None:
        """Take the fields of a row that `row` has matched."""
        draft, make = self._draft, self._make
        if draft is not None and make is not None and len(draft.tasks) < _TASKS_LIMIT:
            task = make(fields)
            if task.rss >= 0 and -_VALUE_MOST <= task.oom_score_adj <= _VALUE_MOST:
                draft.tasks.append(task)
            self.quiet = 0

    def _take_context(self, context: Context) -> None:
        assert self._draft is not None
        draft = self._draft
        draft.context = context
        draft.fields |= {
            "constraint": context.constraint,
            "oom_memcg": context.oom_memcg,
            "task_memcg": context.task_memcg,
            "nodes": context.nodemask or context.mems_allowed,
        }

    def _take_victim(self, line: "Line") -> "Iterator[Report]":
        kill = parse_kill(line.text)
        if kill is not None:
            draft = self._draft
            if draft is not None and draft.kills:
                if any(one.pid == kill.pid for one in draft.kills):
                    return  # memory.oom.group prints the first one twice
                if not draft.fields.get("group"):
                    yield from self._begin(line)
            elif draft is None:
                yield from self._begin(line)
            assert self._draft is not None
            self._draft.kills.append(kill)
            self._draft.ended = True
            return
        found = _CHOICE.fullmatch(line.text)
        if found is None:
            return
        if self._draft is None or self._draft.ended:
            yield from self._begin(line)
        assert self._draft is not None
        self._draft.choice = Choice(int(found["pid"]), found["comm"], int(found["score"]))
        if (found["message"] or "").startswith("Memory cgroup"):
            self._draft.fields.setdefault("constraint", "memcg")

    def _take_detail(self, draft: _Draft, text: str) -> None:
        self.quiet += 1
        fields = draft.fields
        if (group := parse_group(text)) is not None:
            fields["group"] = group
        elif (reaped := _REAPED.match(text)) is not None:
            if any(kill.pid == int(reaped[1]) for kill in draft.kills):
                fields["reaped"] = int(str(fields.get("reaped", 0))) + 1
        elif draft.ended:
            return
        elif text.startswith("Mem-Info:"):
            draft.in_memory = True
        elif (amount := _AMOUNT.match(text)) is not None:
            limit = int(amount[3])
            draft.cgroup[amount[1]] = Amount(int(amount[2]), None if limit >= _UNLIMITED_KIB else limit)
        elif text.startswith(("CPU: ", "Pid: ", "PID: ")):
            self._take_cpu(fields, text)
        elif draft.in_memory:
            _take_memory(draft, text)
        elif "mems_allowed=" in text and (cpuset := _CPUSET.fullmatch(text)) is not None:
            fields.setdefault("nodes", cpuset["mems"])

    def _take_cpu(self, fields: dict[str, object], text: str) -> None:
        invoker = fields.get("invoker")
        found = _CPU.match(text)
        if found is None or "release" in fields:
            return
        fields["release"] = found["release"]
        if isinstance(invoker, Invoker):
            fields["invoker"] = invoker._replace(pid=int(found["pid"]))


def _is_worth_telling(draft: _Draft) -> bool:
    """Tell whether there is more than a fragment of a table, which says nothing by itself."""
    return bool(
        draft.kills or draft.context or draft.choice or "invoker" in draft.fields or "ending" in draft.fields
    )


def _take_memory(draft: _Draft, text: str) -> None:
    if text.startswith("Node "):
        if (buddies := _BUDDIES.match(text)) is not None:
            draft.memory["page_kib"] = max(int(buddies[1]), 1)
        elif (zone := _ZONE.match(text)) is not None:
            managed = _MANAGED.search(text)
            kib = int(zone[2] if managed is None else managed[1])
            draft.nodes_kib[int(zone[1])] = draft.nodes_kib.get(int(zone[1]), 0) + kib
    elif (pages := _PAGES.match(text)) is not None:
        draft.memory["ram_pages" if pages[2] == "RAM" else "reserved_pages"] = int(pages[1])
    elif (swap := _SWAP.match(text)) is not None:
        draft.memory["swap_free_kib" if swap[1] == "Free" else "swap_total_kib"] = int(swap[2])
    elif not draft.nodes_kib:
        for name, count in _COUNTER.findall(text):
            draft.pages.setdefault(name, int(count))


def _task_maker(columns: tuple[str, ...], page_kib: int) -> "Callable[[tuple[str, ...]], Task]":
    """Return what makes a task of a row with these columns (mm/oom_kill.c:dump_task of many years)."""
    at = {name: place for place, name in enumerate(columns)}
    uid, total_vm, rss = at.get("uid", 0), at["total_vm"], at["rss"]
    swap = at.get("swapents", at.get("swap"))
    value = at.get("oom_score_adj", at.get("oom_adj"))
    table_bytes = at.get("pgtables_bytes")
    tables = [place for name, place in at.items() if name in ("nr_ptes", "nr_pmds", "nr_puds")]
    page_bytes = page_kib * 1024

    def make(fields: tuple[str, ...]) -> Task:
        if table_bytes is not None:
            page_tables = int(fields[table_bytes]) // page_bytes
        else:
            page_tables = sum(int(fields[place]) for place in tables)
        return Task(
            int(fields[0]),
            int(fields[uid]),
            fields[-1],
            int(fields[total_vm]),
            int(fields[rss]),
            0 if swap is None else int(fields[swap]),
            page_tables,
            0 if value is None else int(fields[value]),
        )

    return make
