"""Assembles the kernel's lines to a report for each time that memory ran out.

Kernels since 2.6.18 differ in what they print and in which order. Other lines may be in between, and the
beginning or the end may be missing: a report has whatever is there.
"""

import re
from collections.abc import Callable

from oomguard.oom.draft import Draft
from oomguard.oom.garbled import is_garbled_kill
from oomguard.oom.kill import (
    CONTEXT,
    Context,
    Kill,
    is_within,
    names_process,
    parse_constraint,
    parse_context,
    parse_group,
    parse_kill,
    parse_limit,
)
from oomguard.oom.log_line import Line, begins_message
from oomguard.oom.log_time import is_near
from oomguard.oom.other_killer import OtherKill
from oomguard.oom.report import Amount, Choice, Report, Task
from oomguard.oom.report_lines import (
    CPU_LENGTH,
    is_panic,
    is_without_victim,
    parse_choice,
    parse_columns,
    parse_header,
    row_pattern,
    take_cpu,
    task_maker,
)

_VALUE_MOST = 1000
TASKS_LIMIT = 25_000
"""Rows of one table that are kept, of which each takes 350 bytes; further ones are counted."""
_AMOUNT = re.compile(r"(memory|memory\+swap|swap|kmem): usage (\d{1,20})kB, limit (\d{1,20})kB")
_HELD = re.compile(
    r"\A(shmem|slab_unreclaimable) (\d{1,20})\Z|\AMemory cgroup stats for .*?: cache:\d.*? shmem:(\d{1,20})KB"
)
_REAPED = re.compile(r"oom_reaper: reaped process (\d{1,10}) ")
_SUPPRESSED = re.compile(r"(?:oom_kill_process|dump_header|out_of_memory): (\d{1,12}) callbacks suppressed")
_STACK = re.compile(
    r"(?<![\w.])(mem_cgroup_out_of_memory|mem_cgroup_oom_synchronize|pagefault_out_of_memory)(?:\+0x| from )"
)
_GARBLED_ROW = re.compile(r"\[ *[\doOIl|]{1,10}\](?: +\S{1,20}){4}")
_NODE_LIST = re.compile(r"[\d,-]{1,200}")
_UNLIMITED_KIB = 1 << 52
"""A limit above this is none: PAGE_COUNTER_MAX is about 2^53 KiB for any page size."""
_STACK_LIMIT, _VICTIMS_LIMIT = 8, 64


