"""What the kernel reports when memory runs out: the allocation, memory, the candidates, and the victims.

What a kernel does not print, or a log has lost, is None or empty.
"""

from typing import NamedTuple

from oomguard.core.choices import Constraint
from oomguard.oom.kill import Context, Kill
from oomguard.oom.other_killer import OtherKill


class Invoker(NamedTuple):
    """The process that asked for memory. It is not always the one that is killed."""

    comm: str
    pid: int | None
    gfp_mask: str
    order: int | None
    oom_score_adj: int | None
    has_oom_score_adj: bool = False
    """Whether the value is that, and not oom_adj of before 2.6.36."""
    nodes: str = ""
    """The memory nodes of the memory policy, which 4.10 to 4.20 print; "" without one."""


class Task(NamedTuple):
    """A row of the task table: a candidate. Sizes are in pages."""

    pid: int
    uid: int
    comm: str
    total_vm: int
    rss: int
    swap: int
    page_tables: int
    oom_score_adj: int


class Choice(NamedTuple):
    """The process that the kernel chose, as it printed before 5.1; it then killed that one or a child.

    `message` is the beginning of the line. From the `oom-kill:` line of newer kernels, `score` is None.
    """

    pid: int
    comm: str
    score: int | None = None
    message: str = ""


class Amount(NamedTuple):
    """The usage and limit of a memory cgroup. Without a limit, `limit_kib` is None."""

    usage_kib: int
    limit_kib: int | None


class Zone(NamedTuple):
    """A zone of a memory node: its free memory, and the minimum that only the kernel's own needs may use."""

    node: int
    name: str
    free_kib: int
    min_kib: int


class Memory(NamedTuple):
    """The state of memory. Missing values are None.

    `pages` are the kernel's counters of the whole host; `cgroup` are those of the cgroup: `memory`, `swap`
    (version 2), `memory+swap` (version 1), `kmem`. `nodes_kib` is what each memory node has, the
    kernel's own part included (node_present_pages), `managed_kib` what all have without it, `huge_kib`
    what is set aside as huge pages. `held_kib` is what the cgroup holds besides its processes: `shmem`,
    `slab_unreclaimable`. `page_kib` is a guess unless `knows_page`.
    """

    page_kib: int = 4
    ram_pages: int | None = None
    reserved_pages: int | None = None
    swap_total_kib: int | None = None
    swap_free_kib: int | None = None
    pages: dict[str, int] = {}  # noqa: RUF012 - never written to
    cgroup: dict[str, Amount] = {}  # noqa: RUF012
    nodes_kib: dict[int, int] = {}  # noqa: RUF012
    managed_kib: int = 0
    zones: tuple[Zone, ...] = ()
    huge_kib: int = 0
    held_kib: dict[str, int] = {}  # noqa: RUF012
    knows_page: bool = False

    @property
    def total_pages(self) -> int | None:
        """The RAM that the kernel manages, from which it computes badness.

        Kernels around 4.1 subtract the pages of CMA from the reserved ones, which do not have them
        (lib/show_mem.c). So the zones count, if they are all there.
        """
        if self.ram_pages is None:
            return None
        if self.managed_kib and sum(self.nodes_kib.values()) == self.ram_pages * self.page_kib:
            return self.managed_kib // self.page_kib
        reserved = self.reserved_pages or 0
        if reserved > self.ram_pages:  # below zero, printed without a sign
            reserved -= 1 << (32 if reserved >> 32 == 0 else 64)
        return self.ram_pages - reserved

    @property
    def reached(self) -> str:
        """Which limit in `cgroup` was reached, by its name: the one of which least is left; "" if unknown."""
        left = {
            name: one.limit_kib - one.usage_kib
            for name, one in self.cgroup.items()
            if one.limit_kib is not None and name != "swap"  # at that one, the kernel only stops to swap
        }
        return min(left, key=left.__getitem__, default="")


UNKNOWN_MEMORY = Memory()


class Report(NamedTuple):
    """A report of the OOM killer.

    `kills` are in order; there is more than one with `memory.oom.group`, whose cgroup is `group`. `ending` is
    what happened if nothing was killed. `is_manual` is whether SysRq-f was logged before. `suppressed` is how
    many reports the kernel left out before this one, `rows_left_out` how many rows the table had beyond those
    that are kept, `rows_unread` how many of it are garbled. `stack` has the functions of the call trace that
    show what ran out.
    """

    when: str = ""
    uptime_seconds: float | None = None
    host: str = ""
    release: str = ""
    invoker: Invoker | None = None
    constraint: Constraint | None = None
    context: Context | None = None
    oom_memcg: str = ""
    task_memcg: str = ""
    nodes: str = ""
    memory: Memory = UNKNOWN_MEMORY
    columns: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ()
    rows_left_out: int = 0
    rows_unread: int = 0
    choice: Choice | None = None
    kills: tuple[Kill, ...] = ()
    group: str = ""
    ending: str = ""
    is_manual: bool = False
    is_mixed: bool = False
    """Whether lines of another report may be among its own, so that it has only what is certain."""
    suppressed: int = 0
    stack: tuple[str, ...] = ()
    other: OtherKill | None = None
    """What another program says that it killed: then nothing else is of the kernel."""
    raw: str = ""
    """The lines of the log that it was read from, if they were asked for."""

    @property
    def chosen(self) -> Choice | None:
        """The process that the kernel chose, by the line of any kernel."""
        if self.choice is None and self.context is not None:
            return Choice(self.context.pid, self.context.comm)
        return self.choice

    @property
    def victim(self) -> Kill | None:
        """The first process that was killed."""
        return self.kills[0] if self.kills else None

    @property
    def message(self) -> str:
        """The beginning of the line of the kill, or of the choice: what ran out, "" if neither says it."""
        message = self.kills[0].message if self.kills else ""
        return message or ("" if self.choice is None else self.choice.message)

    @property
    def is_sysrq(self) -> bool:
        """Whether it was not an allocation but SysRq-f (drivers/tty/sysrq.c:moom_callback).

        Since 4.2 the order is -1; before, only the line about the key shows it. Masks have names since 4.6.
        """
        invoker = self.invoker
        if invoker is None or invoker.order is None:
            return self.is_manual
        return invoker.order == -1 or (self.is_manual and "(" not in invoker.gfp_mask)

    @property
    def is_bare(self) -> bool:
        """Whether it is only the line of a kill or of a choice, as in a storm, or as `grep` leaves it."""
        return (
            not (self.tasks or self.columns or self.stack or self.ending or self.suppressed)
            and len(self.kills) <= 1
            and self.invoker is None
            and not (self.release or self.group or self.is_mixed)
            and self.other is None
            and self.memory is UNKNOWN_MEMORY
        )

    @property
    def is_large(self) -> bool:
        """Whether it has a table or several victims: too much to keep many of."""
        return bool(self.tasks) or len(self.kills) > 1

    @property
    def has_oom_adj(self) -> bool:
        """Whether values are those of oom_adj, -17 to 15, of before 2.6.36."""
        return "oom_adj" in self.columns and "oom_score_adj" not in self.columns

    @property
    def has_oom_score_adj(self) -> bool:
        """Whether the kernel knows oom_score_adj, as all do since 2.6.36."""
        invoker = self.invoker
        return "oom_score_adj" in self.columns or (invoker is not None and invoker.has_oom_score_adj)
