"""Assembles the kernel's lines to a report for each time that memory ran out.

Kernels since 2.6.18 differ in what they print and in which order. Other lines may be in between, and the
beginning or the end may be missing: a report has whatever is there.
"""

import re
from itertools import islice
from typing import TYPE_CHECKING

from oomguard.oom.kill import (
    COMM_CHARACTERS,
    CONTEXT,
    KILLED,
    Context,
    Kill,
    fits_comm,
    parse_context,
    parse_group,
    parse_kill,
)
from oomguard.oom.log_line import Line, seconds_between
from oomguard.oom.report import Amount, Choice, Invoker, Memory, Report, Task, Zone

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomguard.oom.kill import Constraint

_VALUE_MOST = 1000
TASKS_LIMIT = 25_000
"""Rows of one table that are kept, of which each takes 350 bytes; further ones are counted."""
_KILLS_LIMIT = 2_000
_COLUMNS_LIMIT = 24
_COUNTERS_LIMIT = 128
_NODES_LIMIT = 1024  # MAX_NUMNODES of the largest configuration

# At most one quantifier in each is unbounded. Names and paths are found by the fixed words around them.
_INVOKED = " invoked oom-killer: gfp_mask="
_HEADER = re.compile(
    r"(?P<gfp_mask>0x[0-9a-f]{1,16}(?:\([^)]{0,400}\))?)"
    r"(?:, nodemask=(?P<nodemask>[^ ]{1,200}))?(?:, {1,2}order=(?P<order>-?\d{1,4}))?"
    r"(?:, oom_adj=-?\d{1,5}(?=, oom_score_adj))?"  # 2.6.36 to 3.6 had both
    r"(?:, (?:oom_score_adj|oom_adj|oomkilladj)=(?P<value>-?\d{1,5}))?,?"  # a mail may cut the rest
)
_CPU = re.compile(
    r"(?:CPU: \d{1,6} {1,4})?(?:UID: \d{1,10} {1,4})?P(?:ID|id): (?P<pid>\d{1,10}),? {1,4}[Cc]omm: "
)
_CPU_LENGTH = 400
_KDUMP = re.compile(r" Kdump: loaded ?\Z")
_RELEASE = re.compile(r"\(?(\d{1,3}\.\d{1,5}\.\d{1,5}[^ )]{0,80})")
_CHOICE = re.compile(r"(?:(?P<message>[\w ()]{1,80}): )?[Kk]ill process (?P<pid>\d{1,10}) \(")
_SCORE = re.compile(r"(\d{1,20}) (?:or (?:sacrifice child|a child)|and children\.)\s*")
_AMOUNT = re.compile(r"(memory|memory\+swap|swap|kmem): usage (\d{1,20})kB, limit (\d{1,20})kB")
_ZONE = re.compile(
    r"(?:Node (\d{1,5}) )?([A-Z]\w{1,20}) free:(\d{1,20})kB (?:boost:\d{1,20}kB )?min:(\d{1,20})kB"
)
_HUGE = re.compile(r"Node \d{1,5} hugepages_total=(\d{1,15}) .{0,80} hugepages_size=(\d{1,15})kB")
_PRESENT = re.compile(r" present:(\d{1,20})kB")
_MANAGED = re.compile(r" managed:(\d{1,20})kB")
_BUDDIES = re.compile(r"Node \d{1,5} \w{1,20}: \d{1,20}\*(\d{1,5})kB")
_COUNTER = re.compile(r"\b([a-z_]{1,40}):(\d{1,20})\b")
_PAGES = re.compile(r"(\d{1,20}) (?:pages (?:of )?(RAM|reserved)\b|(reserved) pages)")
_SWAP = re.compile(r"(Free|Total) swap {0,4}[=:] {0,20}(\d{1,20})kB")
_REAPED = re.compile(r"oom_reaper: reaped process (\d{1,10}) ")
_PANIC = "Kernel panic - not syncing: "
_SUPPRESSED = re.compile(r"(?:oom_kill_process|dump_header|out_of_memory): (\d{1,12}) callbacks suppressed")
_EXITING = re.compile(r"(?:[\w ()]{1,80}: )?OOM victim \d{1,10} \(")
_STACK = re.compile(
    r"(?<![\w.])(mem_cgroup_out_of_memory|mem_cgroup_oom_synchronize|pagefault_out_of_memory)\+0x"
)
_NODE_LIST = re.compile(r"[\d,-]{1,200}")