class Assembler:
    """Assembles the lines of one host. A report is complete when the next begins, or at the end.

    Lines of other parts of the kernel may be in between.
    """

    def __init__(self) -> None:
        self._draft: Draft | None = None
        self.row: re.Pattern[str] | None = None
        self.row_line: re.Pattern[str] | None = None
        """Match a row of the task table, and one with the end of its line; None before its heading."""
        self._make: Callable[[tuple[str, ...]], Task] | None = None
        self._suppressed = 0
        self._manual: Line | None = None
        """The line about SysRq-f that no report followed yet."""
        self._killed: tuple[Line, str] | None = None
        """The line of the last kill, and the victim's cgroup."""
        self._victims: dict[int, tuple[Kill, Line]] = {}
        self.is_used = True
        """Whether the last line that names a kill was understood."""
        self.quiet = 0
        """Lines since the last that belonged to the report."""

    @property
    def is_reading(self) -> bool:
        """Whether a report has begun and shows no kill yet: every line may be part of it."""
        return self._draft is not None and not self._draft.ended

    def explains(self, line: Line, other: OtherKill) -> bool:
        """Return whether the last kill is the one that another program reports."""
        killed = self._killed
        if killed is None:
            return False
        return is_near(killed[0], line) and (not killed[1] or other.may_be_in(killed[1]))

    def name_host(self, host: str) -> None:
        """Set the host of the unfinished report."""
        if self._draft is not None:
            self._draft.fields["host"] = host

    @property
    def size(self) -> int:
        """How many rows and victims the unfinished report has."""
        draft = self._draft
        return 0 if draft is None else len(draft.tasks) + len(draft.kills)

    def feed(self, line: Line) -> Report | None:
        """Add a line; return the previous report if the line begins another one."""
        text = line.text
        self.is_used = True
        if text.startswith(" ") and begins_message(text.lstrip(" ")):  # some put two spaces behind the prefix
            text = text.lstrip(" ")
            line = line._replace(text=text)
        if text.startswith("[") and self.row is not None:
            if (row := self.row.fullmatch(text)) is not None:
                self.add_tasks([row.groups()])
                return None
            if _GARBLED_ROW.match(text) is not None and self._draft is not None:
                self._draft.rows_unread += 1
        if "oom-killer:" in text and (invoker := parse_header(text)) is not None:
            if self._draft is not None and self._draft.last == line and line.uptime_seconds is not None:
                return None  # somebody put it in front of the log
            draft, finished = self._begin(line, is_header=True)
            draft.fields |= {"invoker": invoker, "nodes": invoker.nodes}
            return finished
        if names_process(text):
            return self._take_victim(line)
        if text.startswith(CONTEXT):
            return self._take_context(line)
        if is_garbled_kill(text):
            self.is_used = False
            return None
        if text.startswith("["):
            return self._take_heading(line) if "total_vm" in text else None
        if "+0x" in text and (found := _STACK.search(text, 0, CPU_LENGTH)) is not None:
            if self._draft is not None and len(self._draft.stack) < _STACK_LIMIT:
                self._draft.stack.append(found[1])
            return None
        memory = None if self._draft is None or self._draft.ended else self._draft.memory
        if memory is not None and memory.is_open and memory.take(text):
            self.quiet += 1
            return None
        if text.startswith(" "):
            return None  # the stack
        return self._take_words(line)

    def keep(self, raw: str, limit: int) -> None:
        """Add lines of the log to the unfinished report as they are, up to so many characters of them."""
        draft = self._draft
        if draft is not None and draft.raw_length < limit:
            draft.raw.append(raw[: limit - draft.raw_length])
            draft.raw_length += len(draft.raw[-1])

    def finish(self) -> Report | None:
        """Return the unfinished report, None if there is none."""
        draft, self._draft = self._draft, None
        self.row = self.row_line = None
        return draft.finished() if draft is not None and draft.is_worth_telling else None

    def _take_words(self, line: Line) -> Report | None:
        text, draft, finished = line.text, self._draft, None
        if (has_ended := is_panic(text)) or is_without_victim(text):
            if not has_ended and draft is not None and draft.can_pass_over(line):
                return None
            draft, finished = self._go_on(line)
            if has_ended or not draft.fields.get("ending"):
                draft.fields["ending"] = text.strip()
            draft.ended = has_ended
        elif text.endswith(": Manual OOM execution"):
            self._manual = line
        elif (suppressed := _SUPPRESSED.match(text)) is not None:
            self._suppressed += int(suppressed[1])
        elif (limit := parse_limit(text)) is not None:
            draft, finished = self._go_on(line)
            task, oom = limit
            oom = "" if task.startswith(oom) and not is_within(task, oom) else oom  # the line is cut
            draft.is_mixed |= draft.fields.get("oom_memcg", oom) != oom
            draft.fields |= {"constraint": "memcg", "oom_memcg": oom, "task_memcg": task}
        elif (reaped := _REAPED.match(text)) is not None:
            chosen = None if draft is None else draft.choice or draft.context
            pids = set() if draft is None else {*draft.kills, *(() if chosen is None else (chosen.pid,))}
            self.is_used = int(reaped[1]) in pids
        elif text.startswith("memory: usage "):
            draft, finished = self._go_on(line)
            self._take_detail(draft, text)
        elif draft is not None:
            self._take_detail(draft, text)
        return finished

    # Beginnings

    def _begin(self, line: Line, *, is_header: bool = False) -> tuple[Draft, Report | None]:
        """Begin a report, and return it with the previous one."""
        before = self._draft
        is_over = before is not None and is_header and before.is_over and not before.follows_open
        if before is not None and (is_over or not is_near(before.last, line)):
            before = None  # its lines have ended
        finished = self.finish()
        self._draft = draft = Draft(line, before)
        self.quiet = 0
        if self._suppressed:
            draft.fields["suppressed"] = self._suppressed
            self._suppressed = 0
        if self._manual is not None:
            draft.fields["is_manual"] = is_near(self._manual, line)
            self._manual = None
        return draft, finished

    def _go_on(self, line: Line, *, is_other: bool = False) -> tuple[Draft, Report | None]:
        """Return the report that a line belongs to: a new one if there is none, or the line `is_other`'s."""
        draft = self._draft
        if draft is None or draft.ended or is_other or not draft.is_near(line):
            return self._begin(line)
        return draft, None

    def _go_on_about(self, chosen: Context | Choice, line: Line) -> tuple[Draft, Report | None]:
        """Return the report of which that process was chosen, also if the line of its kill came first."""
        draft = self._draft
        if draft is not None and draft.was_killed(chosen.pid, line):
            return draft, None
        return self._go_on(line, is_other=draft is not None and not draft.can_take(chosen))

    def _take_heading(self, line: Line) -> Report | None:
        columns = parse_columns(line.text)
        if not columns:
            return None
        draft, finished = self._go_on(line, is_other=self._draft is not None and self._draft.has_tasks)
        draft.has_tasks = True
        draft.fields["columns"] = columns
        if draft.memory is not None:
            draft.memory.is_open = False
        self.row = re.compile(row_pattern(columns), re.DOTALL)
        self.row_line = re.compile(rf"{row_pattern(columns)}(?<!\r)\n")
        self._make = task_maker(columns, (draft.memory and draft.memory.page_kib) or 4)
        return finished

    # Parts

    def add_tasks(self, rows: list[tuple[str, ...]]) -> None:
        """Add the fields of rows that `row` or `row_line` matched."""
        draft, make = self._draft, self._make
        if draft is None or make is None:
            return
        self.quiet = 0
        room = TASKS_LIMIT - len(draft.tasks)
        draft.rows_left_out += max(len(rows) - room, 0)
        draft.tasks += [
            task
            for task in map(make, rows[:room])
            if task.rss >= 0 and -_VALUE_MOST <= task.oom_score_adj <= _VALUE_MOST
        ]

    def _take_context(self, line: Line) -> Report | None:
        """Add what a line says; if its end is missing, its kill may follow."""
        draft: Draft | None
        if (context := parse_context(line.text)) is not None:
            draft, finished = self._go_on_about(context, line)
            draft.take_context(context)
            return finished
        draft, is_joined = self._draft, "-rss:" in line.text  # with the end of another line
        is_known = draft is not None and not draft.ended and draft.is_worth_telling
        self.is_used = is_known and ",uid=" not in line.text and not is_joined
        limited = parse_constraint(line.text)
        if limited is None or is_joined:
            return None
        draft, finished = self._go_on(line)
        if draft.context is None:
            draft.fields |= {"constraint": limited[0], "nodes": limited[1]}
            self.is_used = True
        return finished

    def _take_victim(self, line: Line) -> Report | None:
        draft, finished = self._draft, None
        kill = parse_kill(line.text)
        if kill is not None:
            if draft is not None and not draft.is_near(line):
                draft = None
            if draft is not None and (known := draft.kills.get(kill.pid)) is not None:
                if known.comm == kill.comm:
                    return None  # memory.oom.group prints the first one twice
                draft = None
            if draft is None or not draft.can_kill(kill):
                if (draft is None or draft.ended) and self._is_told(kill, line):
                    return None
                draft, finished = self._begin(line)
            draft.add_kill(kill, line)
            self._victims[kill.pid] = (kill, line)
            self._killed = (line, str(draft.fields.get("task_memcg") or ""))
        elif (choice := parse_choice(line.text)) is not None:
            draft, finished = self._go_on_about(choice, line)
            draft.choice = choice
        else:
            self.is_used = False
        return finished

    def _is_told(self, kill: Kill, line: Line) -> bool:
        """Return whether the same kill was told shortly before: a group's first one is printed twice."""
        if len(self._victims) >= _VICTIMS_LIMIT:
            self._victims.clear()
        told = self._victims.get(kill.pid)
        return (
            told is not None and told[0] == kill and kill.total_vm_kib is not None and is_near(told[1], line)
        )

    def _take_detail(self, draft: Draft, text: str) -> None:
        self.quiet += 1
        fields = draft.fields
        if (group := parse_group(text)) is not None:
            fields["group"] = group
        elif draft.ended:
            return
        elif text.startswith(("Mem-Info:", "Mem-info:")):
            draft.need_memory().is_open = True
        elif (amount := _AMOUNT.match(text)) is not None:
            limit = int(amount[3])
            amounts = draft.need_memory().cgroup
            amounts[amount[1]] = Amount(int(amount[2]), None if limit >= _UNLIMITED_KIB else limit)
        elif (held := _HELD.search(text, 0, CPU_LENGTH)) is not None and draft.memory is not None:
            kib = int(held[2]) // 1024 if held[1] else int(held[3])  # a cgroup of version 1 has a line each
            name = held[1] or "shmem"
            draft.memory.held_kib[name] = draft.memory.held_kib.get(name, 0) + kib
        elif text.startswith(("CPU: ", "Pid: ", "PID: ")):
            take_cpu(fields, text)
        elif " mems_allowed=" in text:
            before, _, nodes = text.rpartition(" mems_allowed=")
            if " cpuset=" in before and _NODE_LIST.fullmatch(nodes.rstrip()):
                fields["nodes"] = fields.get("nodes") or nodes.rstrip()
