"""What the kernel reports when it is out of memory: who asked, what there was, who could be taken, who was.

Whatever a kernel does not print, or a log has lost, is None, or empty.
"""

from typing import NamedTuple

from oomguard.core.oom_kill import Constraint, Context, Kill


class Invoker(NamedTuple):
    """Who asked for memory when there was none. It need not be the one that dies."""

    comm: str
    pid: int | None
    gfp_mask: str
    order: int
    oom_score_adj: int | None

    @property
    def is_sysrq(self) -> bool:
        """Whether it was no allocation, but somebody at the keyboard (drivers/tty/sysrq.c:moom_callback)."""
        return self.order == -1


class Task(NamedTuple):
    """A row of the task table: who could have been taken. In pages, but for `page_table_bytes`."""

    pid: int
    uid: int
    comm: str
    total_vm: int
    rss: int
    swap: int
    page_tables: int
    oom_score_adj: int


class Choice(NamedTuple):
    """Whom the kernel had chosen, as it said before 5.1; it then killed that one or a child."""

    pid: int
    comm: str
    score: int


class Amount(NamedTuple):
    """What a memory cgroup held of what it may hold. Without a limit, `limit_kib` is None."""

    usage_kib: int
    limit_kib: int | None


class Memory(NamedTuple):
    """What memory looked like. None is what the report does not say.

    `pages` are the kernel's counters of the whole host; `cgroup` are those of the cgroup: `memory`, `swap`
    (version 2), `memory+swap` (version 1), `kmem`. `nodes_kib` is what each memory node has in all.
    """

    page_kib: int = 4
    ram_pages: int | None = None
    reserved_pages: int | None = None
    swap_total_kib: int | None = None
    swap_free_kib: int | None = None
    pages: "dict[str, int]" = {}  # noqa: RUF012 - never written to
    cgroup: "dict[str, Amount]" = {}  # noqa: RUF012
    nodes_kib: "dict[int, int]" = {}  # noqa: RUF012

    @property
    def total_pages(self) -> int | None:
        """The RAM that the kernel manages, which is what it reckons with."""
        if self.ram_pages is None:
            return None
        return self.ram_pages - (self.reserved_pages or 0)


class Report(NamedTuple):
    """One time that memory ran out.

    `kills` are in order; more than one died with `memory.oom.group`, whose cgroup is `group`. `ending` is
    what happened if nobody was killed. `suppressed` is how many reports the kernel left out before this one.
    `rows_left_out` is how many rows the table had beyond those that are kept.
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
    memory: Memory = Memory()
    columns: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ()
    rows_left_out: int = 0
    choice: Choice | None = None
    kills: tuple[Kill, ...] = ()
    group: str = ""
    reaped: int = 0
    ending: str = ""
    suppressed: int = 0

    @property
    def victim(self) -> Kill | None:
        """The first that died."""
        return self.kills[0] if self.kills else None

    @property
    def is_large(self) -> bool:
        """Whether it is more than a line of a kill."""
        return bool(self.tasks) or len(self.kills) > 1

    @property
    def has_oom_adj(self) -> bool:
        """Whether values are those of oom_adj, -17 to 15, of before 2.6.36."""
        return "oom_adj" in self.columns and "oom_score_adj" not in self.columns