_UNLIMITED_KIB = 1 << 52
"""A limit above this is none: PAGE_COUNTER_MAX is about 2^53 KiB for any page size."""
LONGEST_SECONDS = 120
"""A line that is so much later than the one before belongs to another report."""
_PAGES_KIB = (8, 16, 32, 64)
_STACK_LIMIT = 8
_COLUMNS = frozenset(
    {
        "pid",
        "uid",
        "tgid",
        "total_vm",
        "rss",
        "rss_anon",
        "rss_file",
        "rss_shmem",
        "cpu",
        "nr_ptes",
        "nr_pmds",
    }
    | {"nr_puds", "pgtables_bytes", "swap", "swapents", "oom_adj", "oom_score_adj", "name"}
)
"""Those that kernels have printed so far."""
_HAS_ROWS = ("uid", "tgid", "total_vm", "rss", "name")
_UNKNOWN_MEMORY = Memory()


def is_row(text: str) -> bool:
    """Return whether a text looks like a whole row of a task table, or its heading."""
    if not text.startswith("["):
        return False
    columns = _parse_columns(text)
    return _COLUMNS.issuperset(columns) if columns else _ROW.fullmatch(text) is not None


def is_whole(text: str) -> bool:
    """Return whether a text is one of the messages about a kill, to its end."""
    parsers = (parse_kill, parse_context, _parse_choice, _parse_header, parse_group)
    return is_row(text) or _is_panic(text) or any(parse(text) is not None for parse in parsers)


_ROW = re.compile(r"\[ *\d{1,10}\](?: +-?\d{1,20}){6,16} [^\s\d].{0,200}")


def _parse_columns(text: str) -> tuple[str, ...]:
    """Return the columns of a heading, () for another line."""
    columns = tuple(text.replace("[", " ").replace("]", " ").split())
    is_heading = len(columns) <= _COLUMNS_LIMIT and set(_HAS_ROWS).issubset(columns) and columns[-1] == "name"
    return columns if is_heading else ()


_MESSAGES: "dict[str, Constraint]" = {
    "Memory cgroup": "memcg",
    "No available memory in cpuset": "cpuset",
    "No available memory (MPOL_BIND)": "memory-policy",
}
"""How a `Kill process` line began if not the whole host ran out."""


class _Draft:
    """An unfinished report."""

    def __init__(self, line: Line) -> None:
        self.last = line
        self.stack: list[str] = []
        self.fields: dict[str, object] = {
            "when": line.when,
            "uptime_seconds": line.uptime_seconds,
            "host": line.host,
        }
        self.memory: dict[str, object] = {}
        self.pages: dict[str, int] = {}
        self.cgroup: dict[str, Amount] = {}
        self.nodes_kib: dict[int, int] = {}
        self.zones: list[Zone] = []
        self.huge_kib = 0
        self.tasks: list[Task] = []
        self.kills: dict[int, Kill] = {}
        self.context: Context | None = None
        self.choice: Choice | None = None
        self.rows_left_out = 0
        self.has_tasks = False
        self.in_memory = False
        self.ended = False

    def is_near(self, line: Line) -> bool:
        """Return whether a line may be the report's by its time."""
        seconds = seconds_between(self.last, line)
        if seconds is not None and abs(seconds) > LONGEST_SECONDS:
            return False
        self.last = line
        return True

    def can_have(self, context: Context) -> bool:
        """Return whether a context may be the report's."""
        return self.context is None and (self.choice is None or self.choice.pid == context.pid)

    def can_choose(self, choice: Choice) -> bool:
        """Return whether a choice may be the report's."""
        return self.choice is None and (self.context is None or self.context.pid == choice.pid)

    def can_kill(self, kill: Kill) -> bool:
        """Return whether a kill may be the report's: with a child or a thread of what was chosen."""
        if self.kills:
            return bool(self.fields.get("group"))
        context = self.context
        if context is None or self.choice is not None or context.pid == kill.pid:
            return True
        return (
            context.comm == kill.comm and self.has_tasks and all(row.pid != context.pid for row in self.tasks)
        )

    def add_kill(self, kill: Kill, line: Line) -> None:
        """Add a victim."""
        if len(self.kills) < _KILLS_LIMIT:
            self.kills[kill.pid] = kill
        self.last = line
        self.ended = True

    def _learn_page_size(self) -> None:
        """Compute it from a victim in the table: a cgroup's report does not show it."""
        if "page_kib" in self.memory or not self.kills or not self.tasks:
            return
        kill = next(iter(self.kills.values()))
        row = next((one for one in self.tasks if one.pid == kill.pid), None)
        if row is None or not row.total_vm or kill.total_vm_kib is None:
            return
        page_kib, rest = divmod(kill.total_vm_kib, row.total_vm)
        if page_kib in _PAGES_KIB and not rest:
            self.memory["page_kib"] = page_kib
            if "pgtables_bytes" in self.fields.get("columns", ()):  # type: ignore[operator]
                self.tasks = [one._replace(page_tables=one.page_tables * 4 // page_kib) for one in self.tasks]

    def finished(self) -> Report:
        self._learn_page_size()
        memory = _UNKNOWN_MEMORY
        if self.memory or self.pages or self.cgroup or self.nodes_kib:
            memory = Memory(
                **self.memory,  # type: ignore[arg-type] # the keys below are the fields
                pages=self.pages,
                cgroup=self.cgroup,
                nodes_kib=self.nodes_kib,
                zones=tuple(self.zones),
                huge_kib=self.huge_kib,
            )
        return Report(
            **self.fields,  # type: ignore[arg-type]
            memory=memory,
            context=self.context,
            choice=self.choice,
            tasks=tuple(self.tasks),
            rows_left_out=self.rows_left_out,
            kills=tuple(self.kills.values()),
            stack=tuple(self.stack),
        )


class Assembler:
    """Assembles the lines of one host. A report is complete when the next begins, or at the end.

    Lines of other parts of the kernel may be in between.
    """

    def __init__(self) -> None:
        self._draft: _Draft | None = None
        self.row: re.Pattern[str] | None = None
        """Matches a row of the task table; None before its heading."""
        self._make: Callable[[tuple[str, ...]], Task] | None = None
        self._suppressed = 0
        self._killed: tuple[Line, str] | None = None
        """The line of the last kill, and the victim's cgroup."""
        self.is_used = True
        """Whether the last line that names a kill was understood."""
        self.quiet = 0
        """Lines since the last that belonged to the report."""

    @property
    def is_reading(self) -> bool:
        """Whether a report has begun and shows no kill yet: every line may be part of it."""
        return self._draft is not None and not self._draft.ended

    def explains(self, line: Line, unit: str) -> bool:
        """Return whether the last kill is what systemd tells of in a line about a unit."""
        killed = self._killed
        if killed is None:
            return False
        seconds = seconds_between(killed[0], line)
        is_near = seconds is None or abs(seconds) <= LONGEST_SECONDS
        return is_near and (not killed[1] or unit in killed[1].split("/"))

    @property
    def size(self) -> int:
        """How many rows and victims the unfinished report has."""
        draft = self._draft
        return 0 if draft is None else len(draft.tasks) + len(draft.kills)

    def feed(self, line: Line) -> Report | None:
        """Add a line; return the previous report if the line begins another one."""
        text = line.text
        self.is_used = True
        if text.startswith("["):
            if self.row is not None and (row := self.row.fullmatch(text)) is not None:
                self.add_task(row.groups())
                return None
            return self._take_heading(line) if "total_vm" in text else None
        if "+0x" in text and (found := _STACK.search(text, 0, _CPU_LENGTH)) is not None:
            if self._draft is not None and len(self._draft.stack) < _STACK_LIMIT:
                self._draft.stack.append(found[1])
            return None
        if text.startswith(" ") and not (self._draft and self._draft.in_memory) and "oom-killer:" not in text:
            return None  # the stack; of other lines only the header can begin with a space, in a name
        return self._take_words(line)

    def finish(self) -> Report | None:
        """Return the unfinished report, None if there is none."""
        draft, self._draft = self._draft, None
        self.row = None
        return draft.finished() if draft is not None and _is_worth_telling(draft) else None

    def _take_words(self, line: Line) -> Report | None:
        text, draft, finished = line.text, self._draft, None
        if "oom-killer:" in text and (invoker := _parse_header(text)) is not None:
            draft, finished = self._begin(line)
            draft.fields["invoker"] = invoker
        elif KILLED in text or "ill process " in text:
            finished = self._take_victim(line)
        elif text.startswith(CONTEXT):
            context = parse_context(text)
            if context is None:
                self.is_used = False
                return None
            draft, finished = self._go_on(line, is_other=draft is not None and not draft.can_have(context))
            _take_context(draft, context)
        elif (is_panic := _is_panic(text)) or _is_without_victim(text):
            draft, finished = self._go_on(line)
            if is_panic or not draft.fields.get("ending"):
                draft.fields["ending"] = text.strip()
            draft.ended = is_panic
        elif (suppressed := _SUPPRESSED.match(text)) is not None:
            self._suppressed += int(suppressed[1])
        elif text.startswith("Task in ") and " killed as a result of limit of " in text:
            draft, finished = self._go_on(line)
            task, _, oom = text.removeprefix("Task in ").rpartition(" killed as a result of limit of ")
            draft.fields |= {"constraint": "memcg", "oom_memcg": oom, "task_memcg": task}
        elif draft is not None:
            self._take_detail(draft, text)
        return finished

    # Beginnings

    def _begin(self, line: Line) -> tuple[_Draft, Report | None]:
        """Begin a report, and return it with the previous one."""
        finished = self.finish()
        self._draft = draft = _Draft(line)
        self.quiet = 0
        if self._suppressed:
            draft.fields["suppressed"] = self._suppressed
            self._suppressed = 0
        return draft, finished

    def _go_on(self, line: Line, *, is_other: bool = False) -> tuple[_Draft, Report | None]:
        """Return the report that a line belongs to: a new one if there is none, or the line `is_other`'s."""
        draft = self._draft
        if draft is None or draft.ended or is_other or not draft.is_near(line):
            return self._begin(line)
        return draft, None

    def _take_heading(self, line: Line) -> Report | None:
        columns = _parse_columns(line.text)
        if not columns:
            return None
        draft, finished = self._go_on(line, is_other=self._draft is not None and self._draft.has_tasks)
        draft.has_tasks = True
        draft.fields["columns"] = columns
        draft.in_memory = False
        self.row = re.compile(
            r"\[ *(\d{1,10})\]" + r" +(-?\d{1,20})" * (len(columns) - 2) + r" (.{0,200})", re.DOTALL
        )
        page_kib = draft.memory.get("page_kib", 4)
        assert isinstance(page_kib, int)
        self._make = _task_maker(columns, page_kib)
        return finished

    # Parts

    def add_task(self, fields: tuple[str, ...]) -> None:
        """Add the fields of a row that `row` matched."""
        draft, make = self._draft, self._make
        if draft is None or make is None:
            return
        self.quiet = 0
        if len(draft.tasks) >= TASKS_LIMIT:
            draft.rows_left_out += 1
            return
        task = make(fields)
        if task.rss >= 0 and -_VALUE_MOST <= task.oom_score_adj <= _VALUE_MOST:
            draft.tasks.append(task)

    def _take_victim(self, line: Line) -> Report | None:
        draft, finished = self._draft, None
        kill = parse_kill(line.text)
        if kill is not None:
            if draft is not None and not draft.is_near(line):
                draft = None
            if draft is not None and kill.pid in draft.kills:
                return None  # memory.oom.group prints the first one twice
            if draft is None or not draft.can_kill(kill):
                draft, finished = self._begin(line)
            draft.add_kill(kill, line)
            self._killed = (line, str(draft.fields.get("task_memcg") or ""))
        elif (choice := _parse_choice(line.text)) is not None:
            draft, finished = self._go_on(line, is_other=draft is not None and not draft.can_choose(choice))
            draft.choice = choice
            constraint = next(
                (name for text, name in _MESSAGES.items() if choice.message.startswith(text)), None
            )
            if constraint is not None:
                draft.fields.setdefault("constraint", constraint)
        else:
            self.is_used = False
        return finished

    def _take_detail(self, draft: _Draft, text: str) -> None:
        self.quiet += 1
        fields = draft.fields
        if (group := parse_group(text)) is not None:
            fields["group"] = group
        elif (reaped := _REAPED.match(text)) is not None:
            if int(reaped[1]) in draft.kills:
                fields["reaped"] = int(str(fields.get("reaped", 0))) + 1
        elif draft.ended:
            return
        elif text.startswith(("Mem-Info:", "Mem-info:")):
            draft.in_memory = True
        elif (amount := _AMOUNT.match(text)) is not None:
            limit = int(amount[3])
            draft.cgroup[amount[1]] = Amount(int(amount[2]), None if limit >= _UNLIMITED_KIB else limit)
        elif text.startswith(("CPU: ", "Pid: ", "PID: ")):
            _take_cpu(fields, text)
        elif draft.in_memory:
            _take_memory(draft, text)
        elif " mems_allowed=" in text:
            before, _, nodes = text.rpartition(" mems_allowed=")
            if " cpuset=" in before and _NODE_LIST.fullmatch(nodes.rstrip()):
                fields.setdefault("nodes", nodes.rstrip())


def _take_context(draft: _Draft, context: Context) -> None:
    draft.context = context
    draft.fields |= {
        "constraint": context.constraint,
        "oom_memcg": context.oom_memcg,
        "task_memcg": context.task_memcg,
        "nodes": context.nodemask or context.mems_allowed,
    }


def _parse_header(text: str) -> Invoker | None:
    """Parse `NAME invoked oom-killer: gfp_mask=…`, or without the name, of old kernels."""
    at = text.find(_INVOKED, 0, COMM_CHARACTERS + len(_INVOKED))
    start = len(_INVOKED) + at if at >= 0 else len("oom-killer: gfp_mask=")
    if at < 0 and not text.startswith("oom-killer: gfp_mask="):
        return None
    found = _HEADER.fullmatch(text.rstrip(), start)
    if found is None:
        return None
    order, value = found["order"], found["value"]
    comm = text[: max(at, 0)]
    if not fits_comm(comm):  # what stands in front of it is not known
        comm = ""
    return Invoker(
        comm,
        None,
        found["gfp_mask"],
        int(order or 0),
        None if value is None else int(value),
        "oom_score_adj=" in text,
    )


def _parse_choice(text: str) -> Choice | None:
    """Parse `Out of memory: Kill process 7 (name) score 9 or sacrifice child`; None for any other line."""
    head = _CHOICE.match(text)
    marker = ") score "
    end = text.rfind(marker)
    if head is None or not head.end() <= end <= head.end() + COMM_CHARACTERS:
        return None
    comm, score = text[head.end() : end], _SCORE.fullmatch(text, end + len(marker))
    if score is None or not fits_comm(comm):
        return None
    return Choice(int(head["pid"]), comm, int(score[1]), head["message"] or "")


def _is_panic(text: str) -> bool:
    return text.startswith(_PANIC) and any(
        words in text for words in ("out of memory", "Out of memory", "deadlocked on memory")
    )


def _is_without_victim(text: str) -> bool:
    if text.startswith("Out of memory and no killable processes"):
        return True
    return _EXITING.match(text) is not None and ") is already exiting" in text


def _take_cpu(fields: dict[str, object], text: str) -> None:
    """Add the kernel's release, which follows the last word about taint, and the pid of the invoker."""
    text = text[:_CPU_LENGTH]
    head = _CPU.match(text)
    if head is None or "release" in fields:
        return
    taint = max(text.rfind("Not tainted"), text.rfind("Tainted: "), head.end())
    for word in text[taint:].split():
        release = _RELEASE.match(word)
        if release is not None:
            fields["release"] = release[1]
            invoker = fields.get("invoker")
            if isinstance(invoker, Invoker):
                comm = invoker.comm or _KDUMP.sub("", text[head.end() : taint]).removesuffix(" ")
                fields["invoker"] = invoker._replace(
                    pid=int(head["pid"]), comm=comm if fits_comm(comm) else ""
                )
            return


def _is_worth_telling(draft: _Draft) -> bool:
    """Return whether it is more than a fragment of a table, which means nothing alone."""
    return bool(
        draft.kills or draft.context or draft.choice or "invoker" in draft.fields or "ending" in draft.fields
    )


def _take_memory(draft: _Draft, text: str) -> None:
    if text[:1].isupper() and (zone := _ZONE.match(text)) is not None:
        node, size = int(zone[1] or 0), _MANAGED.search(text) or _PRESENT.search(text)
        if size is not None and (node in draft.nodes_kib or len(draft.nodes_kib) < _NODES_LIMIT):
            draft.nodes_kib[node] = draft.nodes_kib.get(node, 0) + int(size[1])
        if len(draft.zones) < _NODES_LIMIT:
            draft.zones.append(Zone(node, zone[2], int(zone[3]), int(zone[4])))
    elif text.startswith("Node "):
        if (buddies := _BUDDIES.match(text)) is not None:
            draft.memory["page_kib"] = max(int(buddies[1]), 1)
        elif (huge := _HUGE.match(text)) is not None:
            draft.huge_kib += int(huge[1]) * int(huge[2])
    elif text[:1].isdigit():
        if (pages := _PAGES.match(text)) is not None:
            draft.memory["ram_pages" if pages[2] == "RAM" else "reserved_pages"] = int(pages[1])
    elif text.startswith(("Free swap", "Total swap")):
        if (swap := _SWAP.match(text)) is not None:
            draft.memory["swap_free_kib" if swap[1] == "Free" else "swap_total_kib"] = int(swap[2])
    elif not draft.nodes_kib and len(draft.pages) < _COUNTERS_LIMIT:
        for name, count in islice(_COUNTER.findall(text), _COUNTERS_LIMIT):
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
